// NVRTC failing at every call, through a fake table.
#include <doctest/doctest.h>

#include "codegen/nvrtc_compiler.h"
#include "tests/codegen/fake_nvrtc.h"
#include "tests/codegen/nvrtc_fixture.h"
#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

NvrtcCompiler fake_compiler() { return {NvrtcLibrary(FakeNvrtc::table(), "fake.so"), TemplateSet::embedded()}; }

TEST_CASE("a healthy NVRTC compiles with exactly the promised name, options and headers") {
  FakeNvrtc& fake = FakeNvrtc::fresh();
  NvrtcCompiler compiler = fake_compiler();
  KernelSpec spec = small_kernel("");
  spec.source = "#include <gdnjit/dtype.h>\n" + spec.source;
  const CompileResult result = compiler.compile(spec);
  REQUIRE(std::holds_alternative<CompiledKernel>(result));
  CHECK(std::get<CompiledKernel>(result).ptx == fake.ptx);
  CHECK(std::get<CompiledKernel>(result).cubin.size() == 5);
  CHECK(std::get<CompiledKernel>(result).report.registers == 0);  // an unknown log is not an error
  CHECK(fake.last_name == "test_small.cu");
  CHECK(fake.last_options == compile_options(spec));
  CHECK(fake.last_headers == std::vector<std::string>{"gdnjit/dtype.h"});
  CHECK(fake.live_programs == 0);
}

TEST_CASE("an older NVRTC is not given the options that it does not know") {
  const struct {
    int major, minor;
    bool knows_minimal, knows_quick;
  } versions[] = {{12, 0, false, false}, {12, 3, false, false}, {12, 4, true, false},
                  {12, 8, true, false},  {12, 9, true, true},   {13, 0, true, true}};
  for (const auto& version : versions) {
    CAPTURE(version.major);
    CAPTURE(version.minor);
    FakeNvrtc& fake = FakeNvrtc::fresh();
    fake.major = version.major;
    fake.minor = version.minor;
    NvrtcCompiler compiler = fake_compiler();
    KernelSpec spec = small_kernel("");
    spec.quick_compile = true;
    REQUIRE(std::holds_alternative<CompiledKernel>(compiler.compile(spec)));
    std::vector<std::string> expected = compile_options(spec);
    if (!version.knows_minimal) CHECK(std::erase(expected, kMinimalOption.text) == 1);
    if (!version.knows_quick) CHECK(std::erase(expected, kQuickOption.text) == 1);
    CHECK(fake.last_options == expected);
  }
}

TEST_CASE("every failing function is an error that says what was being done, and no program leaks") {
  for (const char* member : {"create_program", "compile_program", "get_ptx_size", "get_ptx", "get_cubin_size",
                             "get_cubin", "get_log_size", "get_log"}) {
    CAPTURE(member);
    FakeNvrtc& fake = FakeNvrtc::fresh();
    fake.failing = member;
    NvrtcCompiler compiler = fake_compiler();
    const Error error = error_of([&] { compiler.compile(small_kernel("")); });
    CHECK(error.code() == ErrorCode::compile_failed);
    CHECK(says(error, "compiling test.small for sm_90a with NVRTC 13.0 (fake.so): NVRTC_FAKE_ERROR"));
    CHECK(fake.live_programs == 0);
  }
  FakeNvrtc::fresh().failing = "destroy_program";
  NvrtcCompiler compiler = fake_compiler();
  CHECK_NOTHROW(compiler.compile(small_kernel("")));
  FakeNvrtc::fresh().failing = "version";
  CHECK(error_of([] { fake_compiler(); }).code() == ErrorCode::nvrtc_missing);
}

TEST_CASE("errors that the user can mend have their own codes and remedies") {
  struct Expected {
    int error;
    ErrorCode code;
    const char* remedy;
  };
  for (const Expected& expected : {Expected{kNvrtcOutOfMemory, ErrorCode::out_of_memory, "compile threads"},
                                   Expected{kNvrtcInvalidOption, ErrorCode::unsupported, "install a newer one"},
                                   Expected{kNvrtcBuiltinFailure, ErrorCode::nvrtc_missing, "libnvrtc-builtins.so"}}) {
    FakeNvrtc& fake = FakeNvrtc::fresh();
    fake.failing = "compile_program";
    fake.error = expected.error;
    NvrtcCompiler compiler = fake_compiler();
    const Error error = error_of([&] { compiler.compile(small_kernel("")); });
    CHECK(error.code() == expected.code);
    CHECK(says(error, expected.remedy));
    CHECK(fake.live_programs == 0);
  }
}

TEST_CASE("an error of NVRTC while it reports a refused option does not hide the option's error") {
  FakeNvrtc& fake = FakeNvrtc::fresh();
  NvrtcTable table = FakeNvrtc::table();
  table.compile_program = [](void*, int, const char* const*) { return kNvrtcInvalidOption; };
  fake.failing = "get_log_size";
  NvrtcCompiler compiler({table, "fake.so"}, TemplateSet::embedded());
  CHECK(error_of([&] { compiler.compile(small_kernel("")); }).code() == ErrorCode::unsupported);
  CHECK(fake.live_programs == 0);
}

TEST_CASE("refused source is a value even if NVRTC gives no reason") {
  FakeNvrtc& fake = FakeNvrtc::fresh();
  fake.failing = "compile_program";
  fake.error = kNvrtcCompilation;
  NvrtcCompiler compiler = fake_compiler();
  const CompileResult result = compiler.compile(small_kernel(""));
  REQUIRE(std::holds_alternative<CompileFailure>(result));
  CHECK(std::get<CompileFailure>(result).first_error == "NVRTC refused the source without a reason");
}

TEST_CASE("the build number is asked for once, and a failure is not remembered") {
  FakeNvrtc& fake = FakeNvrtc::fresh();
  fake.ptx = ".global .u32 gdnjit_build = 57;\n";
  NvrtcCompiler compiler = fake_compiler();
  fake.failing = "compile_program";
  CHECK(error_of([&] { compiler.toolchain(); }).code() == ErrorCode::compile_failed);
  fake.error = kNvrtcCompilation;
  CHECK(error_of([&] { compiler.toolchain(); }).code() == ErrorCode::nvrtc_missing);
  fake.failing = "";
  CHECK(compiler.toolchain() == "nvrtc 13.0.57");
  const int calls = fake.calls;
  CHECK(compiler.toolchain() == "nvrtc 13.0.57");
  CHECK(fake.calls == calls);
  CHECK(fake.live_programs == 0);
}

TEST_CASE("PTX without a build number is noticed") {
  FakeNvrtc::fresh().ptx = "nothing";
  NvrtcCompiler compiler = fake_compiler();
  CHECK(error_of([&] { compiler.toolchain(); }).code() == ErrorCode::internal);
}

}  // namespace
}  // namespace gdnjit

#include "codegen/nvrtc_compiler.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <thread>

#include "codegen/registry.h"
#include "tests/codegen/nvrtc_fixture.h"
#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

constexpr const char* kIncrement = "if (threadIdx.x < p.n) p.x[threadIdx.x] += 1.0f;";

struct Machine {
  NvrtcCompiler compiler{machine_nvrtc(), TemplateSet::embedded()};
};

TEST_CASE_FIXTURE(Machine, "the toolchain is named with its build number") {
  const std::string name = compiler.toolchain();
  CAPTURE(name);
  int major = 0;
  int minor = 0;
  int build = 0;
  int length = 0;
  REQUIRE(std::sscanf(name.c_str(), "nvrtc %d.%d.%d%n", &major, &minor, &build, &length) == 3);
  CHECK(length == static_cast<int>(name.size()));
  CHECK(major == compiler.library().major());
  CHECK(minor == compiler.library().minor());
  CHECK(build > 0);
  CHECK(compiler.toolchain() == name);
  // The same number stands in the comment that NVRTC writes above every PTX.
  const std::string release = "V" + name.substr(name.find(' ') + 1);
  CHECK(compiled(compiler, small_kernel(kIncrement)).ptx.find(release) != std::string::npos);
}

TEST_CASE_FIXTURE(Machine, "one compile yields PTX and cubin for every known architecture") {
  for (const std::string& arch : known_architectures()) {
    CAPTURE(arch);
    const CompiledKernel kernel = compiled(compiler, small_kernel(kIncrement, arch));
    CHECK(kernel.ptx.find(".target " + arch) != std::string::npos);
    CHECK(kernel.ptx.find(".entry test_small(") != std::string::npos);
    CHECK(kernel.ptx.back() != '\0');
    REQUIRE(kernel.cubin.size() > 64);
    CHECK(std::to_integer<int>(kernel.cubin[0]) == 0x7f);  // an ELF file
    CHECK(std::to_integer<char>(kernel.cubin[1]) == 'E');
    CHECK(kernel.report.registers > 0);
    CHECK(kernel.milliseconds > 0);
  }
}

TEST_CASE_FIXTURE(Machine, "the report counts registers, shared memory, barriers and no spills") {
  const CompiledKernel kernel = compiled(compiler, small_kernel(R"(
    __shared__ float tile[256];
    tile[threadIdx.x] = p.x[threadIdx.x];
    __syncthreads();
    p.x[threadIdx.x] = tile[127 - threadIdx.x];)"));
  CHECK(kernel.report.registers >= 4);
  CHECK(kernel.report.registers <= 64);
  CHECK(kernel.report.static_shared_bytes == 1024);
  CHECK(kernel.report.barriers == 1);
  CHECK(kernel.report.spill_store_bytes == 0);
  CHECK(kernel.report.spill_load_bytes == 0);
}

TEST_CASE_FIXTURE(Machine, "a kernel that needs more registers than it may have reports spills") {
  KernelSpec spec = small_kernel(R"(
    float a[64];
    #pragma unroll
    for (int i = 0; i < 64; ++i) a[i] = p.x[i * 1024 + threadIdx.x];
    __syncthreads();
    for (int k = 0; k < p.n; ++k) {
      #pragma unroll
      for (int i = 0; i < 64; ++i) a[i] = a[i] * a[(i + 7) % 64] + p.x[k];
    }
    #pragma unroll
    for (int i = 0; i < 64; ++i) p.x[i * 1024 + threadIdx.x] = a[i];)");
  const std::size_t bounds = spec.source.find("__launch_bounds__(128)");
  spec.source.replace(bounds, 22, "__launch_bounds__(1024, 2)");
  const PtxasReport report = compiled(compiler, spec).report;
  CHECK(report.registers <= 32);
  CHECK(report.spill_store_bytes > 0);
  CHECK(report.spill_load_bytes > 0);
  CHECK(report.stack_bytes > 0);
}

TEST_CASE_FIXTURE(Machine, "a failed compile is a value with the first error and its line") {
  const CompileResult result = compiler.compile(small_kernel("\n  p.x[0] = undefined_name;\n  also wrong;"));
  const auto* failure = std::get_if<CompileFailure>(&result);
  REQUIRE(failure != nullptr);
  CHECK(failure->first_error == "test_small.cu(4): error: identifier \"undefined_name\" is undefined");
  CHECK(failure->log.find("also") != std::string::npos);
}

TEST_CASE("an error in a template names the template's file and line") {
  const TemplateSet templates = templates_with({{"test/broken.cuh", "#pragma once\n\nint broken = ;\n"}});
  NvrtcCompiler compiler(machine_nvrtc(), templates);
  KernelSpec spec = small_kernel("");
  spec.source = "#include \"test/broken.cuh\"\n" + spec.source;
  const CompileResult result = compiler.compile(spec);
  REQUIRE(std::holds_alternative<CompileFailure>(result));
  CHECK(std::get<CompileFailure>(result).first_error == "test/broken.cuh(3): error: expected an expression");
}

TEST_CASE_FIXTURE(Machine, "a failed static_assert is the first error, with its text") {
  const CompileResult result =
      compiler.compile(small_kernel("static_assert(sizeof(p) == 1, \"host and device agree\");"));
  REQUIRE(std::holds_alternative<CompileFailure>(result));
  CHECK(std::get<CompileFailure>(result).first_error.find("host and device agree") != std::string::npos);
}

TEST_CASE_FIXTURE(Machine, "source that only ptxas refuses is a failed compile too") {
  const CompileResult result = compiler.compile(small_kernel("asm volatile(\"not.an.instruction;\");"));
  REQUIRE(std::holds_alternative<CompileFailure>(result));
  CHECK(std::get<CompileFailure>(result).first_error.find("ptxas") != std::string::npos);
}

TEST_CASE_FIXTURE(Machine, "a kernel may include templates and the public headers, and nothing else") {
  KernelSpec spec = small_kernel("p.x[0] = gdnjit::dtype_bytes(gdnjit::DType(p.n));");
  spec.source = "#include <gdnjit/dtype.h>\n" + spec.source;
  CHECK(compiled(compiler, spec).report.registers > 0);
  spec.source = "#include <cuda_bf16.h>\n" + spec.source;
  const Error error = error_of([&] { compiler.compile(spec); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  CHECK(std::string(error.what()).find("cuda_bf16.h") != std::string::npos);
}

TEST_CASE_FIXTURE(Machine, "an architecture that NVRTC does not know is an error, not a failed compile") {
  const Error error = error_of([&] { compiler.compile(small_kernel("", "sm_17")); });
  CHECK(error.code() == ErrorCode::unsupported);
  CHECK(std::string(error.what()).find("compiling test.small for sm_17") != std::string::npos);
  CHECK(std::string(error.what()).find("pip install") != std::string::npos);
}

TEST_CASE_FIXTURE(Machine, "source without the promised entry is our own bug") {
  KernelSpec spec = small_kernel("");
  spec.entry = "another_name";
  CHECK(error_of([&] { compiler.compile(spec); }).code() == ErrorCode::internal);
}

TEST_CASE_FIXTURE(Machine, "the option that an old NVRTC is not given changes no byte") {
  NvrtcTable table = machine_nvrtc().functions();
  table.version = [](int* major, int* minor) {
    *major = 12;
    *minor = 3;
    return kNvrtcSuccess;
  };
  NvrtcCompiler old(NvrtcLibrary(table, "an old one"), TemplateSet::embedded());
  const Operator& op = find_operator("gdn.step");
  const FieldMap problem = op.complete({});
  const auto instance =
      op.instantiate(problem, op.default_tiles(problem, DeviceTraits{.arch = "sm_90a"}), Target{"sm_90a"});
  for (KernelSpec spec : {instance->kernels()[0], small_kernel(kIncrement)}) {
    spec.quick_compile = false;
    const CompiledKernel with = compiled(compiler, spec);
    const CompiledKernel without = compiled(old, spec);
    CHECK(with.ptx == without.ptx);
    CHECK(with.cubin == without.cubin);
  }
}

TEST_CASE_FIXTURE(Machine, "equal source gives equal bytes, in one thread and in many") {
  const KernelSpec spec = small_kernel(kIncrement);
  const CompiledKernel first = compiled(compiler, spec);
  std::vector<CompiledKernel> others(4);
  std::vector<std::thread> threads;
  for (CompiledKernel& other : others) threads.emplace_back([&] { other = compiled(compiler, spec); });
  for (std::thread& thread : threads) thread.join();
  others.push_back(compiled(compiler, spec));
  NvrtcCompiler another(machine_nvrtc(), TemplateSet::embedded());
  others.push_back(compiled(another, spec));
  for (const CompiledKernel& other : others) {
    CHECK(other.cubin == first.cubin);
    CHECK(other.ptx == first.ptx);
    CHECK(other.log == first.log);
  }
}

}  // namespace
}  // namespace gdnjit

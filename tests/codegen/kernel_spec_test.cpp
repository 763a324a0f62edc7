#include "codegen/kernel_spec.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <set>
#include <string>

#include "tests/codegen/nvrtc_fixture.h"
#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

TEST_CASE("a target is understood in every usual spelling") {
  for (const std::string& arch : known_architectures()) CHECK(parse_target(arch).arch == arch);
  for (const char* name : {"sm_90a", "sm_90", "sm90", "SM90A", "90a", "90", "9.0", "compute_90"}) {
    CAPTURE(name);
    CHECK(parse_target(name).arch == "sm_90a");
  }
  CHECK(parse_target("8.6").arch == "sm_86");
  CHECK(parse_target("120").arch == "sm_120");
}

TEST_CASE("an unknown target is refused with a suggestion") {
  for (const char* name : {"", "sm_", "sm_75", "sm_9", "sm_80a", "hopper", "sm_1000"}) {
    CAPTURE(name);
    CHECK(error_of([&] { parse_target(name); }).code() == ErrorCode::invalid_argument);
  }
  CHECK(says(error_of([] { parse_target("sm_81"); }), "arch=sm_81: unknown architecture (did you mean 'sm_80'?)"));
}

TEST_CASE("options name the target and nothing of this machine") {
  for (const std::string& arch : known_architectures()) {
    KernelSpec spec;
    spec.target.arch = arch;
    const std::vector<std::string> options = compile_options(spec);
    CHECK(options.front() == "-arch=" + arch);
    for (const std::string& option : options) {
      CHECK(option.find('/') == std::string::npos);
      CHECK(option.find("lineinfo") == std::string::npos);
      CHECK(option != kQuickOption.text);
    }
    spec.quick_compile = true;
    const std::vector<std::string> quick = compile_options(spec);
    CHECK(std::count(quick.begin(), quick.end(), kQuickOption.text) == 1);
    CHECK(quick.size() == options.size() + 1);
  }
}

KernelSpec including_spec() {
  KernelSpec spec = small_kernel("p.x[0] = kOne;");
  spec.source = "#include \"t/one.cuh\"\n" + spec.source;
  return spec;
}

const std::pair<std::string, std::string> kOne{"t/one.cuh", "#include \"t/two.cuh\"\nconstexpr int kOne = 1;\n"};
const std::pair<std::string, std::string> kTwo{"t/two.cuh", "constexpr int kTwo = 2;\n"};

TEST_CASE("every component of a request changes its digest") {
  const TemplateSet templates = templates_with({kOne, kTwo});
  const KernelSpec spec = including_spec();
  std::set<std::string> digests{request_digest(spec, templates).hex()};
  const auto changed = [&](auto&& change) {
    KernelSpec other = spec;
    change(other);
    return digests.insert(request_digest(other, templates).hex()).second;
  };
  CHECK(changed([](KernelSpec& other) { other.operator_name += 'x'; }));
  CHECK(changed([](KernelSpec& other) { other.signature += 'x'; }));
  CHECK(changed([](KernelSpec& other) { other.source += ' '; }));
  CHECK(changed([](KernelSpec& other) { other.entry += 'x'; }));
  CHECK(changed([](KernelSpec& other) { other.target.arch = "sm_80"; }));
  CHECK(changed([](KernelSpec& other) { other.line_info = true; }));
  CHECK(changed([](KernelSpec& other) { other.quick_compile = true; }));
  // The same letters on another side of a border are another request.
  CHECK(changed([](KernelSpec& other) {
    other.signature += other.source.front();
    other.source.erase(0, 1);
  }));
  CHECK(!changed([](KernelSpec&) {}));
}

TEST_CASE("an included template is part of the request, at any depth; one that is not included is not") {
  const KernelSpec spec = including_spec();
  const Digest base = request_digest(spec, templates_with({kOne, kTwo}));
  CHECK(request_digest(spec, templates_with({kOne, kTwo})) == base);
  CHECK(request_digest(spec, templates_with({{kOne.first, kOne.second + " "}, kTwo})) != base);
  CHECK(request_digest(spec, templates_with({kOne, {kTwo.first, kTwo.second + "// note\n"}})) != base);
  CHECK(request_digest(spec, templates_with({kOne, kTwo, {"t/other.cuh", "int other;\n"}})) == base);
  CHECK(request_digest(spec, templates_with({kOne, kTwo, {"gdnjit/dtype.h", "changed\n"}})) == base);
}

TEST_CASE("the key is the request and the toolchain with its build number") {
  const Digest request = request_digest(small_kernel(""), TemplateSet::embedded());
  const Digest other = request_digest(small_kernel(" "), TemplateSet::embedded());
  const Digest key = kernel_key(request, "nvrtc 13.0.88");
  CHECK(kernel_key(request, "nvrtc 13.0.88") == key);
  CHECK(kernel_key(request, "nvrtc 13.0.89") != key);
  CHECK(kernel_key(request, "nvrtc 13.0.8") != key);
  CHECK(kernel_key(other, "nvrtc 13.0.88") != key);
  CHECK(key != request);
}

TEST_CASE("the digest of a call is its kernel's own, or one of all its kernels in order") {
  const Digest one = digest_of("one"), two = digest_of("two");
  CHECK(call_digest(std::array{one}) == one);
  const Digest both = call_digest(std::array{one, two});
  CHECK(both != one);
  CHECK(both != two);
  CHECK(call_digest(std::array{two, one}) != both);
  CHECK(call_digest(std::array{one, two, two}) != both);
}

}  // namespace
}  // namespace gdnjit

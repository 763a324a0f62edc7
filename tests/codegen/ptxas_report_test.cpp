#include "codegen/ptxas_report.h"

#include <doctest/doctest.h>

namespace gdnjit {
namespace {

// Two kernels as ptxas 13.0 reports them: the first with shared memory, the second with spills.
constexpr const char* kTwoKernels = R"(ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'first' for 'sm_90a'
ptxas info    : Function properties for first
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers, used 1 barriers, 512 bytes smem
ptxas info    : Compile time = 10.287 ms
ptxas info    : Compiling entry function 'second' for 'sm_90a'
ptxas info    : Function properties for second
ptxas         .     720 bytes stack frame, 1564 bytes spill stores, 1596 bytes spill loads
ptxas info    : Used 255 registers, used 16 barriers, 720 bytes cumulative stack size, 1024 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 35.846 ms
)";

TEST_CASE("each kernel of a log has its own figures") {
  const auto first = parse_ptxas_report(kTwoKernels, "first");
  REQUIRE(first.has_value());
  CHECK(first->registers == 10);
  CHECK(first->barriers == 1);
  CHECK(first->static_shared_bytes == 512);
  CHECK(first->stack_bytes == 0);
  CHECK(first->spill_store_bytes == 0);
  CHECK(first->spill_load_bytes == 0);
  const auto second = parse_ptxas_report(kTwoKernels, "second");
  REQUIRE(second.has_value());
  CHECK(second->registers == 255);
  CHECK(second->barriers == 16);
  CHECK(second->static_shared_bytes == 1024);
  CHECK(second->stack_bytes == 720);
  CHECK(second->spill_store_bytes == 1564);
  CHECK(second->spill_load_bytes == 1596);
}

TEST_CASE("functions that were not inlined add their stack and spills to their kernel") {
  const auto report = parse_ptxas_report(R"(ptxas info    : Compiling entry function 'k' for 'sm_80'
ptxas info    : Function properties for k
ptxas         .     64 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 23 registers, used 0 barriers, 64 bytes cumulative stack size, 360 bytes cmem[0]
ptxas info    : Compile time = 15.413 ms
ptxas info    : Function properties for _Z5otherPfi
ptxas         .     32 bytes stack frame, 16 bytes spill stores, 12 bytes spill loads
)",
                                         "k");
  REQUIRE(report.has_value());
  CHECK(report->stack_bytes == 96);
  CHECK(report->spill_store_bytes == 20);
  CHECK(report->spill_load_bytes == 20);
  CHECK(report->registers == 23);
  CHECK(report->static_shared_bytes == 0);
}

TEST_CASE("a log that does not speak of the kernel has no report") {
  CHECK(!parse_ptxas_report("", "k").has_value());
  CHECK(!parse_ptxas_report(kTwoKernels, "third").has_value());
  CHECK(!parse_ptxas_report(kTwoKernels, "firs").has_value());
  CHECK(!parse_ptxas_report("ptxas info    : Compiling entry function 'k' for 'sm_80'\n", "k").has_value());
  CHECK(!parse_ptxas_report("ptxas info    : Compiling entry function 'k\nUsed registers\n", "k").has_value());
}

TEST_CASE("odd numbers in a log do no harm") {
  const auto report = parse_ptxas_report(
      "Compiling entry function 'k' for\nUsed 99999999999999999999 registers, used  barriers, x bytes smem\n", "k");
  REQUIRE(report.has_value());
  CHECK(report->registers == 0);
  CHECK(report->barriers == 0);
  CHECK(report->static_shared_bytes == 0);
}

TEST_CASE("a stored log leaves out what differs from run to run") {
  const std::string log = reproducible_log(kTwoKernels);
  CHECK(log.find("Compile time") == std::string::npos);
  CHECK(log.find("Used 10 registers") != std::string::npos);
  CHECK(parse_ptxas_report(log, "second").has_value());
  CHECK(reproducible_log("\n\nptxas info    : Compile time = 1 ms\n") == "");
}

TEST_CASE("the first error is found among warnings, notes and excerpts") {
  CHECK(first_error_of(
            "gdn/step.cuh(3): warning #177-D: variable \"x\" was declared but never referenced\n  int x;\n      "
            "^\n\ngdn/step.cuh(41): error: expected an expression\n  int y = ;\n          ^\n\n"
            "gdn/step.cuh(42): error: another\n\n2 errors detected in the compilation of \"gdn_step.cu\".\n") ==
        "gdn/step.cuh(41): error: expected an expression");
  CHECK(first_error_of("x.cu(1): catastrophic error: cannot open source file \"y.h\"\n") ==
        "x.cu(1): catastrophic error: cannot open source file \"y.h\"");
  CHECK(first_error_of("ptxas fatal   : Unresolved extern function 'f'\n") ==
        "ptxas fatal   : Unresolved extern function 'f'");
  CHECK(first_error_of("ptxas application ptx input, line 33; error   : Not a name of any known instruction: 'not'\n")
            .starts_with("ptxas application ptx input, line 33; error"));
  CHECK(first_error_of("nvrtc: error: invalid value for --gpu-architecture (-arch)\n").starts_with("nvrtc: error"));
  CHECK(first_error_of(kTwoKernels) == "");
}

}  // namespace
}  // namespace gdnjit

// gdnjit_bench: the project's own costs, without a GPU. See docs/performance.md for figures and their targets.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string_view>

#include "tools/bench/fixture.h"

int main(int argc, char** argv) {
  try {
    if (argc == 4 && argv[1] == std::string_view(gdnjit::bench::kColdProcessArgument))
      return gdnjit::bench::run_cold_process(argv[2], argv[3]);
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    gdnjit::bench::register_decode_benchmarks();
    gdnjit::bench::register_prefill_benchmarks();
    gdnjit::bench::register_experts_benchmarks();
    gdnjit::bench::register_few_tokens_benchmarks();
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gdnjit_bench: {}\n", error.what());
    return 1;
  }
}

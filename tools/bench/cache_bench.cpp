// The cache on its own, with a binary of the size of a decode kernel.
#include <string>

#include "cache/kernel_cache.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

constexpr std::size_t kBinaryBytes = 13'000;
constexpr char kSignature[] = "bench.kernel arch=sm_90a";

cache::BinaryRecord record_of(const Digest& key) {
  cache::BinaryRecord record;
  record.key = key;
  record.request = key;
  record.operator_name = "bench.kernel";
  record.signature = kSignature;
  record.arch = "sm_90a";
  record.toolchain = "none 1.0";
  record.entry = "bench_kernel";
  record.source = std::string(2'000, 's');
  record.ptx = std::string(kBinaryBytes, 'p');
  record.cubin.resize(kBinaryBytes);
  return record;
}

Digest key_of(std::uint64_t number) { return digest_of("bench " + std::to_string(number)); }

cache::CacheOptions options_in(const ScratchFolder& folder) {
  cache::CacheOptions options;
  options.directory = folder.path();
  return options;
}

void store(cache::KernelCache& cache, std::uint64_t number) {
  cache.find_or_compile(key_of(number), kSignature, [&] { return record_of(key_of(number)); });
}

void cache_memory_hit(benchmark::State& state) {
  const ScratchFolder scratch;
  cache::KernelCache cache(options_in(scratch));
  store(cache, 0);
  const Digest key = key_of(0);
  for (auto _ : state) benchmark::DoNotOptimize(cache.find(key, kSignature));
}
BENCHMARK(cache_memory_hit);

// Each iteration reads a binary that this process has not seen.
void cache_file_read(benchmark::State& state) {
  constexpr std::uint64_t kRecords = 512;
  const ScratchFolder scratch;
  {
    cache::KernelCache writer(options_in(scratch));
    for (std::uint64_t number = 0; number < kRecords; ++number) store(writer, number);
  }
  cache::KernelCache cache(options_in(scratch));
  std::uint64_t number = 0;
  for (auto _ : state) {
    if (!cache.find(key_of(number++), kSignature)) {
      state.SkipWithError("a stored binary was not found");
      break;
    }
  }
}
BENCHMARK(cache_file_read)->Iterations(500)->Unit(benchmark::kMicrosecond);

void cache_open_and_read(benchmark::State& state) {
  const ScratchFolder scratch;
  {
    cache::KernelCache writer(options_in(scratch));
    store(writer, 0);
  }
  for (auto _ : state) {
    cache::KernelCache cache(options_in(scratch));
    benchmark::DoNotOptimize(cache.find(key_of(0), kSignature));
  }
}
BENCHMARK(cache_open_and_read)->Unit(benchmark::kMicrosecond);

void cache_insert(benchmark::State& state) {
  const ScratchFolder scratch;
  cache::KernelCache cache(options_in(scratch));
  std::uint64_t number = 0;
  for (auto _ : state) store(cache, number++);
}
BENCHMARK(cache_insert)->Iterations(500)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace gdnjit::bench

#include "runtime/emulator/geometry.h"

#include <algorithm>
#include <string>

#include "runtime/emulator/traits.h"
#include "runtime/support/check.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kMaxClusterBlocks = 16;  // with the non-portable sizes
constexpr std::uint64_t kBlockThreads = 1024;
constexpr int kFirstArchWithClusters = 90;

struct Launch {
  const Program& program;
  const DeviceTraits& traits;
  const LaunchGeometry& geometry;

  template <typename... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail(ErrorCode::device_failed, "emulator: launching '{}': {}", program.name,
         fmt::format(format, std::forward<Args>(args)...));
  }
  std::uint64_t threads() const {
    return static_cast<std::uint64_t>(geometry.block[0]) * geometry.block[1] * geometry.block[2];
  }
  std::uint64_t shared_bytes() const {
    return static_cast<std::uint64_t>(program.static_shared_bytes) + geometry.shared_bytes;
  }
};

void check_block(const Launch& launch) {
  const LaunchGeometry& geometry = launch.geometry;
  const std::uint64_t threads = launch.threads();
  if (threads == 0 || geometry.block[2] > 64) launch.refuse("a block of no threads or more than 64 in z");
  const std::uint64_t limit = std::min<std::uint64_t>(launch.program.max_threads, kBlockThreads);
  if (geometry.block[0] > kBlockThreads || geometry.block[1] > kBlockThreads || threads > limit)
    launch.refuse("a block of {} threads; the kernel takes up to {}", threads, limit);
}

void check_grid(const Launch& launch) {
  const LaunchGeometry& geometry = launch.geometry;
  if (geometry.grid[0] == 0 || geometry.grid[1] == 0 || geometry.grid[2] == 0) launch.refuse("a grid of no blocks");
  for (int axis = 0; axis < 3; ++axis) {
    const std::uint32_t limit = axis == 0 ? 0x7fffffffU : 65535U;
    if (geometry.grid[axis] > limit)
      launch.refuse("a grid of {} blocks in dimension {}; the limit is {}", geometry.grid[axis], axis, limit);
    const std::uint32_t required = launch.program.required_block[axis];
    if (required != 0 && required != geometry.block[axis])
      launch.refuse("a block of {} threads in dimension {}; the kernel requires {}", geometry.block[axis], axis,
                    required);
  }
}

void check_cluster(const Launch& launch) {
  const std::uint32_t(&asked)[3] = launch.geometry.cluster;
  if (asked[0] == 0 || asked[1] == 0 || asked[2] == 0) launch.refuse("a cluster of no blocks");
  std::uint32_t size[3];
  const bool clustered = cluster_size(launch.program, launch.geometry, size);
  if (!clustered) return;
  if (arch_number(launch.traits.arch) < kFirstArchWithClusters)
    launch.refuse("clusters; {} has none", launch.traits.arch);
  const std::uint64_t blocks = static_cast<std::uint64_t>(size[0]) * size[1] * size[2];
  if (blocks > kMaxClusterBlocks) launch.refuse("a cluster of {} blocks; the limit is {}", blocks, kMaxClusterBlocks);
  for (int axis = 0; axis < 3; ++axis) {
    if (launch.program.required_cluster[0] != 0 && !std::equal(size, size + 3, asked) &&
        asked[0] * asked[1] * asked[2] != 1) {
      launch.refuse("clusters of {}x{}x{} blocks; the kernel requires {}x{}x{}", asked[0], asked[1], asked[2], size[0],
                    size[1], size[2]);
    }
    if (launch.geometry.grid[axis] % size[axis] != 0)
      launch.refuse("a grid of {} blocks in dimension {}, which clusters of {} do not divide",
                    launch.geometry.grid[axis], axis, size[axis]);
  }
}

void check_shared(const Launch& launch) {
  const std::uint64_t shared = launch.shared_bytes();
  if (shared > static_cast<std::uint64_t>(launch.traits.shared_bytes_per_block)) {
    launch.refuse("{} bytes of shared memory; {} has {} per block", shared, launch.traits.arch,
                  launch.traits.shared_bytes_per_block);
  }
}

// The blocks of a cooperative launch must all be resident. Registers are ptxas's affair and not known here.
void check_cooperative(const Launch& launch) {
  if (!launch.geometry.cooperative) return;
  const DeviceTraits& traits = launch.traits;
  const auto warps = static_cast<int>((launch.threads() + 31) / 32);
  int per_sm = std::min(traits.blocks_per_sm, traits.threads_per_sm / 32 / warps);
  const auto reserved = static_cast<int>(launch.shared_bytes()) + 1024;
  per_sm = std::min(per_sm, traits.shared_bytes_per_sm / reserved);
  const std::uint64_t blocks =
      static_cast<std::uint64_t>(launch.geometry.grid[0]) * launch.geometry.grid[1] * launch.geometry.grid[2];
  const std::uint64_t resident = static_cast<std::uint64_t>(per_sm) * static_cast<std::uint64_t>(traits.sm_count);
  if (blocks > resident)
    launch.refuse("a cooperative grid of {} blocks; {} hold {} at once", blocks, traits.arch, resident);
}

}  // namespace

bool cluster_size(const Program& program, const LaunchGeometry& geometry, std::uint32_t (&size)[3]) {
  const bool required = program.required_cluster[0] != 0;
  std::copy_n(required ? program.required_cluster : geometry.cluster, 3, size);
  return required || geometry.cluster[0] != 1 || geometry.cluster[1] != 1 || geometry.cluster[2] != 1;
}

void check_geometry(const Program& program, const DeviceTraits& traits, const LaunchGeometry& geometry,
                    std::size_t parameter_bytes) {
  const Launch launch{program, traits, geometry};
  check_block(launch);
  check_grid(launch);
  check_cluster(launch);
  check_shared(launch);
  check_cooperative(launch);
  if (parameter_bytes < program.parameter_bytes)
    launch.refuse("{} bytes of parameters; the kernel has {}", parameter_bytes, program.parameter_bytes);
}

}  // namespace gdnjit::emulator

// What one launch did, counted by the emulator. Deterministic, so these are performance tests without a GPU.
#pragma once

#include <cstdint>
#include <string>

namespace gdnjit {

struct LaunchCounters {
  // Warp instructions issued, and lane instructions (active lanes summed) for the total.
  std::uint64_t warp_instructions = 0;
  std::uint64_t lane_instructions = 0;
  // Warp instructions by class.
  std::uint64_t float_arithmetic = 0;
  std::uint64_t integer_arithmetic = 0;
  std::uint64_t special_function = 0;  // ex2, lg2, rsqrt, rcp, sin, cos, tanh
  std::uint64_t conversion = 0;
  std::uint64_t tensor_core = 0;
  std::uint64_t tensor_core_macs = 0;     // multiply-accumulates of mma and wgmma
  std::uint64_t tensor_shared_bytes = 0;  // operands that wgmma reads from shared memory; B once a warpgroup
  std::uint64_t shuffle = 0;
  std::uint64_t control = 0;        // branches, predicates, barriers
  std::uint64_t data_movement = 0;  // mov, ld/st of parameters
  // Global memory: 32-byte sectors touched by each warp access, and bytes asked for by its lanes.
  std::uint64_t global_load_instructions = 0;
  std::uint64_t global_store_instructions = 0;
  std::uint64_t sectors_read = 0;
  std::uint64_t sectors_written = 0;
  std::uint64_t bytes_requested_read = 0;
  std::uint64_t bytes_requested_written = 0;
  // Shared memory: wavefronts needed against the least possible (the difference is bank conflicts).
  std::uint64_t shared_load_instructions = 0;
  std::uint64_t shared_store_instructions = 0;
  std::uint64_t shared_wavefronts = 0;
  std::uint64_t shared_wavefronts_ideal = 0;
  std::uint64_t divergent_branches = 0;
  std::uint64_t block_barriers = 0;
  std::uint64_t blocks = 0;
  std::uint64_t warps = 0;
};

// One named buffer's share of the global traffic. An access that spans buffers counts for the one of its last lane.
struct BufferTraffic {
  std::string name;
  std::uint64_t sectors_read = 0;
  std::uint64_t sectors_written = 0;
};

// What one line of source did in a launch: a line of a template if the kernel was compiled with line information (the
// line of the innermost function, if it was inlined), else a line of its PTX.
struct LineProfile {
  std::string file;  // as the compiler names it; "" for PTX
  int line = 0;
  std::uint64_t warp_instructions = 0;
  std::uint64_t lane_instructions = 0;
  std::uint64_t sectors_read = 0;
  std::uint64_t sectors_written = 0;
  std::uint64_t shared_wavefronts = 0;
  std::uint64_t shared_wavefronts_ideal = 0;
  std::uint64_t tensor_core_macs = 0;
};

}  // namespace gdnjit

// The plan of the grouped product with wgmma: its shared memory, its threads, its parameters. Host code includes this
// file too.
#pragma once

#include "device/tensor_map.cuh"
#include "moe/grouped_config.cuh"

namespace gdnjit::moe {

// Two maps beside the parameters: weights as [E][gate, up][outputs][K] in boxes of 64 x sm90_box_rows().
struct GroupedSm90Params {
  device::TensorMap routed;
  device::TensorMap shared;
  GroupedParams grouped;
};

enum : int { kSm90Rows = 128 };  // of a block of threads

// block_m = 256: two blocks of a cluster have the rows, and each brings half of the weights for both.
constexpr int sm90_cluster(const GroupedConfig& c) { return c.block_m / kSm90Rows; }
// Rows of weights in one copy: of gate or of up, and as many copies as the cluster has blocks at least.
constexpr int sm90_box_rows(const GroupedConfig& c) {
  return c.gates() < sm90_cluster(c) ? c.block_n / sm90_cluster(c) : c.block_n;
}

// Shared memory in order: [stages][inputs, weights], every part at a multiple of 1024 bytes; the mbarriers full[stages]
// and empty[stages].
struct GroupedSm90Plan {
  int in_bytes, weight_bytes, stage_bytes;
  int barriers;
  int shared_bytes;
  int threads = 384;

  constexpr explicit GroupedSm90Plan(const GroupedConfig& c)
      : in_bytes(kSm90Rows * c.in_row_bytes()),
        weight_bytes(c.weight_rows() * c.weight_row_bytes()),
        stage_bytes(in_bytes + weight_bytes),
        barriers(c.stages * stage_bytes),
        shared_bytes(barriers + 16 * c.stages) {}
};

// Why wgmma cannot serve the problem or the tiles, or nullptr.
constexpr const char* sm90_fault(const GroupedConfig& c) {
  const bool bf16 = c.weights == WeightFormat::bf16 && c.in_dtype == DType::bf16;
  const bool f16 = c.weights == WeightFormat::f16 && c.in_dtype == DType::f16;
  if (!bf16 && !f16) return "path=wgmma multiplies bf16 by bf16 and f16 by f16";
  if ((c.block_m != 128 && c.block_m != 256) || c.block_k != 64)
    return "path=wgmma has block_m=128 or 256 and block_k=64";
  if (c.block_n % 16 != 0 || c.block_n < 32 || c.weight_rows() > 256)
    return "block_n must be a multiple of 16 from 32 on, up to 256, with a gate up to 128";
  if (c.warps != 8) return "path=wgmma has 8 warps that multiply";
  if (c.stages < 3 || c.stages > 8) return "path=wgmma has 3 to 8 stages";
  if (c.group_m < 1 || c.group_m > 64) return "group_m must be 1 to 64";
  if (GroupedSm90Plan(c).shared_bytes > kGroupedBytes) return "stages need too much shared memory";
  return nullptr;
}

}  // namespace gdnjit::moe

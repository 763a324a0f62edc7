// The plan of the grouped product with wgmma: its shared memory, its threads, its parameters. Host code includes this
// file too.
#pragma once

#include "device/tensor_map.cuh"
#include "moe/grouped_config.cuh"

namespace gdnjit::moe {

// Two maps beside the parameters: weights as [E][gate, up][outputs][K] in boxes of block_k x sm90_box_rows().
struct GroupedSm90Params {
  device::TensorMap routed;
  device::TensorMap shared;
  GroupedParams grouped;
  QuantizedRows quantized;  // the inputs, if they are in e4m3
};

enum : int { kSm90Rows = 128 };  // of a block of threads

// block_m = 256: two blocks of a cluster have the rows, and each brings half of the weights for both.
constexpr int sm90_cluster(const GroupedConfig& c) { return c.block_m / kSm90Rows; }
// Rows of weights in one copy: of gate or of up, and as many copies as the cluster has blocks at least.
constexpr int sm90_box_rows(const GroupedConfig& c) {
  return c.gates() < sm90_cluster(c) ? c.block_n / sm90_cluster(c) : c.block_n;
}

// e4m3: the sums of 128 numbers of k are scaled and added up apart, in pieces of that many rows of weights. A piece has
// rows of gate or of up, and at most two blocks of weights with a scale each.
constexpr int sm90_piece_rows(const GroupedConfig& c) { return c.block_n > 128 ? 128 : c.block_n; }
constexpr int sm90_pieces(const GroupedConfig& c) { return c.weight_rows() / sm90_piece_rows(c); }

// Shared memory in order: [stages][inputs, weights], every part at a multiple of 1024 bytes; of e4m3
// [stages][scales of the rows, two of each piece of weights]; the mbarriers full[stages] and empty[stages].
struct GroupedSm90Plan {
  int in_bytes, weight_bytes, stage_bytes;
  int scales, scale_bytes;  // of a stage
  int barriers;
  int shared_bytes;
  int threads = 384;

  constexpr explicit GroupedSm90Plan(const GroupedConfig& c)
      : in_bytes(kSm90Rows * c.in_row_bytes()),
        weight_bytes(c.weight_rows() * c.weight_row_bytes()),
        stage_bytes(in_bytes + weight_bytes),
        scales(c.stages * stage_bytes),
        scale_bytes(c.quantized() ? 4 * (kSm90Rows + 4) : 0),
        barriers(scales + c.stages * scale_bytes),
        shared_bytes(barriers + 16 * c.stages) {}
};

// Why wgmma cannot serve the problem or the tiles, or nullptr.
constexpr const char* sm90_fault(const GroupedConfig& c) {
  const bool bf16 = c.weights == WeightFormat::bf16 && c.in_dtype == DType::bf16;
  const bool f16 = c.weights == WeightFormat::f16 && c.in_dtype == DType::f16;
  if (!bf16 && !f16 && !c.quantized()) {
    return "path=wgmma multiplies bf16 by bf16, f16 by f16, and fp8_block with activations=fp8";
  }
  if (c.block_m != 128 && c.block_m != 256) return "path=wgmma has block_m=128 or 256";
  if (c.block_k * c.bits() != 1024) return "path=wgmma has rows of 128 bytes: block_k=64, with activations=fp8 128";
  if (c.quantized() && c.block_n != 64 && c.block_n != 128 && c.block_n != 256)
    return "block_n must be 64, 128 or 256 with activations=fp8";
  if (c.block_n % 16 != 0 || c.block_n < 32 || c.weight_rows() > 256)
    return "block_n must be a multiple of 16 from 32 on, up to 256, with a gate up to 128";
  if (c.warps != 8) return "path=wgmma has 8 warps that multiply";
  if (c.stages < 3 || c.stages > 8) return "path=wgmma has 3 to 8 stages";
  if (c.group_m < 1 || c.group_m > 64) return "group_m must be 1 to 64";
  if (GroupedSm90Plan(c).shared_bytes > kGroupedBytes) return "stages need too much shared memory";
  return nullptr;
}

}  // namespace gdnjit::moe

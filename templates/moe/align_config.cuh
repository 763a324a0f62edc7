// What shapes an aligning kernel: config, tiles, shared memory, parameter block. Host code includes this file too.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>

namespace gdnjit::moe {

enum : int {
  kMaxAlignCluster = 8,              // blocks that every architecture with clusters can place
  kMaxAlignBytes = 99 * 1024 - 512,  // shared memory that every architecture from sm_80 on has, less what is fixed
};

// The signature of a kernel: two kernels with equal configs have equal source.
struct AlignConfig {
  // The problem. Fields that a choice makes meaningless hold their defaults.
  int experts = 256;  // E, those that are here
  AlignLayout layout = AlignLayout::sorted;
  int block_m = 16;  // 1 for AlignLayout::masked
  bool expert_map = false;
  DType id_dtype = DType::i32;
  bool programmatic = false;
  // Tiles.
  int warps = 8;    // of a block
  int cluster = 1;  // blocks, which are the whole grid

  constexpr int threads() const { return warps * 32; }
  constexpr int thread_experts() const { return (experts + threads() - 1) / threads(); }
  // Pairs are dealt to the warps of all blocks in runs of whole warps, in order: a lower warp has lower pairs.
  constexpr unsigned warp_pairs(unsigned pairs) const {
    const unsigned all = static_cast<unsigned>(cluster) * warps * 32;
    return (pairs + all - 1) / all * 32;
  }
  // Words of shared memory: each warp's count of each expert, and two numbers of an expert.
  constexpr int shared_words() const { return (warps + 2) * experts; }
  constexpr int shared_bytes() const { return 4 * shared_words(); }

  // Why the kernel cannot be, or nullptr.
  constexpr const char* fault() const {
    if (experts < 1 || experts > kMaxExperts) return "E must be 1 to 1024";
    if (block_m < 1 || block_m > 1024) return "block_m must be 1 to 1024";
    if (warps < 1 || warps > 32) return "warps must be 1 to 32";
    if (cluster < 1 || cluster > kMaxAlignCluster) return "cluster must be 1 to 8";
    if (shared_bytes() > kMaxAlignBytes) return "every warp's counts of all experts must fit 99 KB of shared memory";
    return nullptr;
  }
};

// The fields in canonical order; Self is AlignConfig or const AlignConfig.
template <typename Self, typename Visitor>
constexpr void visit_align_config(Self& c, Visitor&& visit) {
  visit("experts", c.experts);
  visit("layout", c.layout);
  visit("block_m", c.block_m);
  visit("expert_map", c.expert_map);
  visit("id_dtype", c.id_dtype);
  visit("programmatic", c.programmatic);
  visit("warps", c.warps);
  visit("cluster", c.cluster);
}

// Visits every field under its member name.
template <typename Visitor>
constexpr void visit_fields(AlignConfig& c, Visitor&& visit) {
  visit_align_config(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const AlignConfig& c, Visitor&& visit) {
  visit_align_config(c, visit);
}

// The kernel's only argument, passed by value.
struct AlignParams {
  const void* ids;        // [M,k], tokens ids_stride apart
  const int* expert_map;  // [ids]
  int* pair_ids;          // [capacity], masked [E,max_rows]
  int* expert_ids;        // [capacity / block_m]
  int* total_padded;      // [1]
  int* grouped_layout;    // [capacity]
  int* masked_m;          // [E]
  int* dropped;           // [1]
  long long pairs;        // M k
  long long capacity;     // rows that the call's pairs may take; masked E max_rows
  long long ids_stride;
  int known_ids;  // ids from 0 to this are experts somewhere
  int max_rows;   // of an expert, masked
  int top_k;
};

}  // namespace gdnjit::moe

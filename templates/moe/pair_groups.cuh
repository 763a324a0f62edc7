// Which pairs of a chunk share an expert: up to group_tokens() of them make a group, which goes through the expert's
// weights once. Groups are numbered in the order of their experts' first pairs, so all blocks number them alike.
#pragma once

#include "device/warp.cuh"
#include "moe/pairs.cuh"

namespace gdnjit::moe {

template <MatvecConfig c>
struct PairGroups {
  enum : int { kThreads = c.threads(), kTokens = c.group_tokens(), kLanes = device::kWarpLanes };
  using Number = unsigned short;

  // In shared memory, of a chunk of `pairs` pairs; group_table_bytes() in all.
  int* count;               // of groups
  short* experts;           // [pairs]; -1: no expert
  Number* expert_of_group;  // [groups]
  Number* sizes;            // [groups]: pairs
  Number* members;          // [groups][group_tokens]: the pairs

  __device__ __forceinline__ PairGroups(unsigned char* bytes, int pairs)
      : count(reinterpret_cast<int*>(bytes)),
        experts(reinterpret_cast<short*>(bytes + 4)),
        expert_of_group(reinterpret_cast<Number*>(experts + pairs)),
        sizes(expert_of_group + pairs),
        members(sizes + pairs) {}

  // The whole block calls, and meets before it returns. `tables` is room for group_scratch_bytes().
  __device__ __forceinline__ void find(const MatvecParams& p, int first_pair, int pairs, unsigned char* tables) const {
    if (pairs <= kLanes) {
      if (threadIdx.x < kLanes) find_in_warp(p, first_pair, pairs);
    } else {
      find_in_block(p, first_pair, pairs, tables);
    }
    __syncthreads();
  }

 private:
  static __device__ __forceinline__ int groups_of(int pairs) { return (pairs + kTokens - 1) / kTokens; }

  // Place `place` of `size` pairs with expert `expert`, whose first group is `first`, has pair `pair`.
  __device__ __forceinline__ void enter(int expert, int first, int place, int size, int pair) const {
    const int group = first + place / kTokens;
    members[group * kTokens + place % kTokens] = static_cast<Number>(pair);
    if (place % kTokens != 0) return;
    expert_of_group[group] = static_cast<Number>(expert);
    sizes[group] = static_cast<Number>(size - place < kTokens ? size - place : kTokens);
  }

  __device__ __forceinline__ void find_in_warp(const MatvecParams& p, int first_pair, int pairs) const {
    const int lane = static_cast<int>(threadIdx.x);
    const int expert = lane < pairs ? expert_of<c>(p, first_pair + lane) : -1;
    const unsigned same = device::lanes_with_same(static_cast<unsigned>(expert));
    const int place = __popc(same & device::lanes_below()), size = __popc(same);
    const unsigned own = place == 0 && expert >= 0 ? static_cast<unsigned>(groups_of(size)) : 0u;
    const unsigned groups = device::prefix_sum(own);
    const int first = static_cast<int>(device::from_lane(groups - own, __ffs(static_cast<int>(same)) - 1));
    if (lane < pairs) experts[lane] = static_cast<short>(expert);
    if (expert >= 0) enter(expert, first, place, size, lane);
    if (lane == kLanes - 1) *count = static_cast<int>(groups);
  }

  // A warp takes 32 pairs, a span: how many of them have each expert goes into a table, from which everybody sees how
  // many pairs before its own have its expert.
  __device__ __forceinline__ void find_in_block(const MatvecParams& p, int first_pair, int pairs,
                                                unsigned char* tables) const {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % kLanes;
    const int spans = (pairs + kLanes - 1) / kLanes;
    Number* const first_groups = reinterpret_cast<Number*>(tables);  // [experts]
    Number* const places = first_groups + c.expert_slots();          // [pairs]: in the span, then in the chunk
    Number* const before = places + spans * kLanes;                  // [pairs]: groups in the span up to a pair
    Number* const span_groups = before + spans * kLanes;             // [spans]
    unsigned char* const numbers = reinterpret_cast<unsigned char*>(span_groups + spans);  // [spans][experts]
    const auto expert_at = [&](int pair) { return pair < pairs ? expert_of<c>(p, first_pair + pair) : -1; };
    const auto number = [&](int span, int expert) { return numbers[span * c.expert_slots() + expert]; };

    int own = expert_at(thread);  // on its way while the table is cleared
    for (int i = thread; i < spans * c.expert_slots() / 2; i += kThreads) reinterpret_cast<Number*>(numbers)[i] = 0;
    __syncthreads();
    for (int pair = thread; pair < spans * kLanes; pair += kThreads) {
      if (pair != thread) own = expert_at(pair);
      const unsigned same = device::lanes_with_same(static_cast<unsigned>(own));
      const int place = __popc(same & device::lanes_below());
      places[pair] = static_cast<Number>(place);
      if (pair < pairs) experts[pair] = static_cast<short>(own);
      if (own >= 0 && place == 0) {
        numbers[pair / kLanes * c.expert_slots() + own] = static_cast<unsigned char>(__popc(same));
      }
    }
    __syncthreads();
    for (int pair = thread; pair < spans * kLanes; pair += kThreads) {
      const int expert = pair < pairs ? experts[pair] : -1, span = pair / kLanes;
      unsigned groups = 0;
      if (expert >= 0) {
        int place = places[pair], size = 0;
        for (int s = 0; s < spans; ++s) {
          if (s == span) place += size;
          size += number(s, expert);
        }
        places[pair] = static_cast<Number>(place);
        if (place == 0) groups = static_cast<unsigned>(groups_of(size));
      }
      const unsigned up_to_here = device::prefix_sum(groups);
      before[pair] = static_cast<Number>(up_to_here - groups);
      if (lane == kLanes - 1) span_groups[span] = static_cast<Number>(up_to_here);
    }
    __syncthreads();
    for (int pair = thread; pair < pairs; pair += kThreads) {
      if (experts[pair] < 0 || places[pair] != 0) continue;
      int first = before[pair];
      for (int s = 0; s < pair / kLanes; ++s) first += span_groups[s];
      first_groups[experts[pair]] = static_cast<Number>(first);
    }
    if (thread == 0) {
      int all = 0;
      for (int s = 0; s < spans; ++s) all += span_groups[s];
      *count = all;
    }
    __syncthreads();
    for (int pair = thread; pair < pairs; pair += kThreads) {
      const int expert = experts[pair], place = places[pair];
      if (expert < 0) continue;
      int size = 0;
      if (place % kTokens == 0) {
        for (int s = 0; s < spans; ++s) size += number(s, expert);
      }
      enter(expert, first_groups[expert], place, size, pair);
    }
  }
};

}  // namespace gdnjit::moe

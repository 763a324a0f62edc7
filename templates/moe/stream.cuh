// A team's stream of weights: item after item, a group of pairs and a tile of outputs each. The weights of the next
// items are on their way before the sums of this one are done.
#pragma once

#include "device/grid.cuh"
#include "moe/pair_groups.cuh"
#include "moe/product.cuh"

namespace gdnjit::moe {

// `Items` says what there is to do:
//   count(), stride()                items of the block, and from one item of a team to its next
//   group(item), first_output(item)  what an item is
//   inputs(pair)                     the inputs of a pair of the chunk, a row
template <MatvecConfig c, typename Items>
struct Stream {
  using P = Product<c>;
  // Where a warp is: a step of an item.
  struct Cursor {
    int item, step, steps;
    typename P::Place place;
  };

  // A step with what it needs beside its weights.
  struct Turn {
    Cursor at;
    typename P::Columns columns;
    typename P::Aside aside;
  };

  const MatvecParams& p;
  const PairGroups<c>& groups;
  const Items& items;
  int warp_k = device::warp_of_block() % c.warps_k;

  // Goes through the items from `first` on. `before_inputs()` is called when the first weights are on their way, before
  // inputs are read; `finish(item, sums)` with the warp's share of an item's sums, whose columns are joined.
  template <typename BeforeInputs, typename Finish>
  __device__ __forceinline__ void run(int first, unsigned char* rings, BeforeInputs&& before_inputs,
                                      Finish&& finish) const {
    // Three places in the stream: whose weights are copied next, whose scales and inputs are loaded next, and what is
    // multiplied next. (Scales and inputs further ahead gained nothing on an H200, for 16 to 30 registers.)
    Cursor ahead = at(first), next = ahead;
    typename P::Rows rows{};
    typename P::ScaleRows scale_rows{};
    typename P::Columns columns{};
    Turn turn;
    typename P::Ring ring(rings, device::warp_of_block());
    const auto copy = [&](int slot) {
      P::copy_weights(ahead.place, rows, has(ahead), ahead.step, ring, slot);
      if (advance(ahead)) set_rows(ahead, rows);
    };
    const auto load_scales = [&] {
      turn.at = next;
      if (has(next)) P::load_scales(next.place, scale_rows, next.step, turn.aside);
    };
    const auto load_inputs = [&] {
      turn.columns = columns;
      if (has(next)) P::load_inputs(columns, next.place.in, next.step, turn.aside);
      if (advance(next)) {
        set_scale_rows(next, scale_rows);
        set_columns(next, columns);
      }
    };
    set_rows(ahead, rows);
#pragma unroll
    for (int s = 0; s < c.stages; ++s) copy(s);
    set_scale_rows(next, scale_rows);
    load_scales();
    before_inputs();
    set_columns(next, columns);
    load_inputs();

    typename P::Sums sums = {};
    while (has(turn.at)) {
      Turn now = turn;
      P::pair_inputs(now.aside);
      load_scales();
      load_inputs();
      P::accumulate(ring, now.aside, now.columns, now.at.place.in, now.at.step, sums);
      copy(ring.slot);
      ring.advance();
      if (turn.at.item != now.at.item) {
        P::join_columns(sums);
        finish(now.at.item, sums);
#pragma unroll
        for (int tile = 0; tile < P::kTiles; ++tile) {
#pragma unroll
          for (int column = 0; column < P::kColumnTiles; ++column) {
#pragma unroll
            for (int i = 0; i < 4; ++i) sums[tile][column][i] = 0.0f;
          }
        }
      }
    }
  }

 private:
  __device__ __forceinline__ bool has(const Cursor& at) const { return at.item < items.count(); }
  __device__ __forceinline__ int expert_of_item(int item) const { return groups.expert_of_group[items.group(item)]; }

  // The warp's first step of an item. A step behind the rows' end is one of zeros.
  __device__ __forceinline__ Cursor at(int item) const {
    if constexpr (!c.down && c.shared_size > 0 && c.shared_size != c.intermediate_size) {
      // Tiles are counted for the larger of routed and shared experts.
      while (item < items.count() && items.first_output(item) >= c.out_features(expert_of_item(item) == c.experts)) {
        item += items.stride();
      }
    }
    const bool shared = c.shared_size > 0 && item < items.count() && expert_of_item(item) == c.experts;
    return {item, warp_k, P::steps(c.in_features(shared)), P::place_of(shared, items.first_output(item))};
  }

  // True if that led to another item.
  __device__ __forceinline__ bool advance(Cursor& cursor) const {
    cursor.step += c.warps_k;
    if (cursor.step < cursor.steps) return false;
    cursor = at(cursor.item + items.stride());
    return true;
  }

  __device__ __forceinline__ void set_rows(const Cursor& at, typename P::Rows& rows) const {
    if (has(at)) rows = P::rows_of(matrix_of<c>(p, expert_of_item(at.item)), at.place);
  }
  __device__ __forceinline__ void set_scale_rows(const Cursor& at, typename P::ScaleRows& rows) const {
    if (has(at)) rows = P::scale_rows_of(matrix_of<c>(p, expert_of_item(at.item)), at.place);
  }
  __device__ __forceinline__ void set_columns(const Cursor& at, typename P::Columns& columns) const {
    if (!has(at)) return;
    const int group = items.group(at.item);
    P::set_columns(
        groups.sizes[group], [&](int place) { return items.inputs(groups.members[group * c.group_tokens() + place]); },
        columns);
  }
};

}  // namespace gdnjit::moe

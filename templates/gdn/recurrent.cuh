// gdn.recurrent: any number of tokens, known at run time and, with cu_seqlens, different for each sequence. The
// arithmetic is that of gdn/token.cuh, so a token's bits are those of gdn.step.
#pragma once

#include "gdn/walk.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Recurrent : Walk<c> {
  static_assert(c.tokens == 0, "T is known at run time");
  static_assert(c.state_steps == StatePlace::none && c.num_accepted == StatePlace::none && !c.tree);
  using Base = Token<c>;
  using typename Base::Place;
  using typename Base::StateElement;

  static __device__ __forceinline__ Place locate(const StepParams& p) {
    Place at = Base::locate();
    at.tokens = static_cast<int>(p.tokens);
    if constexpr (c.ragged) {
      at.first_token = device::load_index<DType::i32>(p.cu_seqlens.data, at.b * p.cu_seqlens.row);
      const long long end = device::load_index<DType::i32>(p.cu_seqlens.data, (at.b + 1LL) * p.cu_seqlens.row);
      at.tokens = static_cast<int>(end - at.first_token);
    }

    const long long start = Base::lane_start(at);
    if constexpr (c.initial_state != StatePlace::none) {
      long long row = at.b;
      if constexpr (c.initial_state == StatePlace::pool) {
        row = Base::load_slot(p.read_slot, at, 0);
        at.padded = row < first_slot<c>();
      }
      const long long offset = row * p.state_in_strides.row + at.hv * p.state_in_strides.head;
      at.state_in = static_cast<const StateElement*>(p.state_in) + (offset + start);
    }
    if constexpr (c.final_state != StatePlace::none) {
      long long row = at.b;
      if constexpr (c.final_state == StatePlace::pool) {
        row = Base::load_slot(p.write_slot, at, 0);
        at.writes_state = row >= first_slot<c>();
        // Passes over a large state need the final state's memory; a row without is padding.
        if (c.passes() > 1 && !at.writes_state) at.padded = true;
      }
      const long long offset = row * p.state_out_strides.row + at.hv * p.state_out_strides.head;
      at.state_out = static_cast<StateElement*>(p.state_out) + (offset + start);
    }
    return at;
  }

  static __device__ __forceinline__ void run(const StepParams& p) {
    Place at = locate(p);
    Walk<c>::walk(p, at);
  }
};

}  // namespace gdnjit::gdn

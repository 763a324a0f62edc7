// gdn.step: T = 1..16 tokens of Gated DeltaNet, T fixed at compile time, every state byte read once and written at most
// once. T = 1 is decode; T > 1 is verification of drafted tokens, a chain or a tree, with the state after each token
// kept for roll-back where the caller wants it. The arithmetic is that of gdn/token.cuh.
#pragma once

#include "gdn/walk.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Step : Walk<c> {
  static_assert(c.tokens >= 1 && c.tokens <= kMaxStepTokens, "this kernel serves 1 to 16 tokens");
  static_assert(!c.ragged);
  using Base = Token<c>;
  using typename Base::Place;
  using typename Base::StateElement;

  static __device__ __forceinline__ Place locate(const StepParams& p) {
    Place at = Base::locate();
    const long long start = Base::lane_start(at);
    const void* states = p.state_in;
    long long row = at.b;
    long long accepted = 0;
    if constexpr (c.initial_state == StatePlace::pool) {
      row = Base::load_slot(p.read_slot, at, 0);
      at.padded = row < first_slot<c>();
    }
    long long offset = row * p.state_in_strides.row + at.hv * p.state_in_strides.head;
    if constexpr (c.num_accepted != StatePlace::none) {
      accepted = device::load_index<DType::i32>(p.num_accepted.data, at.b * p.num_accepted.row);
      if (accepted > 0 && !at.padded) {
        const StateStrides& strides = p.accepted_strides;
        states = p.accepted_states;
        row = at.b;
        if constexpr (c.num_accepted == StatePlace::pool) {
          row = Base::load_slot(p.accepted_slot, at, accepted - 1);
          at.padded = row < first_slot<c>();
        }
        offset = row * strides.row + (accepted - 1) * strides.token + at.hv * strides.head;
      }
    }
    at.state_in = static_cast<const StateElement*>(states) + (offset + start);
    at.row_in = row;
    at.accepted = accepted;

    if constexpr (c.final_state != StatePlace::none) {
      row = at.b;
      if constexpr (c.final_state == StatePlace::pool) {
        row = Base::load_slot(p.write_slot, at, 0);
        at.writes_state = row >= first_slot<c>();
      }
      offset = row * p.state_out_strides.row + at.hv * p.state_out_strides.head;
      at.state_out = static_cast<StateElement*>(p.state_out) + (offset + start);
      at.row_out = row;
    }
    return at;
  }

  static __device__ __forceinline__ void run(const StepParams& p) {
    Place at = locate(p);
    Walk<c>::walk(p, at);
  }
};

}  // namespace gdnjit::gdn

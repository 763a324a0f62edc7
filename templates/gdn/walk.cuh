// The ways over the tokens of a sequence, by what registers hold:
//   one token     the state passes through registers as it lies in memory
//   in registers  the warp's part of the state is read once, stays for all T tokens and is written once
//   in passes     block_k < K: too many keys for registers. Passes of block_k keys are read again for every token and
//                 brought up to date by repeating the updates before it, which needs the tokens' deltas and no memory
//                 for states in between: T + 1 reads (the first from memory, the others usually from the L2), one
//                 write, and the same bits as in registers
// In the first two the loads of the state are issued first: they take longest and depend on nothing.
#pragma once

#include "device/grid.cuh"
#include "gdn/token.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Walk : Token<c> {
  using Base = Token<c>;
  using typename Base::Factors;
  using typename Base::Keys;
  using typename Base::Packed;
  using typename Base::Place;
  using typename Base::Scalars;
  using typename Base::State;
  using typename Base::StateElement;
  using typename Base::Sums;
  enum : bool {
    kOutput = Base::kOutput,
    kStoresSteps = c.state_steps != StatePlace::none,
    // A stored state is the state itself: continuing from it is continuing in registers.
    kReloadsSteps = c.state_steps != StatePlace::none && c.state_dtype == DType::f32,
    // Dense states are all stored; a slot may be a sentinel, and then its state is not.
    kReplays = !(c.state_steps == StatePlace::dense && c.state_dtype == DType::f32),
  };

  // ---- states in memory ----------------------------------------------------------------------------------------

  static __device__ __forceinline__ void load_initial(const Place& at, int pass, const StateElement* from,
                                                      Packed& tile) {
    if constexpr (c.initial_state == StatePlace::none) {
      if (from == nullptr) {
        tile = {};
        return;
      }
    }
    Base::load_state(from, at, pass, tile);
  }

  // Where the state after token t is kept; null if its slot is a sentinel.
  static __device__ __forceinline__ StateElement* step_target(const StepParams& p, const Place& at, int t) {
    long long row = at.b;
    if constexpr (c.state_steps == StatePlace::pool) {
      row = Base::load_slot(p.step_slot, at, t);
      if (row < first_slot<c>()) return nullptr;
    }
    const long long offset = row * p.step_strides.row + t * p.step_strides.token + at.hv * p.step_strides.head;
    return static_cast<StateElement*>(p.step_states) + (offset + Base::lane_start(at));
  }

  static __device__ __forceinline__ void store_step(StateElement* target, const Place& at, int pass,
                                                    const State& state) {
    if (c.state_steps == StatePlace::dense || target != nullptr) Base::store_state(target, at, pass, state);
  }

  // ---- the tree ----------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ int parent_of(const StepParams& p, const Place& at, int t) {
    const long long index = at.b * p.parent.row + t * p.parent.token;
    return static_cast<int>(device::load_index<DType::i32>(p.parent.data, index));
  }

  // The tokens from the initial state to `token`, itself included, as bits. Parents come before their children; one
  // that does not is taken for the initial state, so the walk ends whatever the array holds.
  static __device__ __forceinline__ unsigned path_to(const StepParams& p, const Place& at, int token, int child) {
    unsigned path = 0;
    while (token >= 0 && token < child) {
      path |= 1u << token;
      child = token;
      token = parent_of(p, at, child);
    }
    return path;
  }

  // Leaves in `state` the state that token t continues from. A branch back to a state that was stored as it is reads
  // it again (it was written a moment ago and comes from the L2); any other repeats the tokens on the path, which costs
  // no traffic but their q, k and v, and rounds nothing twice.
  static __device__ __forceinline__ void go_to_parent(const StepParams& p, const Place& at, int t,
                                                      const GateParameters& gate, const Packed& root, State& state) {
    const int parent = parent_of(p, at, t);
    if (parent == t - 1) return;
    if constexpr (kReloadsSteps) {
      const StateElement* stored = parent >= 0 && parent < t ? step_target(p, at, parent) : nullptr;
      if (stored != nullptr) {
        Packed tile;
        Base::load_state(stored, at, 0, tile);
        Base::unpack(tile, state);
        return;
      }
    }
    Base::unpack(root, state);
    if constexpr (kReplays) {
      const unsigned path = path_to(p, at, parent, t);
#pragma unroll 1
      for (int i = 0; i < t; ++i) {
        if ((path >> i & 1) == 0) continue;
        Keys keys;
        Scalars scalars;
        load_token<false>(p, at, i, keys, scalars);
        Factors factors;
        Base::template unpack<false>(p, at, 0, gate, keys, factors);
        process<false>(p, at, i, gate, factors, scalars, state);
      }
    }
  }

  // ---- one token ---------------------------------------------------------------------------------------------------

  // Before the first token's inputs are read.
  static __device__ __forceinline__ void begin(const StepParams& p, Place& at) {
    if constexpr (c.programmatic) {
      device::wait_for_previous_grid();
      device::let_next_grid_start();  // after the wait: the next grid may then count on all before this one
    }
    if constexpr (c.is_mixer()) Mixer<c>::begin(p, at);
  }

  template <bool kQuery>
  static __device__ __forceinline__ void load_token(const StepParams& p, const Place& at, int t, Keys& keys,
                                                    Scalars& scalars) {
    Base::load(p, at, t, scalars);  // first: after q and k, ptxas puts some of their loads behind the sums of others
    Base::template load<kQuery>(p, at, t, 0, keys);
  }

  // Token t on a state in registers.
  template <bool kQuery>
  static __device__ __forceinline__ void process(const StepParams& p, const Place& at, int t,
                                                 const GateParameters& gate, const Factors& factors,
                                                 const Scalars& scalars, State& state) {
    const float alpha = Base::head_alpha(scalars, gate);
    const float beta = Base::write_strength(scalars);
    Sums sums = {};
    Base::template accumulate<kQuery>(state, factors, sums);
    Base::template finish_sums<kQuery>(sums);
    float delta[Base::kValues];
    Base::find_delta(at, sums, scalars, alpha, beta, delta);
    if constexpr (kQuery) Base::emit(p, at, t, sums, alpha, delta);
    Base::update(state, factors, alpha, delta);
  }

  // ---- the ways ----------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void run_one_token(const StepParams& p, Place& at) {
    Packed tile;
    load_initial(at, 0, at.state_in, tile);
    begin(p, at);
    Keys keys;
    Scalars scalars;
    load_token<kOutput>(p, at, 0, keys, scalars);
    const GateParameters gate = gate_parameters<c>(p, at.hv);
    Factors factors;
    Base::template unpack<kOutput>(p, at, 0, gate, keys, factors);
    const float alpha = Base::head_alpha(scalars, gate);
    const float beta = Base::write_strength(scalars);

    Sums sums = {};
    Base::template accumulate<kOutput>(tile, factors, sums);
    Base::template finish_sums<kOutput>(sums);
    float delta[Base::kValues];
    Base::find_delta(at, sums, scalars, alpha, beta, delta);
    if constexpr (kOutput) Base::emit(p, at, 0, sums, alpha, delta);
    if constexpr (c.is_mixer()) Mixer<c>::end_outputs(at);
    if (at.writes_state) Base::update_memory(at.state_out, at, 0, tile, factors, alpha, delta);
    if constexpr (kStoresSteps) {
      StateElement* target = step_target(p, at, 0);
      if (c.state_steps == StatePlace::dense || target != nullptr) {
        Base::update_memory(target, at, 0, tile, factors, alpha, delta);
      }
    }
  }

  static __device__ __forceinline__ void run_in_registers(const StepParams& p, Place& at) {
    Packed root;
    load_initial(at, 0, at.state_in, root);
    begin(p, at);
    const GateParameters gate = gate_parameters<c>(p, at.hv);
    // Inputs run one token ahead: they are loaded before the sums of the token at hand and unpacked after its update.
    Keys keys;
    Scalars scalars;
    if (at.tokens > 0) load_token<kOutput>(p, at, 0, keys, scalars);
    State state;
    Base::unpack(root, state);
#pragma unroll 1
    for (int t = 0; t < at.tokens; ++t) {
      Factors factors;
      Base::template unpack<kOutput>(p, at, 0, gate, keys, factors);
      const Scalars now = scalars;
      if (t + 1 < at.tokens) load_token<kOutput>(p, at, t + 1, keys, scalars);
      if constexpr (c.tree) go_to_parent(p, at, t, gate, root, state);
      StateElement* target = nullptr;
      if constexpr (kStoresSteps) target = step_target(p, at, t);
      process<kOutput>(p, at, t, gate, factors, now, state);
      if constexpr (kStoresSteps) store_step(target, at, 0, state);
    }
    if constexpr (c.is_mixer()) Mixer<c>::end_outputs(at);
    if (at.writes_state) Base::store_state(at.state_out, at, 0, state);
  }

  // Token t's update of the keys of one pass.
  static __device__ __forceinline__ void apply(const StepParams& p, const Place& at, int t, int pass,
                                               const GateParameters& gate, float alpha, const float* delta,
                                               State& state) {
    Keys keys;
    Base::template load<false>(p, at, t, pass, keys);
    Factors factors;
    Base::template unpack<false>(p, at, pass, gate, keys, factors);
    Base::update(state, factors, alpha, delta);
  }

  // `count` tokens from `first` on, from the state at `from`, in passes.
  static __device__ __forceinline__ void run_window(const StepParams& p, const Place& at, int first, int count,
                                                    const StateElement* from) {
    const GateParameters gate = gate_parameters<c>(p, at.hv);
    float deltas[c.window()][Base::kValues];
    float alphas[c.window()];
    if constexpr (c.is_mixer() && c.window() == 2) {
      // With one token to repeat the compiler loads its delta before it asks whether it is to be repeated: it must hold
      // something. (Without a mixer the loads in between keep it from doing so.)
      alphas[0] = 0.0f;
#pragma unroll
      for (int n = 0; n < Base::kValues; ++n) deltas[0][n] = 0.0f;
    }
    const auto apply_path = [&](unsigned path, int before, int pass, State& state) {
#pragma unroll 1
      for (int i = 0; i < before; ++i) {
        if ((path >> i & 1) != 0) apply(p, at, first + i, pass, gate, alphas[i], deltas[i], state);
      }
    };
#pragma unroll 1
    for (int i = 0; i < count; ++i) {
      const int t = first + i;
      Scalars scalars;
      Base::load(p, at, t, scalars);
      const unsigned path = c.tree ? path_to(p, at, parent_of(p, at, t), t) : ~0u;
      Sums sums = {};
#pragma unroll 1
      for (int pass = 0; pass < c.passes(); ++pass) {
        Packed tile;
        load_initial(at, pass, from, tile);
        State state;
        Base::unpack(tile, state);
        if constexpr (c.window() > 1) apply_path(path, i, pass, state);
        Keys keys;
        Base::template load<kOutput>(p, at, t, pass, keys);
        Factors factors;
        Base::template unpack<kOutput>(p, at, pass, gate, keys, factors);
        Base::template accumulate<kOutput>(state, factors, sums);
      }
      Base::template finish_sums<kOutput>(sums);
      alphas[i] = Base::head_alpha(scalars, gate);
      Base::find_delta(at, sums, scalars, alphas[i], Base::write_strength(scalars), deltas[i]);
      if constexpr (kOutput) Base::emit(p, at, t, sums, alphas[i], deltas[i]);
    }

    if constexpr (c.is_mixer()) Mixer<c>::end_outputs(at);
    // Everything that is stored is stored now: a state of a token may lie where the initial state was.
    if (!kStoresSteps && !at.writes_state) return;
#pragma unroll 1
    for (int pass = 0; pass < c.passes(); ++pass) {
      Packed root;
      load_initial(at, pass, from, root);
      State state;
      Base::unpack(root, state);
#pragma unroll 1
      for (int i = 0; i < count; ++i) {
        if constexpr (c.tree) {
          const int parent = parent_of(p, at, i);
          if (parent != i - 1) {
            Base::unpack(root, state);
            apply_path(path_to(p, at, parent, i), i, pass, state);
          }
        }
        apply(p, at, first + i, pass, gate, alphas[i], deltas[i], state);
        if constexpr (kStoresSteps) store_step(step_target(p, at, i), at, pass, state);
      }
      if (at.writes_state) Base::store_state(at.state_out, at, pass, state);
    }
  }

  static __device__ __forceinline__ void run_in_passes(const StepParams& p, Place& at) {
    begin(p, at);
    if constexpr (c.tokens > 0) {
      run_window(p, at, 0, c.tokens, at.state_in);
    } else {
      // Windows of tokens, each from the final state's memory on: a 16-bit state is rounded between them.
      const StateElement* from = at.state_in;
      int first = 0;
      do {
        const int rest = at.tokens - first;
        run_window(p, at, first, rest < c.window() ? rest : c.window(), from);
        from = at.state_out;
        first += c.window();
      } while (first < at.tokens);
    }
  }

  static __device__ __forceinline__ void run_padded(const StepParams& p, const Place& at) {
    if constexpr (c.pad_policy == PadPolicy::zero && kOutput) {
      if constexpr (c.programmatic) device::wait_for_previous_grid();
      const float zeros[Base::kValues] = {};
#pragma unroll 1
      for (int t = 0; t < at.tokens; ++t) Base::store_output(p, at, t, zeros);
    }
  }

  static __device__ __forceinline__ void walk(const StepParams& p, Place& at) {
    if constexpr (c.uses_pool() && !c.is_mixer()) {  // a mixer has done so before
      if (at.padded) {
        run_padded(p, at);
        return;
      }
    }
    if constexpr (c.passes() > 1) {
      run_in_passes(p, at);
    } else if constexpr (c.tokens == 1) {
      run_one_token(p, at);
    } else {
      run_in_registers(p, at);
    }
  }
};

}  // namespace gdnjit::gdn

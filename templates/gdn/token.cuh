// One token of the recurrence on a warp's part of the state: the phases that gdn.step and gdn.recurrent share.
//
// A warp owns warp_v columns of V of one head and all of K; nothing is shared between warps. Its 32 lanes form a
// grid of lanes_k x lanes_v: a column's sum over K lives in lanes_k lanes and is finished by shuffles.
//
// The output comes from the one-pass form, equal to the recurrence in exact arithmetic (alpha = exp(g)):
//   d = beta (v - alpha S^T k),   S' = alpha S + k d^T,   o = S'^T q = alpha S^T q + (q.k) d
// so S^T k and S^T q are summed together and no third walk over the state is needed. A gate per key channel
// multiplies k and q of the two sums instead of their results.
//
// The bits of a token's results depend on the numbers, on lanes_k and on key_chunk, and on nothing else (not on T, B,
// other tiles, layouts or the kernel): a lane sums its keys upwards, the lanes' sums meet in one butterfly, and every
// product that meets a sum is an fmaf, so that the compiler has nothing to fuse one way here and another way there.
#pragma once

#include "device/memory.cuh"
#include "device/warp.cuh"
#include "gdn/layer.cuh"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

// What surrounds the recurrence in a mixer (gdn/mixer.cuh, which only kernels of a mixer include).
template <StepConfig c>
struct Mixer;

template <StepConfig c>
struct Token {
  static_assert(c.fault() == nullptr, "the tiles do not fit the problem");
  static_assert(c.heads_v % c.heads_k == 0);

  // Constants are enumerators: a static member, even one never used, becomes a variable of the compiled module.
  enum : bool {
    kIsVk = c.state_layout == StateLayout::vk,
    kChannelGate = gate_is_per_channel(c.gate),
    kHeadGate = c.gate != Gate::none && !gate_is_per_channel(c.gate),
    kGateParameters = gate_has_parameters(c.gate),
    kOutput = c.write_output,
    kNorm = c.norm != Norm::none,
    kMaskK = c.head_dim_k % c.block_k != 0,
    kMaskV = c.head_dim_v % c.block_v != 0,
    kConvolved = c.conv_width > 0,
    kGatedNorm = c.gated_norm != GatedNorm::none,
    kQuick = c.quick_compile,
  };
  enum : int {
    kThreads = c.threads(),
    kK = c.head_dim_k,
    kV = c.head_dim_v,
    kKeys = c.lane_keys(),      // keys of a lane in one pass
    kValues = c.lane_values(),  // columns of a lane
    kValueChunk = c.value_chunk(),
    kLanesV = c.lanes_v(),
    kKeyStride = kIsVk ? 1 : c.lanes_v(),  // between lanes that share a column
    kWarpColumns = c.warp_v(),
    kHeadBlocks = c.head_blocks(),
    kBlockColumns = c.block_columns(),
    kPasses = c.passes(),
    // One access holds state_vector elements: keys of one column (vk) or columns of one key (kv).
    kVector = c.state_vector,
    kAccessBytes = c.state_vector * dtype_bytes(c.state_dtype),
    kWords = device::words_of<c.state_dtype>(c.state_vector),
    kTileRows = kIsVk ? c.lane_keys() / c.state_vector : c.lane_keys(),         // accesses along K
    kTileColumns = kIsVk ? c.lane_values() : c.lane_values() / c.state_vector,  // accesses along V
    // The same of q and k: key_vector keys an access.
    kKeyBytes = c.key_vector * dtype_bytes(c.input_dtype()),
    kKeyWords = device::words_of<c.input_dtype()>(c.key_vector),
    kKeyAccesses = c.lane_keys() / c.key_vector,
  };
  // Elements as they lie in memory, and in registers.
  using StateElement = device::Stored<c.state_dtype>;
  using StateWord = device::Word<c.state_dtype>;
  using InputElement = device::Stored<c.input_dtype()>;
  using InputWord = device::Word<c.input_dtype()>;

  // The state of one pass as it lies in memory; 16-bit states stay two to a register.
  struct Packed {
    StateWord words[kTileRows][kTileColumns][kWords];
  };
  // The same in fp32, where it stays over several tokens.
  struct State {
    float numbers[kTileRows][kTileColumns][kVector];
  };

  // What a token brings, as it lies in memory: loads stay in flight until it is the token's turn.
  struct Keys {
    InputWord q[kKeyAccesses][kKeyWords];
    InputWord k[kKeyAccesses][kKeyWords];
    device::Word<c.gate_dtype> gate[kChannelGate ? kKeys : 1];  // per channel
  };
  struct Scalars {
    device::Word<c.gate_dtype> gate;  // per head
    device::Word<c.beta_dtype> beta;
    InputWord v[kValues];
  };

  // q, k and the per-channel decay of a lane's keys in one pass.
  struct Factors {
    float q[kKeys];
    float k[kKeys];
    float decay[kChannelGate ? kKeys : 1];
  };

  // Where a lane works. Everything beyond first_key and first_value is a constant distance, so accesses need one
  // address register and immediate offsets.
  struct Place {
    int b, hv, h, j;  // sequence; value head, as key head h and place j in its group
    int lane_k;
    int first_key;                 // the lane's first key of a pass
    int first_value;               // the lane's first column
    int tokens;                    // T of this sequence
    long long first_token;         // ragged: where the sequence starts
    const StateElement* state_in;  // the head's state, at (first_key, first_value)
    StateElement* state_out;
    bool padded;  // the row holds no sequence
    bool writes_state;
    // Of a mixer: the rows of both states; if the initial one is that after some tokens of the last call, their number;
    // and what its phases hand on to the later ones.
    long long row_in, row_out;
    long long accepted;
    int turn, turns;                                  // the block of V at hand, and how many this thread block serves
    unsigned ticket;                                  // readers of the convolution's state before this block
    device::Word<c.io_dtype> gates[c.early_gates()];  // z of the outputs that this thread finishes
    device::Word<c.gated_norm_dtype> norm_weights[c.early_weights()];
  };

  // Sums over K, of q and k as they came: the norms' factors are applied to the results, so that the sums need not
  // wait for them.
  struct Sums {
    float state_k[kValues];  // S^T k, for the lane's columns
    float state_q[kValues];  // S^T q
    float q_k;               // q.k
    float q_q, k_k;          // squares, for the norms
  };

  // ---- indices -----------------------------------------------------------------------------------------------

  // Distance of a lane's i-th key from its first: chunks of key_chunk keys, dealt to the lanes in turn.
  static constexpr int key_distance(int i) { return (i / c.key_chunk) * (c.lanes_k * c.key_chunk) + i % c.key_chunk; }
  // Distance of a lane's n-th column from its first, dealt likewise in chunks of value_chunk.
  static constexpr int value_distance(int n) { return (n / kValueChunk) * (kLanesV * kValueChunk) + n % kValueChunk; }

  // Chunks divide K and V, so a chunk is inside or outside as a whole.
  static __device__ __forceinline__ bool key_inside(const Place& at, int pass, int i) {
    return at.first_key + pass * c.block_k + key_distance(i) < kK;
  }
  static __device__ __forceinline__ bool value_inside(const Place& at, int n) {
    return at.first_value + value_distance(n) < kV;
  }

  // Token t of the sequence in a tensor.
  static __device__ __forceinline__ long long token_offset(const HeadStrides& strides, const Place& at, int t) {
    if constexpr (c.ragged) return (at.first_token + t) * strides.token;
    if constexpr (c.tokens == 1) return at.b * strides.batch;
    return at.b * strides.batch + t * strides.token;
  }
  static __device__ __forceinline__ long long head_offset(const HeadStrides& strides, const Place& at, int t) {
    return token_offset(strides, at, t) + at.h * strides.key_head + at.j * strides.group;
  }

  // The lane's first key and column in access (row, column); its elements follow along K (vk) or V (kv).
  static constexpr int element_key(int row, int e) { return kIsVk ? row * kVector + e : row; }
  static constexpr int element_value(int column, int e) { return kIsVk ? column : column * kVector + e; }
  static __device__ __forceinline__ bool access_inside(const Place& at, int pass, int row, int column) {
    return (!kMaskK || key_inside(at, pass, element_key(row, 0))) &&
           (!kMaskV || value_inside(at, element_value(column, 0)));
  }
  // Distance in elements of that access from the lane's first: an access along K (vk) or V (kv) is a chunk.
  static constexpr long long access_distance(int row, int column) {
    if constexpr (kIsVk) return column * (kLanesV * kK) + row * (c.lanes_k * kVector);
    return key_distance(row) * kV + column * (kLanesV * kVector);
  }
  // From one pass to the next.
  static constexpr long long pass_distance(int pass) {
    return static_cast<long long>(pass) * c.block_k * (kIsVk ? 1 : kV);
  }

  // ---- phase 1: where --------------------------------------------------------------------------------------

  // The lane's place in its block, head and sequence; where states lie is the kernel's business.
  static __device__ __forceinline__ Place locate() {
    Place at;
    // Unsigned: division by a power of two is then a shift.
    const unsigned lane = threadIdx.x % device::kWarpLanes;
    const unsigned warp = threadIdx.x / device::kWarpLanes;
    // Neighbouring lanes lie along the contiguous dimension of the state.
    at.lane_k = static_cast<int>(kIsVk ? lane % c.lanes_k : lane / kLanesV);
    const unsigned lane_v = kIsVk ? lane / c.lanes_k : lane % kLanesV;

    const unsigned block = blockIdx.x;
    const unsigned head_block = block / kHeadBlocks;
    at.hv = static_cast<int>(head_block % c.heads_v);
    at.b = c.batch == 1 ? 0 : static_cast<int>(head_block / c.heads_v);
    const ValueHead head = value_head<c>(at.hv);
    at.h = head.h;
    at.j = head.j;
    at.first_key = at.lane_k * c.key_chunk;
    at.first_value = static_cast<int>(block % kHeadBlocks * kBlockColumns + warp * kWarpColumns + lane_v * kValueChunk);
    at.tokens = c.tokens;
    at.first_token = 0;
    at.state_in = nullptr;
    at.state_out = nullptr;
    at.padded = false;
    at.writes_state = c.final_state != StatePlace::none;
    return at;
  }

  // The lane's first element of a head's state, in elements from the head's first.
  static __device__ __forceinline__ long long lane_start(const Place& at) {
    return kIsVk ? static_cast<long long>(at.first_value) * kK + at.first_key
                 : static_cast<long long>(at.first_key) * kV + at.first_value;
  }

  static __device__ __forceinline__ long long load_slot(const IndexArray& slots, const Place& at, long long token) {
    return device::load_index<c.slot_dtype>(slots.data, at.b * slots.row + token * slots.token);
  }

  // ---- phase 2: loads --------------------------------------------------------------------------------------

  static __device__ __forceinline__ void load_state(const StateElement* state, const Place& at, int pass,
                                                    Packed& tile) {
    if constexpr (kPasses > 1) state += pass_distance(pass);
    if constexpr (kQuick) device::settle(state);
#pragma unroll
    for (int column = 0; column < kTileColumns; ++column) {
#pragma unroll
      for (int row = 0; row < kTileRows; ++row) {
        StateWord(&words)[kWords] = tile.words[row][column];
        if constexpr (kMaskK || kMaskV) {
          if (!access_inside(at, pass, row, column)) {
#pragma unroll
            for (int w = 0; w < kWords; ++w) words[w] = 0;
            continue;
          }
        }
        device::load_words<kAccessBytes, c.cache_hint>(state + access_distance(row, column), words);
      }
    }
  }

  // A lane's keys of the vector at `offset`: in memory, or where the block staged it behind the convolution; there the
  // keys of a chunk may lie apart. (One 64-bit sum, then constants: else the compiler computes each access' address.)
  static __device__ __forceinline__ void load_keys(const void* base, long long offset, const Place& at, int pass,
                                                   InputWord (&words)[kKeyAccesses][kKeyWords]) {
    constexpr int kApart = kConvolved ? c.key_chunk / c.key_vector : 1;
    offset += (at.first_key + pass * c.block_k) / kApart;
    const InputElement* keys = static_cast<const InputElement*>(base) + offset;
    if constexpr (kQuick) device::settle(keys);
#pragma unroll
    for (int access = 0; access < kKeyAccesses; ++access) {
      const int i = access * c.key_vector;
      if constexpr (kMaskK) {
        if (!key_inside(at, pass, i)) {
#pragma unroll
          for (int w = 0; w < kKeyWords; ++w) words[access][w] = 0;
          continue;
        }
      }
      if constexpr (kConvolved) {
        Mixer<c>::template load_staged<c.key_vector>(keys + c.staged_place(key_distance(i)), words[access]);
      } else {
        device::load_words<kKeyBytes, device::CacheHint::normal>(keys + key_distance(i), words[access]);
      }
    }
  }

  // kQuery false leaves q out: an update needs k alone.
  template <bool kQuery>
  static __device__ __forceinline__ void load(const StepParams& p, const Place& at, int t, int pass, Keys& keys) {
    if constexpr (kConvolved) {
      if constexpr (kQuery) load_keys(Mixer<c>::staged(t), 0, at, pass, keys.q);
      load_keys(Mixer<c>::staged(t), c.staged_key(), at, pass, keys.k);
    } else {
      const long long q = token_offset(p.q_strides, at, t) + at.h * p.q_strides.key_head;
      const long long k = token_offset(p.k_strides, at, t) + at.h * p.k_strides.key_head;
      if constexpr (kQuery) load_keys(p.q, q, at, pass, keys.q);
      load_keys(p.k, k, at, pass, keys.k);
    }
    if constexpr (kChannelGate) {
      const int first = at.first_key + pass * c.block_k;
      const void* gate = device::element<c.gate_dtype>(p.gate, head_offset(p.gate_strides, at, t) + first);
#pragma unroll
      for (int i = 0; i < kKeys; ++i) {
        keys.gate[i] = 0;
        if (!kMaskK || key_inside(at, pass, i))
          keys.gate[i] = device::load_word<c.gate_dtype, kQuick>(gate, key_distance(i));
      }
    }
  }

  static __device__ __forceinline__ void load(const StepParams& p, const Place& at, int t, Scalars& scalars) {
    if constexpr (kHeadGate) {
      scalars.gate = device::load_word<c.gate_dtype, kQuick>(p.gate, head_offset(p.gate_strides, at, t));
    }
    if constexpr (c.beta != Beta::none) {
      scalars.beta = device::load_word<c.beta_dtype, kQuick>(p.beta, head_offset(p.beta_strides, at, t));
    }
    if constexpr (kConvolved) {
      const float* start = Mixer<c>::staged(t) + c.staged_value() + at.first_value - Mixer<c>::first_column();
#pragma unroll
      for (int n = 0; n < kValues; ++n) {
        scalars.v[n] = !kMaskV || value_inside(at, n) ? start[value_distance(n)] : 0.0f;
      }
    } else {
      const InputElement* values = static_cast<const InputElement*>(p.v);
      values += head_offset(p.v_strides, at, t) + at.first_value;
      if constexpr (kQuick) device::settle(values);
#pragma unroll
      for (int n = 0; n < kValues; ++n) {
        scalars.v[n] = 0;
        if (kMaskV && !value_inside(at, n)) continue;
        scalars.v[n] = device::load_word<c.io_dtype, kQuick>(values, value_distance(n));
      }
    }
  }

  // ---- phase 3: norms, gate, beta -----------------------------------------------------------------------------

  // alpha of a gate per head; 1 for none and for gates per channel (whose decay is in Factors).
  static __device__ __forceinline__ float head_alpha(const Scalars& scalars, const GateParameters& gate) {
    if constexpr (kHeadGate) {
      return decay<c>(device::number<c.gate_dtype>(scalars.gate), gate.rate, gate.bias);
    } else {
      return 1.0f;
    }
  }

  static __device__ __forceinline__ float write_strength(const Scalars& scalars) {
    if constexpr (c.beta == Beta::none) {
      return 1.0f;
    } else {
      return gdn::write_strength<c>(device::number<c.beta_dtype>(scalars.beta));
    }
  }

  template <bool kQuery>
  static __device__ __forceinline__ void unpack(const StepParams& p, const Place& at, int pass,
                                                const GateParameters& gate, const Keys& keys, Factors& factors) {
#pragma unroll
    for (int access = 0; access < kKeyAccesses; ++access) {
      const int i = access * c.key_vector;
      if constexpr (kQuery) device::unpack<c.input_dtype(), c.key_vector>(keys.q[access], factors.q + i);
      device::unpack<c.input_dtype(), c.key_vector>(keys.k[access], factors.k + i);
    }
    if constexpr (kChannelGate) {
      const void* biases = nullptr;
      if constexpr (kGateParameters) {
        const long long first = static_cast<long long>(at.hv) * kK + at.first_key + pass * c.block_k;
        biases = device::element<c.dt_bias_dtype>(p.dt_bias, first);
      }
#pragma unroll
      for (int i = 0; i < kKeys; ++i) {
        factors.decay[i] = 0.0f;
        if (!kMaskK || key_inside(at, pass, i)) {
          float bias = 0.0f;
          if constexpr (kGateParameters) bias = device::load_scalar<c.dt_bias_dtype>(biases, key_distance(i));
          factors.decay[i] = decay<c>(device::number<c.gate_dtype>(keys.gate[i]), gate.rate, bias);
        }
      }
    }
  }

  // ---- phase 4: sums over K ------------------------------------------------------------------------------------

  // Access (row, column) in fp32: where it is, or in `buffer`.
  static __device__ __forceinline__ const float* elements(const Packed& tile, int row, int column,
                                                          float (&buffer)[kVector]) {
    if constexpr (c.state_dtype == DType::f32) return tile.words[row][column];
    device::unpack<c.state_dtype, kVector>(tile.words[row][column], buffer);
    return buffer;
  }
  static __device__ __forceinline__ const float* elements(const State& tile, int row, int column, float (&)[kVector]) {
    return tile.numbers[row][column];
  }

  template <bool kQuery, typename Tile>
  static __device__ __forceinline__ void accumulate(const Tile& tile, const Factors& factors, Sums& sums) {
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      if constexpr (kQuery) sums.q_k = fmaf(factors.q[i], factors.k[i], sums.q_k);
      if constexpr (kNorm && kQuery) sums.q_q = fmaf(factors.q[i], factors.q[i], sums.q_q);
      if constexpr (kNorm) sums.k_k = fmaf(factors.k[i], factors.k[i], sums.k_k);
    }
#pragma unroll
    for (int row = 0; row < kTileRows; ++row) {
#pragma unroll
      for (int column = 0; column < kTileColumns; ++column) {
        float buffer[kVector];
        const float* state = elements(tile, row, column, buffer);
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
          const int i = element_key(row, e);
          const int n = element_value(column, e);
          const float decayed = kChannelGate ? state[e] * factors.decay[kChannelGate ? i : 0] : state[e];
          sums.state_k[n] = fmaf(decayed, factors.k[i], sums.state_k[n]);
          if constexpr (kQuery) sums.state_q[n] = fmaf(decayed, factors.q[i], sums.state_q[n]);
        }
      }
    }
  }

  template <bool kQuery>
  static __device__ __forceinline__ void finish_sums(Sums& sums) {
    if constexpr (kQuery) sums.q_k = device::sum_over_lanes<c.lanes_k, kKeyStride>(sums.q_k);
    if constexpr (kNorm && kQuery) sums.q_q = device::sum_over_lanes<c.lanes_k, kKeyStride>(sums.q_q);
    if constexpr (kNorm) sums.k_k = device::sum_over_lanes<c.lanes_k, kKeyStride>(sums.k_k);
#pragma unroll
    for (int n = 0; n < kValues; ++n) {
      sums.state_k[n] = device::sum_over_lanes<c.lanes_k, kKeyStride>(sums.state_k[n]);
      if constexpr (kQuery) sums.state_q[n] = device::sum_over_lanes<c.lanes_k, kKeyStride>(sums.state_q[n]);
    }
  }

  // ---- phase 5: delta and output -------------------------------------------------------------------------------

  // d = beta (v - alpha S^T kn), times k's factor: what the update multiplies raw k with.
  static __device__ __forceinline__ void find_delta(const Place& at, const Sums& sums, const Scalars& scalars,
                                                    float alpha, float beta, float (&delta)[kValues]) {
    const float factor_k = norm_factor<c>(sums.k_k);
#pragma unroll
    for (int n = 0; n < kValues; ++n) {
      delta[n] = 0.0f;
      if (!kMaskV || value_inside(at, n)) {
        const float v = device::number<c.input_dtype()>(scalars.v[n]);
        delta[n] = factor_k * (beta * fmaf(-(alpha * factor_k), sums.state_k[n], v));
      }
    }
  }

  // o = alpha S^T qs + (qs.kn) d into memory.
  static __device__ __forceinline__ void emit(const StepParams& p, const Place& at, int t, const Sums& sums,
                                              float alpha, const float (&delta)[kValues]) {
    const float factor_q = norm_factor<c>(sums.q_q) * c.scale;
    const float q_k = sums.q_k * factor_q;
    float output[kValues];
#pragma unroll
    for (int n = 0; n < kValues; ++n) output[n] = fmaf(q_k, delta[n], alpha * factor_q * sums.state_q[n]);
    store_output(p, at, t, output);
  }

  // All lanes_k lanes hold a column's result. Each stores another one, so that an access covers whole sectors. A gated
  // norm needs the whole head first: its outputs are kept.
  static __device__ __forceinline__ void store_output(const StepParams& p, const Place& at, int t,
                                                      const float (&output)[kValues]) {
    // (Found here and not where it is used: else ptxas would rather free registers and load q behind the sums of k.)
    const long long offset = token_offset(p.o_strides, at, t) + at.hv * p.o_strides.key_head;
    void* start = device::element<c.output_dtype>(p.o, offset + at.first_value);
    constexpr int kGroup = c.lanes_k < kValues ? c.lanes_k : kValues;
    // Selection without branches spares 40 instructions and, at lane_k == m, an array in local memory. But over
    // branches the compiler keeps a 16-bit state packed and unpacks it again for the update; else it holds 32-bit words
    // (in layout kv 202 registers instead of 160).
    constexpr bool kBranches = c.state_dtype != DType::f32 && c.tokens == 1 && !c.is_mixer();
#pragma unroll
    for (int group = 0; group < kValues; group += kGroup) {
      float own = output[group];
#pragma unroll
      for (int m = 1; m < kGroup; ++m) {
        if (kValues % kGroup != 0 && group + m >= kValues) break;
        if constexpr (kBranches) {
          if (at.lane_k == m) {
            own = output[group + m];
            asm volatile("" : "+f"(own));
          }
        } else {
          own = at.lane_k >= m ? output[group + m] : own;
        }
      }
      const int n = group + at.lane_k;
      if (n < kValues && (!kMaskV || value_inside(at, n))) {
        if constexpr (kGatedNorm) {
          Mixer<c>::keep(t, at.first_value + value_distance(n), own);
        } else {
          device::store_scalar<c.output_dtype>(start, value_distance(n), own);
        }
      }
    }
  }

  // ---- phase 6: update -------------------------------------------------------------------------------------------

  // Access (row, column) of alpha S + kn d^T; `delta` holds d times the factor from k to kn.
  template <typename Tile>
  static __device__ __forceinline__ void updated(const Tile& tile, int row, int column, const Factors& factors,
                                                 float alpha, const float* delta, float (&state)[kVector]) {
    float buffer[kVector];
    const float* before = elements(tile, row, column, buffer);
#pragma unroll
    for (int e = 0; e < kVector; ++e) {
      const int i = element_key(row, e);
      const float decay = kChannelGate ? factors.decay[kChannelGate ? i : 0] : alpha;
      state[e] = fmaf(factors.k[i], delta[element_value(column, e)], decay * before[e]);
    }
  }

  // Access (row, column), rounded once, into memory. `start` is the lane's first element of the pass.
  static __device__ __forceinline__ void store(StateElement* start, const Place& at, int pass, int row, int column,
                                               const float (&state)[kVector]) {
    if constexpr (kMaskK || kMaskV) {
      if (!access_inside(at, pass, row, column)) return;
    }
    StateElement* target = start + access_distance(row, column);
    if constexpr (c.state_dtype == DType::f32) {
      device::store_words<kAccessBytes, c.cache_hint>(target, state);
    } else {
      StateWord words[kWords];
      device::pack<c.state_dtype>(state, words);
      device::store_words<kAccessBytes, c.cache_hint>(target, words);
    }
  }

  // S = alpha S + kn d^T, straight into memory.
  template <typename Tile>
  static __device__ __forceinline__ void update_memory(StateElement* start, const Place& at, int pass, const Tile& tile,
                                                       const Factors& factors, float alpha,
                                                       const float (&delta)[kValues]) {
    if constexpr (kPasses > 1) start += pass_distance(pass);
#pragma unroll
    for (int column = 0; column < kTileColumns; ++column) {
#pragma unroll
      for (int row = 0; row < kTileRows; ++row) {
        float state[kVector];
        updated(tile, row, column, factors, alpha, delta, state);
        store(start, at, pass, row, column, state);
      }
    }
  }

  // The same in registers.
  static __device__ __forceinline__ void update(State& tile, const Factors& factors, float alpha, const float* delta) {
#pragma unroll
    for (int row = 0; row < kTileRows; ++row) {
#pragma unroll
      for (int column = 0; column < kTileColumns; ++column) {
        float state[kVector];
        updated(tile, row, column, factors, alpha, delta, state);
#pragma unroll
        for (int e = 0; e < kVector; ++e) tile.numbers[row][column][e] = state[e];
      }
    }
  }

  static __device__ __forceinline__ void unpack(const Packed& packed, State& state) {
#pragma unroll
    for (int row = 0; row < kTileRows; ++row) {
#pragma unroll
      for (int column = 0; column < kTileColumns; ++column) {
        device::unpack<c.state_dtype, kVector>(packed.words[row][column], state.numbers[row][column]);
      }
    }
  }

  static __device__ __forceinline__ void store_state(StateElement* start, const Place& at, int pass,
                                                     const State& tile) {
    if constexpr (kPasses > 1) start += pass_distance(pass);
#pragma unroll
    for (int column = 0; column < kTileColumns; ++column) {
#pragma unroll
      for (int row = 0; row < kTileRows; ++row) store(start, at, pass, row, column, tile.numbers[row][column]);
    }
  }
};

}  // namespace gdnjit::gdn

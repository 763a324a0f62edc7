// gdn.step: one decode step of Gated DeltaNet (T = 1), every state byte read once and written once.
//
// A warp owns warp_v columns of V of one head and all of K; nothing is shared between warps. Its 32 lanes form a
// grid of lanes_k x lanes_v: a column's sum over K lives in lanes_k lanes and is finished by shuffles.
//
// The output comes from the one-pass form, equal to the recurrence in exact arithmetic (alpha = exp(g)):
//   d = beta (v - alpha S^T k),   S' = alpha S + k d^T,   o = S'^T q = alpha S^T q + (q.k) d
// so S^T k and S^T q are summed together and no third walk over the state is needed. A gate per key channel
// multiplies k and q of the two sums instead of their results.
//
// If block_k < K the state is walked twice in passes of block_k keys (sums, then update); the second read of a
// tile usually hits the L2.
#pragma once

#include "device/math.cuh"
#include "device/memory.cuh"
#include "device/warp.cuh"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Step {
  static_assert(c.fault() == nullptr, "the tiles do not fit the problem");
  static_assert(c.tokens == 1, "this kernel serves one token");
  static_assert(c.heads_v % c.heads_k == 0);

  // Constants are enumerators: a static member, even one never used, becomes a variable of the compiled module.
  enum : bool {
    kIsVk = c.state_layout == StateLayout::vk,
    kChannelGate = gate_is_per_channel(c.gate),
    kPool = c.state_store == StateStore::pool,
    kMaskK = c.head_dim_k % c.block_k != 0,
    kMaskV = c.head_dim_v % c.block_v != 0,
  };
  enum : int {
    kThreads = c.threads(),
    kGroup = c.heads_v / c.heads_k,  // r
    kK = c.head_dim_k,
    kV = c.head_dim_v,
    kKeys = c.lane_keys(),      // keys of a lane in one pass
    kValues = c.lane_values(),  // columns of a lane
    kValueChunk = c.value_chunk(),
    // One access holds state_vector elements: keys of one column (vk) or columns of one key (kv).
    kVector = c.state_vector,
    kWords = device::words_of<c.state_dtype>(c.state_vector),
    kTileRows = kIsVk ? c.lane_keys() / c.state_vector : c.lane_keys(),         // accesses along K
    kTileColumns = kIsVk ? c.lane_values() : c.lane_values() / c.state_vector,  // accesses along V
  };
  using Word = device::Word<c.state_dtype>;

  // The state of one pass as loaded; 16-bit states stay two to a register until used.
  struct Tile {
    Word words[kTileRows][kTileColumns][kWords];
  };

  // q, k and the per-channel decay of a lane's keys in one pass.
  struct Keys {
    float q[kKeys];
    float k[kKeys];
    float decay[kChannelGate ? kKeys : 1];
  };

  // Where a lane works. Everything beyond first_key and first_value is a constant distance, so accesses need one
  // address register and immediate offsets.
  struct Place {
    int b, hv, h, j;  // sequence; value head, as key head h and place j in its group
    int lane_k;
    int first_key;         // the lane's first key of a pass
    int first_value;       // the lane's first column
    const void* state_in;  // the head's state, at (first_key, first_value)
    void* state_out;
    bool padded;  // the row holds no sequence
    bool writes_state;
  };

  // Sums over K, of q and k as they came: the norms' factors are applied to the results, so that the sums need not
  // wait for them.
  struct Sums {
    float state_k[kValues];  // S^T k, for the lane's columns
    float state_q[kValues];  // S^T q
    float q_k;               // q.k
    float q_q, k_k;          // squares, for the norms
  };

  // What turns sums over raw q and k into those over qs and kn.
  struct Factors {
    float q;  // of l2norm, times scale
    float k;
  };

  // ---- indices -----------------------------------------------------------------------------------------------

  // Distance of a lane's i-th key from its first: chunks of key_chunk keys, dealt to the lanes in turn.
  static constexpr int key_distance(int i) { return (i / c.key_chunk) * (c.lanes_k * c.key_chunk) + i % c.key_chunk; }
  // Distance of a lane's n-th column from its first, dealt likewise in chunks of value_chunk.
  static constexpr int value_distance(int n) {
    return (n / kValueChunk) * (c.lanes_v() * kValueChunk) + n % kValueChunk;
  }

  // Chunks divide K and V, so a chunk is inside or outside as a whole.
  static __device__ __forceinline__ bool key_inside(const Place& at, int pass, int i) {
    return !kMaskK || at.first_key + pass * c.block_k + key_distance(i) < kK;
  }
  static __device__ __forceinline__ bool value_inside(const Place& at, int n) {
    return !kMaskV || at.first_value + value_distance(n) < kV;
  }

  static __device__ __forceinline__ long long head_offset(const HeadStrides& strides, const Place& at) {
    return at.b * strides.batch + at.h * strides.key_head + at.j * strides.group;
  }

  // The lane's first key and column in access (row, column); its elements follow along K (vk) or V (kv).
  static constexpr int element_key(int row, int e) { return kIsVk ? row * kVector + e : row; }
  static constexpr int element_value(int column, int e) { return kIsVk ? column : column * kVector + e; }
  // Distance in elements of that access from the lane's first.
  static constexpr long long access_distance(int row, int column) {
    const long long key = key_distance(element_key(row, 0));
    const long long value = value_distance(element_value(column, 0));
    return kIsVk ? value * kK + key : key * kV + value;
  }
  static constexpr long long pass_distance(int pass) {
    return static_cast<long long>(pass) * c.block_k * (kIsVk ? 1 : c.head_dim_v);
  }

  // ---- phase 1: where --------------------------------------------------------------------------------------

  static __device__ __forceinline__ Place locate(const StepParams& p) {
    Place at;
    const int lane = static_cast<int>(threadIdx.x) % device::kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / device::kWarpLanes;
    // Neighbouring lanes lie along the contiguous dimension of the state.
    at.lane_k = kIsVk ? lane % c.lanes_k : lane / c.lanes_v();
    const int lane_v = kIsVk ? lane / c.lanes_k : lane % c.lanes_v();

    const unsigned block = blockIdx.x;
    const unsigned head_block = block / c.blocks_v();
    at.hv = static_cast<int>(head_block % c.heads_v);
    at.b = c.batch == 1 ? 0 : static_cast<int>(head_block / c.heads_v);
    at.h = c.head_map == HeadMap::grouped ? at.hv / kGroup : at.hv % c.heads_k;
    at.j = c.head_map == HeadMap::grouped ? at.hv % kGroup : at.hv / c.heads_k;
    at.first_key = at.lane_k * c.key_chunk;
    at.first_value = static_cast<int>(block % c.blocks_v()) * c.block_v + warp * c.warp_v() + lane_v * kValueChunk;

    long long read_row = at.b;
    long long write_row = at.b;
    at.padded = false;
    at.writes_state = true;
    if constexpr (kPool) {
      read_row = device::load_index<c.slot_dtype>(p.read_slot, at.b * p.read_slot_stride);
      write_row = device::load_index<c.slot_dtype>(p.write_slot, at.b * p.write_slot_stride);
      constexpr long long kFirstSlot = c.pad_sentinel == PadSentinel::zero ? 1 : 0;
      at.padded = read_row < kFirstSlot;
      at.writes_state = write_row >= kFirstSlot;
    }
    const long long lane_start = kIsVk ? static_cast<long long>(at.first_value) * kK + at.first_key
                                       : static_cast<long long>(at.first_key) * kV + at.first_value;
    at.state_in =
        device::element<c.state_dtype>(p.state_in, read_row * p.state_in_row + at.hv * p.state_in_head + lane_start);
    at.state_out = device::element<c.state_dtype>(p.state_out,
                                                  write_row * p.state_out_row + at.hv * p.state_out_head + lane_start);
    return at;
  }

  // ---- phase 2: loads --------------------------------------------------------------------------------------

  static __device__ __forceinline__ void load_state(const Place& at, int pass, Tile& tile) {
    const void* start = device::element<c.state_dtype>(at.state_in, pass_distance(pass));
#pragma unroll
    for (int column = 0; column < kTileColumns; ++column) {
#pragma unroll
      for (int row = 0; row < kTileRows; ++row) {
        Word(&words)[kWords] = tile.words[row][column];
        if (key_inside(at, pass, element_key(row, 0)) && value_inside(at, element_value(column, 0))) {
          const void* source = device::element<c.state_dtype>(start, access_distance(row, column));
          device::load_vector<c.state_dtype, kVector, c.cache_hint>(source, words);
        } else {
#pragma unroll
          for (int w = 0; w < kWords; ++w) words[w] = 0;
        }
      }
    }
  }

  // A lane's keys of the vector that starts at `base`.
  static __device__ __forceinline__ void load_keys(const void* base, long long offset, const Place& at, int pass,
                                                   float (&values)[kKeys]) {
    const void* start = device::element<c.io_dtype>(base, offset + at.first_key + pass * c.block_k);
#pragma unroll
    for (int chunk = 0; chunk < kKeys; chunk += c.key_chunk) {
      if (key_inside(at, pass, chunk)) {
        device::load_elements<c.io_dtype, c.key_vector, c.key_chunk>(start, key_distance(chunk), values + chunk);
      } else {
#pragma unroll
        for (int e = 0; e < c.key_chunk; ++e) values[chunk + e] = 0.0f;
      }
    }
  }

  static __device__ __forceinline__ void load_qk(const StepParams& p, const Place& at, int pass, Keys& keys) {
    load_keys(p.q, at.b * p.q_batch + at.h * p.q_head, at, pass, keys.q);
    load_keys(p.k, at.b * p.k_batch + at.h * p.k_head, at, pass, keys.k);
  }

  // ---- phase 3: norms, gate, beta -----------------------------------------------------------------------------

  static __device__ __forceinline__ float sum_over_keys(float value) {
    constexpr int kStride = kIsVk ? 1 : c.lanes_v();  // between lanes that share a column
    return device::sum_over_lanes<c.lanes_k, kStride>(value);
  }

  // The factor that turns x into l2norm(x), from the sum of its squares.
  static __device__ __forceinline__ float norm_factor(float sum_squares) {
    if constexpr (c.norm == Norm::sumsq_eps) {
      return device::rsqrt_approx(sum_squares + c.norm_eps);
    } else if constexpr (c.norm == Norm::max_eps) {
      return device::reciprocal_approx(fmaxf(device::sqrt_approx(sum_squares), c.norm_eps));
    } else if constexpr (c.norm == Norm::add_eps) {
      return device::reciprocal_approx(device::sqrt_approx(sum_squares) + c.norm_eps);
    } else {
      return 1.0f;
    }
  }

  static __device__ __forceinline__ Factors norm_factors(const Sums& sums) {
    return {norm_factor(sums.q_q) * c.scale, norm_factor(sums.k_k)};
  }

  // alpha from the gate's input x; `decay_rate` is exp(A_log), `bias` dt_bias (only where the gate has them).
  static __device__ __forceinline__ float alpha_of(float x, float decay_rate, float bias) {
    if constexpr (c.gate == Gate::alpha) {
      return x;
    } else if constexpr (c.gate == Gate::log || c.gate == Gate::channel_log) {
      return device::exponential(x);
    } else if constexpr (c.gate == Gate::channel_sigmoid) {
      return device::exponential(c.gate_lower_bound * device::sigmoid(decay_rate * (x + bias)));
    } else {
      return device::exponential(-decay_rate * device::softplus(x + bias));
    }
  }

  static __device__ __forceinline__ float decay_rate(const StepParams& p, const Place& at) {
    if constexpr (gate_has_parameters(c.gate))
      return device::exponential_split(device::load_scalar<c.a_log_dtype>(p.a_log, at.hv));
    return 0.0f;
  }

  // alpha of a gate per head; 1 for none and for gates per channel (whose decay is in Keys).
  static __device__ __forceinline__ float head_alpha(const StepParams& p, const Place& at) {
    if constexpr (c.gate == Gate::none || kChannelGate) {
      return 1.0f;
    } else {
      const float x = device::load_scalar<c.gate_dtype>(p.gate, head_offset(p.gate_strides, at));
      float bias = 0.0f;
      if constexpr (gate_has_parameters(c.gate)) bias = device::load_scalar<c.dt_bias_dtype>(p.dt_bias, at.hv);
      return alpha_of(x, decay_rate(p, at), bias);
    }
  }

  static __device__ __forceinline__ void load_channel_decay(const StepParams& p, const Place& at, int pass,
                                                            Keys& keys) {
    if constexpr (kChannelGate) {
      const float rate = decay_rate(p, at);
      const int first = at.first_key + pass * c.block_k;
      const void* gate = device::element<c.gate_dtype>(p.gate, head_offset(p.gate_strides, at) + first);
      const void* biases = nullptr;
      if constexpr (gate_has_parameters(c.gate)) {
        biases = device::element<c.dt_bias_dtype>(p.dt_bias, static_cast<long long>(at.hv) * kK + first);
      }
#pragma unroll
      for (int i = 0; i < kKeys; ++i) {
        keys.decay[i] = 0.0f;
        if (key_inside(at, pass, i)) {
          const float x = device::load_scalar<c.gate_dtype>(gate, key_distance(i));
          float bias = 0.0f;
          if constexpr (gate_has_parameters(c.gate)) {
            bias = device::load_scalar<c.dt_bias_dtype>(biases, key_distance(i));
          }
          keys.decay[i] = alpha_of(x, rate, bias);
        }
      }
    }
  }

  static __device__ __forceinline__ float write_strength(const StepParams& p, const Place& at) {
    if constexpr (c.beta == Beta::none) {
      return 1.0f;
    } else {
      const float x = device::load_scalar<c.beta_dtype>(p.beta, head_offset(p.beta_strides, at));
      if constexpr (c.beta == Beta::given) return x;
      if constexpr (c.beta == Beta::sigmoid) return device::sigmoid(x);
      return 2.0f * device::sigmoid(x);
    }
  }

  // ---- phase 4: sums over K ------------------------------------------------------------------------------------

  static __device__ __forceinline__ void accumulate(const Tile& tile, const Keys& keys, Sums& sums) {
#pragma unroll
    for (int i = 0; i < kKeys; ++i) {
      sums.q_k = fmaf(keys.q[i], keys.k[i], sums.q_k);
      if constexpr (c.norm != Norm::none) {
        sums.q_q = fmaf(keys.q[i], keys.q[i], sums.q_q);
        sums.k_k = fmaf(keys.k[i], keys.k[i], sums.k_k);
      }
    }
#pragma unroll
    for (int row = 0; row < kTileRows; ++row) {
#pragma unroll
      for (int column = 0; column < kTileColumns; ++column) {
        float state[kVector];
        device::unpack<c.state_dtype, kVector>(tile.words[row][column], state);
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
          const int i = element_key(row, e);
          const int n = element_value(column, e);
          const float decayed = kChannelGate ? state[e] * keys.decay[kChannelGate ? i : 0] : state[e];
          sums.state_k[n] = fmaf(decayed, keys.k[i], sums.state_k[n]);
          sums.state_q[n] = fmaf(decayed, keys.q[i], sums.state_q[n]);
        }
      }
    }
  }

  static __device__ __forceinline__ void finish_sums(Sums& sums) {
    sums.q_k = sum_over_keys(sums.q_k);
    if constexpr (c.norm != Norm::none) {
      sums.q_q = sum_over_keys(sums.q_q);
      sums.k_k = sum_over_keys(sums.k_k);
    }
#pragma unroll
    for (int n = 0; n < kValues; ++n) {
      sums.state_k[n] = sum_over_keys(sums.state_k[n]);
      sums.state_q[n] = sum_over_keys(sums.state_q[n]);
    }
  }

  // ---- phase 5: delta and output -------------------------------------------------------------------------------

  // d = beta (v - alpha S^T kn), and o = alpha S^T qs + (qs.kn) d into memory. Leaves d times k's factor in `delta`,
  // which is what the update multiplies raw k with.
  static __device__ __forceinline__ void emit(const StepParams& p, const Place& at, const Sums& sums, float alpha,
                                              float beta, float (&delta)[kValues]) {
    const Factors factors = norm_factors(sums);
    const float q_k = sums.q_k * factors.q;
    const void* v_start = device::element<c.io_dtype>(p.v, head_offset(p.v_strides, at) + at.first_value);
    float output[kValues];
#pragma unroll
    for (int n = 0; n < kValues; ++n) {
      delta[n] = 0.0f;
      if (value_inside(at, n)) {
        const float v = device::load_scalar<c.io_dtype>(v_start, value_distance(n));
        delta[n] = factors.k * (beta * (v - alpha * factors.k * sums.state_k[n]));
      }
      output[n] = fmaf(q_k, delta[n], alpha * factors.q * sums.state_q[n]);
    }
    store_output(p, at, output);
  }

  // All lanes_k lanes hold a column's result. Each stores another one, so that an access covers whole sectors.
  static __device__ __forceinline__ void store_output(const StepParams& p, const Place& at,
                                                      const float (&output)[kValues]) {
    void* start = device::element<c.output_dtype>(p.o, at.b * p.o_batch + at.hv * p.o_head + at.first_value);
#pragma unroll
    for (int group = 0; group < kValues; group += c.lanes_k) {
      float own = output[group];
#pragma unroll
      for (int m = 1; m < c.lanes_k && group + m < kValues; ++m) own = at.lane_k == m ? output[group + m] : own;
      const int n = group + at.lane_k;
      if (n < kValues && value_inside(at, n)) device::store_scalar<c.output_dtype>(start, value_distance(n), own);
    }
  }

  // ---- phase 6: update -------------------------------------------------------------------------------------------

  // S = alpha S + kn d^T, rounded once, into memory; `delta` holds d times the factor from k to kn.
  static __device__ __forceinline__ void update(const Place& at, int pass, const Tile& tile, const Keys& keys,
                                                float alpha, const float (&delta)[kValues]) {
    if (kPool && !at.writes_state) return;
    void* start = device::element<c.state_dtype>(at.state_out, pass_distance(pass));
#pragma unroll
    for (int column = 0; column < kTileColumns; ++column) {
#pragma unroll
      for (int row = 0; row < kTileRows; ++row) {
        if (!key_inside(at, pass, element_key(row, 0)) || !value_inside(at, element_value(column, 0))) continue;
        float state[kVector];
        device::unpack<c.state_dtype, kVector>(tile.words[row][column], state);
#pragma unroll
        for (int e = 0; e < kVector; ++e) {
          const int i = element_key(row, e);
          const float decay = kChannelGate ? keys.decay[kChannelGate ? i : 0] : alpha;
          state[e] = fmaf(keys.k[i], delta[element_value(column, e)], decay * state[e]);
        }
        Word words[kWords];
        device::pack<c.state_dtype>(state, words);
        void* target = device::element<c.state_dtype>(start, access_distance(row, column));
        device::store_vector<c.state_dtype, kVector, c.cache_hint>(target, words);
      }
    }
  }

  // ---- the kernel ------------------------------------------------------------------------------------------------

  // The whole state tile of the warp stays in registers.
  static __device__ __forceinline__ void run_single_pass(const StepParams& p, const Place& at) {
    Tile tile;
    load_state(at, 0, tile);  // first: these loads take longest and depend on nothing computed here
    Keys keys;
    load_qk(p, at, 0, keys);
    const float alpha = head_alpha(p, at);
    const float beta = write_strength(p, at);
    load_channel_decay(p, at, 0, keys);

    Sums sums = {};
    accumulate(tile, keys, sums);
    finish_sums(sums);
    float delta[kValues];
    emit(p, at, sums, alpha, beta, delta);
    update(at, 0, tile, keys, alpha, delta);
  }

  // Passes of block_k keys: sums, then update.
  static __device__ __forceinline__ void run_two_walks(const StepParams& p, const Place& at) {
    const float alpha = head_alpha(p, at);
    const float beta = write_strength(p, at);
    Sums sums = {};
    Tile tile;
    Keys keys;
#pragma unroll 1
    for (int pass = 0; pass < c.passes(); ++pass) {
      load_state(at, pass, tile);
      load_qk(p, at, pass, keys);
      load_channel_decay(p, at, pass, keys);
      accumulate(tile, keys, sums);
    }
    finish_sums(sums);
    float delta[kValues];
    emit(p, at, sums, alpha, beta, delta);

#pragma unroll 1
    for (int pass = 0; pass < c.passes(); ++pass) {
      load_state(at, pass, tile);
      load_keys(p.k, at.b * p.k_batch + at.h * p.k_head, at, pass, keys.k);
      load_channel_decay(p, at, pass, keys);
      update(at, pass, tile, keys, alpha, delta);
    }
  }

  static __device__ __forceinline__ void run(const StepParams& p) {
    const Place at = locate(p);
    if (kPool && at.padded) {
      if constexpr (c.pad_policy == PadPolicy::zero) {
        const float zeros[kValues] = {};
        store_output(p, at, zeros);
      }
      return;
    }
    if constexpr (c.passes() == 1) {
      run_single_pass(p, at);
    } else {
      run_two_walks(p, at);
    }
  }
};

}  // namespace gdnjit::gdn

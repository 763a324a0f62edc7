// The convolution of a mixer: x_t = silu(bias + sum_j weight_j input_(t + j + 1 - width)) for every channel of q, k and
// v, a thread a channel, all tokens of the call at once.
//
// A block convolves q and k of its key head and its own columns of v into shared memory, and later stores their state:
// the newest width - 1 inputs, behind the last token and, where tokens' states are kept, behind each. Which of its
// channels it may store, and when nobody reads them any more, is the mixer's business.
#pragma once

#include "device/memory.cuh"
#include "gdn/mixer_params.cuh"
#include "gdn/mixer_plan.cuh"
#include "gdn/walk.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Convolution : MixerPlan<c> {
  using Base = Token<c>;
  using Ways = Walk<c>;
  using Place = typename Base::Place;
  using Plan = MixerPlan<c>;

  enum : int { kQuery, kKey, kValue, kParts };  // channels lie in this order in weights and states
  enum : int {
    kWidth = c.conv_width,
    kPast = kWidth - 1,  // inputs that a state holds, the oldest first
    kK = c.head_dim_k,
    kTokens = c.tokens,
    kChunks = (kTokens + 3) / 4,
    kFirstStaged = c.write_output ? kQuery : kKey,                    // the query is there for the output
    kMostChannels = kK > c.block_columns() ? kK : c.block_columns(),  // of a part
    kAhead = (kTokens + kChunks - 1) / kChunks,  // tokens whose inputs are loaded before the first is needed
    kWeightAccesses = kWidth % 2 == 0 ? 1 : kWidth,
    kWeightWords = device::words_of<c.conv_dtype>(kWidth / kWeightAccesses),
  };
  enum : bool {
    kStoresSteps = c.state_steps != StatePlace::none,
    // What a thread's channels of all parts read is loaded at once, as far as registers go.
    kPartsAtOnce = kTokens == 1 || (kTokens <= 4 && c.turns == 1 && dtype_bytes(c.state_dtype) == 4),
  };

  // ---- where -------------------------------------------------------------------------------------------------------

  // Where a channel lies: of part `part`, number m of the block.
  struct Channel {
    const void* inputs;  // of token 0
    long long token;     // from one token to the next
    long long index;     // in the order of weights and states: all of q, all of k, all of v
  };

  static __device__ __forceinline__ int count(int part) { return part == kValue ? Plan::columns() : kK; }

  static __device__ __forceinline__ Channel channel(const MixerParams& p, const Place& at, int part, int m) {
    if (part == kValue) {
      const HeadStrides& strides = p.v_strides;
      const int column = Plan::first_column();
      const long long offset = at.b * strides.batch + at.h * strides.key_head + at.j * strides.group + column;
      const long long first = 2LL * c.heads_k * kK + static_cast<long long>(at.hv) * c.head_dim_v + column;
      return {device::element<c.io_dtype>(device::element<c.io_dtype>(p.v, offset), m), strides.token, first + m};
    }
    const bool is_key = part == kKey;
    const HeadStrides& strides = is_key ? p.k_strides : p.q_strides;
    const long long offset = at.b * strides.batch + at.h * strides.key_head;
    const long long first = static_cast<long long>(is_key ? c.heads_k + at.h : at.h) * kK;
    const void* inputs = device::element<c.io_dtype>(is_key ? p.k : p.q, offset);
    return {device::element<c.io_dtype>(inputs, m), strides.token, first + m};
  }

  // Its place in a staged row.
  static __device__ __forceinline__ int place(int part, int m) {
    if (part == kValue) return c.staged_value() + m;
    return (part == kKey ? c.staged_key() : 0) + c.staged_place(m);
  }

  // ---- what a channel reads ----------------------------------------------------------------------------------------

  // As it lies in memory, so that loads stay in flight until all are issued.
  struct Filter {
    device::Word<c.conv_dtype> weight[kWeightAccesses][kWeightWords];
    device::Word<c.conv_dtype> bias;
  };
  struct Past {
    device::Word<c.conv_state_dtype> inputs[kPast];  // the state, the oldest first
  };
  struct Ahead {
    device::Word<c.io_dtype> inputs[kAhead];  // of consecutive tokens
  };

  static __device__ __forceinline__ void load(const MixerParams& p, const Channel& channel, Filter& filter) {
    constexpr int kVector = kWidth / kWeightAccesses;
    const void* weights = device::element<c.conv_dtype>(p.conv_weight, channel.index * kWidth);
#pragma unroll
    for (int i = 0; i < kWeightAccesses; ++i) {
      device::load_vector<c.conv_dtype, kVector, device::CacheHint::normal>(
          device::element<c.conv_dtype>(weights, i * kVector), filter.weight[i]);
    }
    if constexpr (c.conv_bias) filter.bias = device::load_word<c.conv_dtype>(p.conv_bias, channel.index);
  }

  static __device__ __forceinline__ void load(const MixerParams& p, const Place& at, const Channel& channel,
                                              Past& past) {
    const bool accepted = c.num_accepted != StatePlace::none && at.accepted > 0;
    const ConvStrides& strides = accepted ? p.conv_accepted_strides : p.conv_in_strides;
    long long row = at.row_in * strides.row;
    if (accepted) row += (at.accepted - 1) * strides.token;
    const void* states = device::element<c.conv_state_dtype>(accepted ? p.conv_accepted : p.conv_in, row);
#pragma unroll
    for (int j = 0; j < kPast; ++j) {
      const long long offset = channel.index * strides.channel + j * strides.input;
      past.inputs[j] = device::load_word<c.conv_state_dtype>(states, offset);
    }
  }

  // The inputs of kAhead tokens from `first` on; past the end the last one's.
  static __device__ __forceinline__ void load(const Channel& channel, int first, Ahead& ahead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int t = kTokens % kAhead == 0 || first + i < kTokens ? first + i : kTokens - 1;
      ahead.inputs[i] = device::load_word<c.io_dtype>(channel.inputs, t * channel.token);
    }
  }

  // ---- what a token sees -------------------------------------------------------------------------------------------

  // The inputs that token t of a tree sees: its ancestors', the oldest first, and its own. Before the first stands the
  // state.
  static __device__ __forceinline__ void tree_window(const MixerParams& p, const Place& at, const Channel& channel,
                                                     const Past& past, int t, float (&window)[kWidth]) {
    int n = t;
#pragma unroll
    for (int j = kPast; j >= 0; --j) {
      const int token = n < 0 ? 0 : n;
      window[j] = device::load_scalar<c.io_dtype>(channel.inputs, token * channel.token);
#pragma unroll
      for (int m = 0; m < kPast; ++m) {
        window[j] = n == m - kPast ? device::number<c.conv_state_dtype>(past.inputs[m]) : window[j];
      }
      const int parent = Ways::parent_of(p, at, token);
      const int before = parent < 0 || parent >= token ? -1 : parent;
      n = n < 0 ? n - 1 : before;
    }
  }

  // Calls visit(t, window) for all tokens: the inputs that token t sees, the oldest first, its own last.
  template <typename Visit>
  static __device__ __forceinline__ void for_tokens(const MixerParams& p, const Place& at, const Channel& channel,
                                                    const Past& past, Ahead& ahead, Visit visit) {
    float window[kWidth] = {};
#pragma unroll
    for (int j = 0; j < kPast; ++j) window[j + 1] = device::number<c.conv_state_dtype>(past.inputs[j]);
#pragma unroll 1
    for (int first = 0; first < kTokens; first += kAhead) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int t = first + i;
        if (kTokens % kAhead != 0 && t >= kTokens) break;
        if constexpr (c.tree) {
          tree_window(p, at, channel, past, t, window);
        } else {
#pragma unroll
          for (int j = 0; j < kPast; ++j) window[j] = window[j + 1];
          window[kPast] = device::number<c.io_dtype>(ahead.inputs[i]);
        }
        visit(t, window);
      }
      if constexpr (kTokens > kAhead && !c.tree) {
        if (first + kAhead < kTokens) load(channel, first + kAhead, ahead);
      }
    }
  }

  // ---- x into shared memory ----------------------------------------------------------------------------------------

  static __device__ __forceinline__ float convolved(const Filter& filter, const float (&window)[kWidth]) {
    float weight[kWidth];
    constexpr int kVector = kWidth / kWeightAccesses;
#pragma unroll
    for (int i = 0; i < kWeightAccesses; ++i) {
      device::unpack<c.conv_dtype, kVector>(filter.weight[i], weight + i * kVector);
    }
    float sum = 0.0f;
    if constexpr (c.conv_bias) sum = device::number<c.conv_dtype>(filter.bias);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum = fmaf(weight[j], window[j], sum);
    return sum * device::sigmoid(sum);
  }

  // Channel m of kCount parts from `first` on. Weights, which come from the caches, are loaded when the rest is on its
  // way.
  template <int kCount>
  static __device__ __forceinline__ void stage_channels(const MixerParams& p, const Place& at, int first, int m) {
    Past past[kCount];
    Ahead ahead[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (m >= count(first + i)) continue;
      const Channel here = channel(p, at, first + i, m);
      load(p, at, here, past[i]);
      if constexpr (!c.tree) load(here, 0, ahead[i]);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (m >= count(first + i)) continue;
      const Channel here = channel(p, at, first + i, m);
      Filter filter;
      load(p, here, filter);
      for_tokens(p, at, here, past[i], ahead[i], [&](int t, const float(&window)[kWidth]) {
        Plan::staged(t)[place(first + i, m)] = convolved(filter, window);
      });
    }
  }

  static __device__ __forceinline__ void stage(const MixerParams& p, const Place& at) {
#pragma unroll(kMostChannels > c.threads() ? 1 : kMostChannels)
    for (int start = 0; start < kMostChannels; start += c.threads()) {
      const int m = start + static_cast<int>(threadIdx.x);
      if constexpr (kPartsAtOnce) {
        stage_channels<kParts - kFirstStaged>(p, at, kFirstStaged, m);
      } else {
#pragma unroll 1
        for (int part = kFirstStaged; part < kParts; ++part) stage_channels<1>(p, at, part, m);
      }
    }
  }

  // ---- the new state -----------------------------------------------------------------------------------------------

  // The state behind a token: all that it saw but the oldest.
  static __device__ __forceinline__ void store_past(void* states, const ConvStrides& strides, long long offset,
                                                    const Channel& channel, const float (&window)[kWidth]) {
    offset += channel.index * strides.channel;
#pragma unroll
    for (int j = 0; j < kPast; ++j) {
      device::store_scalar<c.conv_state_dtype>(states, offset + j * strides.input, window[j + 1]);
    }
  }

  // What is kept behind token t: its own state where tokens' states are kept, and the last one's as the final state.
  static __device__ __forceinline__ void store_token(const MixerParams& p, const Place& at, const Channel& channel,
                                                     int t, const float (&window)[kWidth]) {
    if constexpr (kStoresSteps) {
      long long row = at.b;
      if constexpr (c.state_steps == StatePlace::pool) row = Base::load_slot(p.step_slot, at, t);
      const ConvStrides& strides = p.conv_steps_strides;
      const bool stored = c.state_steps == StatePlace::dense || row >= first_slot<c>();
      if (stored) store_past(p.conv_steps, strides, row * strides.row + t * strides.token, channel, window);
    }
    if constexpr (c.final_state != StatePlace::none) {
      const ConvStrides& strides = p.conv_out_strides;
      if (t == kTokens - 1 && at.writes_state) {
        store_past(p.conv_out, strides, at.row_out * strides.row, channel, window);
      }
    }
  }

  // Channel m of kCount parts from `first` on. What a channel reads is loaded before anything of it is stored: a
  // token's state may lie where the initial state was.
  template <int kCount>
  static __device__ __forceinline__ void store_channels(const MixerParams& p, const Place& at, int first, int m) {
    Past past[kCount];
    Ahead ahead[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (m >= count(first + i)) continue;
      const Channel here = channel(p, at, first + i, m);
      load(p, at, here, past[i]);
      if constexpr (!c.tree) load(here, 0, ahead[i]);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (m >= count(first + i)) continue;
      const Channel here = channel(p, at, first + i, m);
      for_tokens(p, at, here, past[i], ahead[i],
                 [&](int t, const float(&window)[kWidth]) { store_token(p, at, here, t, window); });
    }
  }

  // The block's columns of v.
  static __device__ __forceinline__ void store_values(const MixerParams& p, const Place& at) {
#pragma unroll 1
    for (int m = static_cast<int>(threadIdx.x); m < count(kValue); m += c.threads()) {
      store_channels<1>(p, at, kValue, m);
    }
  }

  // q and k of the block's key head.
  static __device__ __forceinline__ void store_keys(const MixerParams& p, const Place& at) {
#pragma unroll 1
    for (int m = static_cast<int>(threadIdx.x); m < kK; m += c.threads()) {
      if constexpr (kPartsAtOnce) {
        store_channels<2>(p, at, kQuery, m);
      } else {
#pragma unroll 1
        for (int part = kQuery; part <= kKey; ++part) store_channels<1>(p, at, part, m);
      }
    }
  }
};

}  // namespace gdnjit::gdn

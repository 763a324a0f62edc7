// gdn.step as the whole mixer between a layer's projections, in one launch:
//   x_t  = silu(bias + sum_j weight_j input_(t + j + 1 - width))    depthwise causal convolution of q, k and v
//   o    = the recurrence on x (gdn/token.cuh)
//   o    = w (o rsqrt(mean(o^2) + eps)) act(z)                      gated RMS norm, the mean over V
// either of which may be left out. Both work on a block, so this is where its warps meet:
//   begin   every thread convolves channels of q, k and the block's v for all tokens, into shared memory
//   (the recurrence, with q, k and v from there; o goes to shared memory)
//   end     one barrier, then the norm and the convolution's new state
//
// That state. Channels of v belong to one block, which stores them. Channels of q and k are read by every block of the
// key head's value heads. Each of them counts itself in the head's ticket once it has read them, and the block that
// finds that all others have stores their new state (and leaves the ticket 0): nobody waits, nothing is overwritten
// that somebody still reads, in place or not, and whichever block comes last stores the same numbers.
//
// The mean over V needs all of a head: its blocks form a cluster and put their o into each other's shared memory, or
// one block serves all of V, in turns if need be. The sum runs over o in one order, whatever the tiles.
#pragma once

#include "device/atomic.cuh"
#include "device/cluster.cuh"
#include "device/shared.cuh"
#include "gdn/mixer_params.cuh"
#include "gdn/step.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Mixer {
  static_assert(c.is_mixer() && c.fault() == nullptr);
  using Base = Token<c>;
  using Ways = Walk<c>;
  using Place = typename Base::Place;

  enum : bool {
    kConv = c.conv_width > 0,
    kStoresSteps = c.state_steps != StatePlace::none,
    kStoresConv = kConv && (c.final_state != StatePlace::none || kStoresSteps),
    kNorm = c.gated_norm != GatedNorm::none,
    kCluster = c.cluster() > 1,
    kEarlyGates = kNorm && c.gates() <= kMaxEarlyGates,
  };
  enum : int {
    kWidth = kConv ? c.conv_width : 1,
    kPast = kWidth - 1,  // inputs that a state holds, the oldest first
    kK = c.head_dim_k,
    kV = c.head_dim_v,
    kTokens = c.tokens,
    kReaders = c.heads_v / c.heads_k * c.head_blocks(),  // blocks that read a key head's channels
    // Channels of a block: first q's, then k's, then its own columns of v. Those of q are convolved for an output only.
    kValueChannel = 2 * kK,
    kChannels = kValueChannel + c.block_columns(),
    kFirstStaged = c.write_output ? 0 : kK,
  };
  enum : int {
    // Tokens and channels of which a thread loads inputs before it needs the first.
    kAhead = kTokens <= 8 ? kTokens : (kTokens + 1) / 2,
    kAtOnce = kTokens <= 4 ? (kTokens == 1 ? 3 : 2) : 1,
    kWeightAccesses = kWidth % 2 == 0 ? 1 : kWidth,
    kWeightWords = device::words_of<c.conv_dtype>(kWidth / kWeightAccesses),
  };
  enum : bool {
    kTickets = kStoresConv && kReaders > 1,
    kMaskColumns = kV % c.block_columns() != 0,
  };

  // ---- shared memory -----------------------------------------------------------------------------------------------

  static __device__ __forceinline__ float* memory() {
    extern __shared__ __align__(16) float mixer_memory[];
    return mixer_memory;
  }
  // A token's q, k and v behind the convolution.
  static __device__ __forceinline__ float* staged(int t) { return memory() + t * c.staged_row(); }
  // A token's o of the whole head, before the norm.
  static __device__ __forceinline__ float* kept(int t) {
    return memory() + kTokens * c.staged_row() + t * c.kept_row();
  }
  // Not 0 if this block stores the state of its key head's channels.
  static __device__ __forceinline__ float* flag() { return kept(kTokens); }

  // Elements of a staged row.
  template <int kElements>
  static __device__ __forceinline__ void load_staged(const void* source, float (&words)[kElements]) {
    device::load_shared(source, words);
  }

  // This block's number among those of its head, and its first column of V.
  static __device__ __forceinline__ int rank() { return static_cast<int>(blockIdx.x % c.head_blocks()); }
  static __device__ __forceinline__ int first_column() { return rank() * c.block_columns(); }

  // ---- the convolution: where --------------------------------------------------------------------------------------

  // Where a channel of this block lies.
  struct Channel {
    const void* inputs;  // of token 0
    long long token;     // from one token to the next
    long long index;     // in the order of weights and states: all of q, all of k, all of v
  };

  // Channel n of the block; a column beyond V stands for the last.
  static __device__ __forceinline__ Channel channel(const MixerParams& p, const Place& at, int n) {
    if (n < kValueChannel) {
      const bool is_key = n >= kK;
      const HeadStrides& strides = is_key ? p.k_strides : p.q_strides;
      const int key = is_key ? n - kK : n;
      const long long offset = at.b * strides.batch + at.h * strides.key_head + key;
      return {device::element<c.io_dtype>(is_key ? p.k : p.q, offset), strides.token,
              static_cast<long long>(is_key ? c.heads_k + at.h : at.h) * kK + key};
    }
    const HeadStrides& strides = p.v_strides;
    int column = first_column() + n - kValueChannel;
    if (kMaskColumns && column >= kV) column = kV - 1;
    const long long offset = at.b * strides.batch + at.h * strides.key_head + at.j * strides.group + column;
    return {device::element<c.io_dtype>(p.v, offset), strides.token,
            2LL * c.heads_k * kK + static_cast<long long>(at.hv) * kV + column};
  }
  static __device__ __forceinline__ bool inside(int n) {
    return n < kChannels && (!kMaskColumns || n < kValueChannel || first_column() + n - kValueChannel < kV);
  }

  // ---- the convolution: what a channel reads -----------------------------------------------------------------------

  // As it lies in memory, so that loads stay in flight until all are issued.
  struct Filter {
    device::Word<c.conv_dtype> weight[kWeightAccesses][kWeightWords];
    device::Word<c.conv_dtype> bias[1];
  };
  struct Past {
    device::Word<c.conv_state_dtype> inputs[kPast > 0 ? kPast : 1][1];  // the state, the oldest first
  };
  struct Ahead {
    device::Word<c.io_dtype> inputs[kAhead][1];  // of consecutive tokens
  };

  static __device__ __forceinline__ void load(const MixerParams& p, const Channel& channel, Filter& filter) {
    constexpr int kVector = kWidth / kWeightAccesses;
    const void* weights = device::element<c.conv_dtype>(p.conv_weight, channel.index * kWidth);
#pragma unroll
    for (int i = 0; i < kWeightAccesses; ++i) {
      device::load_vector<c.conv_dtype, kVector, device::CacheHint::normal>(
          device::element<c.conv_dtype>(weights, i * kVector), filter.weight[i]);
    }
    if constexpr (c.conv_bias) Base::template load_word<c.conv_dtype>(p.conv_bias, channel.index, filter.bias);
  }

  static __device__ __forceinline__ void load(const MixerParams& p, const Place& at, const Channel& channel,
                                              Past& past) {
    const bool accepted = c.num_accepted != StatePlace::none && at.accepted > 0;
    const void* states = accepted ? p.conv_accepted : p.conv_in;
    const ConvStrides& strides = accepted ? p.conv_accepted_strides : p.conv_in_strides;
    long long offset = at.row_in * strides.row + channel.index * strides.channel;
    if (accepted) offset += (at.accepted - 1) * strides.token;
#pragma unroll
    for (int j = 0; j < kPast; ++j) {
      Base::template load_word<c.conv_state_dtype>(states, offset + j * strides.input, past.inputs[j]);
    }
  }

  // The inputs of kAhead tokens from `first` on; past the end the last one's.
  static __device__ __forceinline__ void load(const Channel& channel, int first, Ahead& ahead) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int t = kTokens % kAhead == 0 || first + i < kTokens ? first + i : kTokens - 1;
      Base::template load_word<c.io_dtype>(channel.inputs, t * channel.token, ahead.inputs[i]);
    }
  }

  // ---- the convolution: what a token sees --------------------------------------------------------------------------

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
        window[j] = n == m - kPast ? Base::template number<c.conv_state_dtype>(past.inputs[m]) : window[j];
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
    for (int j = 0; j < kPast; ++j) window[j + 1] = Base::template number<c.conv_state_dtype>(past.inputs[j]);
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
          window[kPast] = Base::template number<c.io_dtype>(ahead.inputs[i]);
        }
        visit(t, window);
      }
      if constexpr (kTokens > kAhead && !c.tree) {
        if (first + kAhead < kTokens) load(channel, first + kAhead, ahead);
      }
    }
  }

  // ---- the convolution: x into shared memory -----------------------------------------------------------------------

  static __device__ __forceinline__ float convolved(const Filter& filter, const float (&window)[kWidth]) {
    float weight[kWidth];
    constexpr int kVector = kWidth / kWeightAccesses;
#pragma unroll
    for (int i = 0; i < kWeightAccesses; ++i) {
      device::unpack<c.conv_dtype, kVector>(filter.weight[i], weight + i * kVector);
    }
    float sum = 0.0f;
    if constexpr (c.conv_bias) sum = Base::template number<c.conv_dtype>(filter.bias);
#pragma unroll
    for (int j = 0; j < kWidth; ++j) sum = fmaf(weight[j], window[j], sum);
    return sum * device::sigmoid(sum);
  }

  // A thread takes channels in turn, and loads what several of them read before it needs the first; weights, which come
  // from the caches, when the rest is on its way. Without a branch, so that the compiler may order all loads.
  static __device__ __forceinline__ void convolve(const MixerParams& p, const Place& at) {
#pragma unroll 1
    for (int start = kFirstStaged + static_cast<int>(threadIdx.x); start < kChannels;
         start += kAtOnce * Base::kThreads) {
      Past past[kAtOnce];
      Ahead ahead[kAtOnce];
      const auto number = [&](int i) { return start + i * Base::kThreads; };
      const auto channel_of = [&](int i) { return channel(p, at, number(i) < kChannels ? number(i) : start); };
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        load(p, at, channel_of(i), past[i]);
        if constexpr (!c.tree) load(channel_of(i), 0, ahead[i]);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        Filter filter;
        load(p, channel_of(i), filter);
        for_tokens(p, at, channel_of(i), past[i], ahead[i], [&](int t, const float(&window)[kWidth]) {
          const float x = convolved(filter, window);
          if (inside(number(i))) staged(t)[number(i) - kFirstStaged] = x;
        });
      }
    }
  }

  // ---- the convolution: the new state ------------------------------------------------------------------------------

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

  // Of channels [first, kChannels), which nobody reads any more. A channel's old state is loaded before anything of it
  // is stored: a token's state may lie where the initial state was.
  static __device__ __forceinline__ void store_states(const MixerParams& p, const Place& at, int first) {
#pragma unroll 1
    for (int n = first + static_cast<int>(threadIdx.x); n < kChannels; n += Base::kThreads) {
      if (!inside(n)) continue;
      const Channel here = channel(p, at, n);
      Past past;
      Ahead ahead;
      load(p, at, here, past);
      if constexpr (!c.tree) load(here, 0, ahead);
      for_tokens(p, at, here, past, ahead,
                 [&](int t, const float(&window)[kWidth]) { store_token(p, at, here, t, window); });
    }
  }

  // ---- the gated norm ----------------------------------------------------------------------------------------------

  // Column `column` of token t's o, for every block of the head.
  static __device__ __forceinline__ void keep(int t, int column, float value) {
    float* place = kept(t) + column;
    if constexpr (kCluster) {
      const unsigned address = device::shared_address(place);
#pragma unroll
      for (unsigned block = 0; block < c.cluster(); ++block) {
        device::store_cluster(device::in_cluster(address, block), value);
      }
    } else {
      *place = value;
    }
  }

  // The outputs that this thread finishes: tokens in norm_rounds(), and of each columns in norm_columns().
  static __device__ __forceinline__ int group() {
    return static_cast<int>(threadIdx.x) / (device::kWarpLanes * c.norm_warps());
  }
  static __device__ __forceinline__ int token_of(int round) { return group() + round * c.norm_groups(); }
  static __device__ __forceinline__ int column_of(int round) {
    constexpr int kWidthOfGroup = device::kWarpLanes * c.norm_warps();
    return first_column() + static_cast<int>(threadIdx.x) % kWidthOfGroup + round * kWidthOfGroup;
  }
  static __device__ __forceinline__ bool finishes(int t, int column) {
    return group() < c.norm_groups() && t < kTokens && column < first_column() + c.block_columns() && column < kV;
  }

  static __device__ __forceinline__ void load_gate(const MixerParams& p, const Place& at, int t, int column,
                                                   device::Word<c.io_dtype> (&word)[1]) {
    const int token = t < kTokens ? t : kTokens - 1;
    const long long offset = Base::head_offset(p.z_strides, at, token);
    Base::template load_word<c.io_dtype>(p.z, offset + (column < kV ? column : kV - 1), word);
  }
  static __device__ __forceinline__ void load_weight(const MixerParams& p, int column,
                                                     device::Word<c.gated_norm_dtype> (&word)[1]) {
    Base::template load_word<c.gated_norm_dtype>(p.norm_weight, column < kV ? column : kV - 1, word);
  }

  // Loads in flight from the beginning to the end.
  static __device__ __forceinline__ void load_gates(const MixerParams& p, Place& at) {
#pragma unroll
    for (int j = 0; j < c.norm_columns(); ++j) {
      load_weight(p, column_of(j), at.norm_weights[j]);
#pragma unroll
      for (int i = 0; i < c.norm_rounds(); ++i) {
        load_gate(p, at, token_of(i), column_of(j), at.gates[i * c.norm_columns() + j]);
      }
    }
  }

  // w act(z)
  static __device__ __forceinline__ float gain(const device::Word<c.io_dtype> (&z_word)[1],
                                               const device::Word<c.gated_norm_dtype> (&weight_word)[1]) {
    const float z = Base::template number<c.io_dtype>(z_word);
    const float weight = Base::template number<c.gated_norm_dtype>(weight_word);
    const float gate = device::sigmoid(z);
    return weight * (c.gated_norm == GatedNorm::silu ? z * gate : gate);
  }

  // rsqrt(mean(o^2) + eps) of token t, by every warp for itself.
  static __device__ __forceinline__ float output_factor(int t) {
    constexpr float kInverse = 1.0f / c.head_dim_v;
    const int lane = static_cast<int>(threadIdx.x % device::kWarpLanes);
    float sum = 0.0f;
#pragma unroll 4
    for (int column = lane; column < kV; column += device::kWarpLanes) {
      const float o = kept(t)[column];
      sum = fmaf(o, o, sum);
    }
    return device::rsqrt_approx(fmaf(device::sum_over_lanes<32, 1>(sum), kInverse, c.gated_norm_eps));
  }

  static __device__ __forceinline__ void store_output(const MixerParams& p, const Place& at, int t, int column,
                                                      float value) {
    const long long offset = Base::token_offset(p.o_strides, at, t) + at.hv * p.o_strides.key_head;
    device::store_scalar<c.output_dtype>(p.o, offset + column, value);
  }

  static __device__ __forceinline__ void finish_outputs(const MixerParams& p, Place& at) {
#pragma unroll
    for (int i = 0; i < c.norm_rounds(); ++i) {
      const int t = token_of(i);
      const float factor = output_factor(t < kTokens ? t : kTokens - 1);
#pragma unroll
      for (int j = 0; j < c.norm_columns(); ++j) {
        const int column = column_of(j);
        const int early = kEarlyGates ? j : 0, n = kEarlyGates ? i * c.norm_columns() + j : 0;
        if constexpr (!kEarlyGates) {
          load_weight(p, column, at.norm_weights[early]);
          load_gate(p, at, t, column, at.gates[n]);
        }
        if (!finishes(t, column)) continue;
        store_output(p, at, t, column, kept(t)[column] * factor * gain(at.gates[n], at.norm_weights[early]));
      }
    }
  }

  // ---- the phases --------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void begin(const StepParams& params, Place& at) {
    if (c.turns > 1 && at.turn > 0) return;
    const MixerParams& p = static_cast<const MixerParams&>(params);
    if constexpr (kEarlyGates) load_gates(p, at);
    if constexpr (kConv) {
      convolve(p, at);
      __syncthreads();
      if constexpr (kTickets) {
        // The barrier ordered what the block has read before this thread's release.
        if (threadIdx.x == 0) at.ticket = device::count_released(ticket(p, at), kReaders - 1);
      }
    }
    // The other blocks of the cluster have started: their shared memory may be written.
    if constexpr (kCluster) device::cluster_wait();
  }

  static __device__ __forceinline__ unsigned* ticket(const MixerParams& p, const Place& at) {
    return p.conv_ticket + at.b * p.ticket_row + at.h;
  }

  // Thread 0 tells the block who stores its key head's channels.
  static __device__ __forceinline__ void raise_flag(const Place& at) {
    if constexpr (kTickets) {
      if (threadIdx.x == 0) {
        const bool last = at.ticket == kReaders - 1;
        if (last) device::fence_gpu();  // all others have read before what this block stores
        *flag() = last ? 1.0f : 0.0f;
      }
    }
  }

  // A cluster's barrier begins here, so that its stores of states hide the wait.
  static __device__ __forceinline__ void end_outputs(const Place& at) {
    if constexpr (kCluster) {
      if (c.turns > 1 && at.turn + 1 < at.turns) return;
      raise_flag(at);
      device::cluster_arrive();
    }
  }

  static __device__ __forceinline__ void end(const MixerParams& p, Place& at) {
    if constexpr (kCluster) {
      device::cluster_wait();
    } else if constexpr (kNorm || kTickets) {  // (channels that nobody else reads were read before the first barrier)
      raise_flag(at);
      __syncthreads();
    }
    if constexpr (kNorm) finish_outputs(p, at);
    if constexpr (kStoresConv) {
      const bool keys_too = !kTickets || *flag() != 0.0f;
      store_states(p, at, keys_too ? 0 : kValueChannel);
    }
  }

  static __device__ __forceinline__ void pad(const MixerParams& p, const Place& at) {
    if constexpr (c.pad_policy == PadPolicy::zero && c.write_output) {
      if constexpr (c.programmatic) device::wait_for_previous_grid();
#pragma unroll 1
      for (int t = 0; t < kTokens; ++t) {
        for (int n = static_cast<int>(threadIdx.x); n < c.block_columns(); n += Base::kThreads) {
          if (first_column() + n < kV) store_output(p, at, t, first_column() + n, 0.0f);
        }
      }
    }
  }
};

template <StepConfig c>
struct MixerStep : Step<c> {
  enum : int { kMinBlocks = c.mixer_blocks() };
  using Base = Token<c>;
  using typename Base::Place;

  // From one block of V to the next.
  static __device__ __forceinline__ void next_turn(Place& at) {
    constexpr long long kDistance = static_cast<long long>(c.block_v) * (Base::kIsVk ? c.head_dim_k : 1);
    at.first_value += c.block_v;
    at.state_in = device::element<c.state_dtype>(at.state_in, kDistance);
    at.state_out = device::element<c.state_dtype>(at.state_out, kDistance);
  }

  static __device__ __forceinline__ void run(const MixerParams& p) {
    Place at = Step<c>::locate(p);
    if (c.uses_pool() && at.padded) {
      Mixer<c>::pad(p, at);
      return;
    }
    if constexpr (Mixer<c>::kCluster) device::cluster_arrive();
    at.turn = 0;
    at.turns = 1;
    at.ticket = 0;
    if constexpr (c.turns == 1) {
      Walk<c>::run_tokens(p, at);
    } else {
      const int rest = c.blocks_v() - Mixer<c>::rank() * c.turns;
      at.turns = rest < c.turns ? rest : c.turns;
#pragma unroll 1
      for (; at.turn < at.turns; ++at.turn) {
        Walk<c>::run_tokens(p, at);
        next_turn(at);
      }
    }
    Mixer<c>::end(p, at);
  }
};

}  // namespace gdnjit::gdn

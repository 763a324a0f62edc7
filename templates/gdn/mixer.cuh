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
#include "gdn/convolution.cuh"
#include "gdn/mixer_params.cuh"
#include "gdn/mixer_plan.cuh"
#include "gdn/step.cuh"

namespace gdnjit::gdn {

template <StepConfig c>
struct Mixer : MixerPlan<c> {
  static_assert(c.is_mixer() && c.fault() == nullptr);
  using Base = Token<c>;
  using Place = typename Base::Place;
  using Plan = MixerPlan<c>;
  using Conv = Convolution<c>;

  enum : bool {
    kConv = c.conv_width > 0,
    kStoresConv = kConv && (c.final_state != StatePlace::none || c.state_steps != StatePlace::none),
    kNorm = c.gated_norm != GatedNorm::none,
    kCluster = c.cluster() > 1,
    kEarlyGates = kNorm && c.gates() <= kMaxEarlyGates,
  };
  enum : int {
    kV = c.head_dim_v,
    kTokens = c.tokens,
    kReaders = c.heads_v / c.heads_k * c.head_blocks(),  // blocks that read a key head's channels
  };
  enum : bool { kTickets = kStoresConv && kReaders > 1 };

  // What the recurrence takes from a staged row.
  template <int kElements>
  static __device__ __forceinline__ void load_staged(const void* source, float (&words)[kElements]) {
    device::load_shared(source, words);
  }

  // ---- the gated norm ----------------------------------------------------------------------------------------------

  // Column `column` of token t's o, for every block of the head.
  static __device__ __forceinline__ void keep(int t, int column, float value) {
    float* place = Plan::kept(t) + column;
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
    return Plan::first_column() + static_cast<int>(threadIdx.x) % kWidthOfGroup + round * kWidthOfGroup;
  }
  static __device__ __forceinline__ bool finishes(int t, int column) {
    return group() < c.norm_groups() && t < kTokens && column < Plan::first_column() + Plan::columns();
  }

  static __device__ __forceinline__ void load_gate(const MixerParams& p, const Place& at, int t, int column,
                                                   device::Word<c.io_dtype>& word) {
    const int token = t < kTokens ? t : kTokens - 1;
    const long long offset = Base::head_offset(p.z_strides, at, token);
    word = device::load_word<c.io_dtype>(p.z, offset + (column < kV ? column : kV - 1));
  }
  static __device__ __forceinline__ void load_weight(const MixerParams& p, int column,
                                                     device::Word<c.gated_norm_dtype>& word) {
    word = device::load_word<c.gated_norm_dtype>(p.norm_weight, column < kV ? column : kV - 1);
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
  static __device__ __forceinline__ float gain(device::Word<c.io_dtype> z_word,
                                               device::Word<c.gated_norm_dtype> weight_word) {
    const float z = device::number<c.io_dtype>(z_word);
    const float weight = device::number<c.gated_norm_dtype>(weight_word);
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
      const float o = Plan::kept(t)[column];
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
        store_output(p, at, t, column, Plan::kept(t)[column] * factor * gain(at.gates[n], at.norm_weights[early]));
      }
    }
  }

  // ---- the phases --------------------------------------------------------------------------------------------------

  static __device__ __forceinline__ void begin(const StepParams& params, Place& at) {
    if (c.turns > 1 && at.turn > 0) return;
    const MixerParams& p = static_cast<const MixerParams&>(params);
    if constexpr (kEarlyGates) load_gates(p, at);
    if constexpr (kConv) {
      Conv::stage(p, at);
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
        *Plan::flag() = last ? 1.0f : 0.0f;
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
    if constexpr (kStoresConv) Conv::store_values(p, at);
    if constexpr (kCluster) {
      device::cluster_wait();
    } else if constexpr (kNorm || kTickets) {
      raise_flag(at);
      __syncthreads();
    }
    if constexpr (kNorm) finish_outputs(p, at);
    if constexpr (kStoresConv) {
      // Without tickets the only readers were this block's threads, before its first barrier.
      if (!kTickets || *Plan::flag() != 0.0f) Conv::store_keys(p, at);
    }
  }

  static __device__ __forceinline__ void pad(const MixerParams& p, const Place& at) {
    if constexpr (c.pad_policy == PadPolicy::zero && c.write_output) {
      if constexpr (c.programmatic) device::wait_for_previous_grid();
#pragma unroll 1
      for (int t = 0; t < kTokens; ++t) {
        for (int n = static_cast<int>(threadIdx.x); n < Plan::columns(); n += c.threads()) {
          store_output(p, at, t, Plan::first_column() + n, 0.0f);
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
    at.state_in += kDistance;
    at.state_out += kDistance;
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
      Walk<c>::walk(p, at);
    } else {
      const int rest = c.blocks_v() - MixerPlan<c>::rank() * c.turns;
      at.turns = rest < c.turns ? rest : c.turns;
#pragma unroll 1
      for (; at.turn < at.turns; ++at.turn) {
        Walk<c>::walk(p, at);
        next_turn(at);
      }
    }
    Mixer<c>::end(p, at);
  }
};

}  // namespace gdnjit::gdn

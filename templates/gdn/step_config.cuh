// The compile-time side of gdn.step and gdn.recurrent: everything that shapes a kernel, and the formulas that host and
// device share. Host code includes this file too, so nothing is computed twice by hand.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/gdn_options.h>

#include "device/memory_hint.cuh"
#include "gdn/strides.cuh"

namespace gdnjit::gdn {

// Limits of a mixer (enumerators: a constant variable would become one of every compiled module).
enum : int {
  kMaxCluster = 8,             // blocks that every architecture with clusters can place
  kMaxMixerBytes = 99 * 1024,  // shared memory that every architecture from sm_80 on has
  kMaxEarlyGates = 4,
};

// The signature of a kernel: two kernels of one operator with equal configs have equal source.
struct StepConfig {
  // The problem. Fields that a choice makes meaningless hold their defaults.
  int batch = 0;        // B if baked in, else 0
  int tokens = 1;       // T; 0 in gdn.recurrent, which takes T at run time
  bool ragged = false;  // sequences lie one after another, cu_seqlens says where (T at run time only)
  int heads_k = 16;
  int heads_v = 32;
  int head_dim_k = 128;
  int head_dim_v = 128;
  DType io_dtype = DType::bf16;
  DType state_dtype = DType::f32;
  DType output_dtype = DType::bf16;
  DType gate_dtype = DType::bf16;
  DType beta_dtype = DType::bf16;
  DType a_log_dtype = DType::f32;
  DType dt_bias_dtype = DType::f32;
  DType slot_dtype = DType::i32;
  float scale = 1.0f;
  Norm norm = Norm::sumsq_eps;
  float norm_eps = 1e-6f;
  Gate gate = Gate::raw;
  float gate_lower_bound = -5.0f;
  Beta beta = Beta::sigmoid;
  HeadMap head_map = HeadMap::grouped;
  StateLayout state_layout = StateLayout::vk;
  StatePlace initial_state = StatePlace::dense;
  StatePlace final_state = StatePlace::dense;
  StatePlace state_steps = StatePlace::none;   // the state after each token
  StatePlace num_accepted = StatePlace::none;  // where the last call's states lie, one of which is the initial state
  bool tree = false;                           // tokens continue from parent[t]
  bool write_output = true;
  PadSentinel pad_sentinel = PadSentinel::negative;
  PadPolicy pad_policy = PadPolicy::zero;
  bool programmatic = false;  // starts while its predecessor ends, and waits before it reads q, k, v and the gates
  // The mixer around the recurrence (gdn/mixer.cuh).
  int conv_width = 0;  // of the causal convolution of q, k and v; 0: none
  bool conv_bias = false;
  DType conv_state_dtype = DType::bf16;
  DType conv_dtype = DType::bf16;  // weight and bias
  GatedNorm gated_norm = GatedNorm::none;
  float gated_norm_eps = 1e-6f;
  DType gated_norm_dtype = DType::bf16;  // weight
  // Elements per memory access, from dimensions and alignment.
  int state_vector = 4;  // of the state, along its contiguous dimension
  int key_chunk = 4;     // consecutive keys that one lane owns
  int key_vector = 4;    // of q and k; divides key_chunk
  // Tiles.
  int block_v = 32;   // BV: columns of V per block
  int block_k = 128;  // BLOCK_K: keys per pass; below K the state does not stay in registers
  int lanes_k = 8;    // lanes that share a column's sum over K; the other 32 / lanes_k lie along V
  int warps = 4;
  device::CacheHint cache_hint = device::CacheHint::normal;
  int turns = 1;  // blocks of V that a thread block serves one after the other; more than one in a mixer only
  bool quick_compile = false;  // NVRTC's optimiser makes fewer passes over the kernel (KernelText::quick_compile)

  // Lanes of a warp along V, V columns of a warp, and what one lane holds of a pass.
  constexpr int lanes_v() const { return 32 / lanes_k; }
  constexpr int warp_v() const { return block_v / warps; }
  constexpr int lane_keys() const { return block_k / lanes_k; }
  constexpr int lane_values() const { return warp_v() / lanes_v(); }
  constexpr int lane_state_bytes() const { return lane_keys() * lane_values() * dtype_bytes(state_dtype); }
  // Consecutive columns that one lane owns.
  constexpr int value_chunk() const { return state_layout == StateLayout::kv ? state_vector : 1; }

  // True if a row of the batch can be padding, and where slots name rows.
  constexpr bool uses_pool() const {
    return initial_state == StatePlace::pool || final_state == StatePlace::pool || state_steps == StatePlace::pool;
  }
  // Tokens that passes over a state too large for registers serve at once: all of them, if T is known.
  constexpr int window() const { return tokens > 0 ? tokens : kMaxStepTokens; }

  constexpr int passes() const { return (head_dim_k + block_k - 1) / block_k; }
  constexpr int blocks_v() const { return (head_dim_v + block_v - 1) / block_v; }
  constexpr int head_blocks() const { return (blocks_v() + turns - 1) / turns; }  // thread blocks of a head
  constexpr int threads() const { return warps * 32; }
  constexpr long long grid(long long b) const { return b * heads_v * head_blocks(); }

  // q, k and v as the recurrence takes them: from memory, or in fp32 behind the convolution.
  constexpr DType input_dtype() const { return conv_width > 0 ? DType::f32 : io_dtype; }

  constexpr bool is_mixer() const { return conv_width > 0 || gated_norm != GatedNorm::none; }
  // Of the kernels that lose little by it, those in which lanes never part before the sums: with few passes the
  // compiler moves shuffles into the branches of masks, and lanes would wait for each other there.
  constexpr bool may_compile_quickly() const {
    return tokens == 1 && !is_mixer() && block_k == head_dim_k && head_dim_v % block_v == 0;
  }
  // Blocks that share a norm lie in a cluster.
  constexpr int cluster() const { return gated_norm != GatedNorm::none ? head_blocks() : 1; }
  constexpr int block_columns() const { return block_v * turns; }
  // A mixer's shared memory holds fp32 numbers: for each token of the call a row of q, k and the block's v behind the
  // convolution, then for each token the head's o before its norm; and one flag.
  constexpr int staged_key() const { return write_output ? head_dim_k : 0; }  // first k of a row, behind q
  constexpr int staged_value() const { return staged_key() + head_dim_k; }
  constexpr int staged_row() const { return conv_width > 0 ? (staged_value() + block_columns() + 3) / 4 * 4 : 0; }
  // Where a key lies among a row's: lanes that load key_vector keys of their chunks at once find them side by side.
  constexpr int staged_place(int key) const {
    const int accesses = key_chunk / key_vector;
    return key % key_chunk / key_vector * (head_dim_k / accesses) + key / key_chunk * key_vector + key % key_vector;
  }
  constexpr int kept_row() const { return gated_norm != GatedNorm::none ? head_dim_v : 0; }
  // The outputs that a gated norm finishes at the end: the warps of a group take a token's columns, groups take tokens
  // in turn. Few enough gates (z) a thread are loaded at the beginning and wait in registers.
  constexpr int norm_warps() const { return warps > tokens ? warps / tokens : 1; }  // of a group
  constexpr int norm_groups() const { return warps / norm_warps(); }
  constexpr int norm_rounds() const { return (tokens + norm_groups() - 1) / norm_groups(); }
  constexpr int norm_columns() const { return (block_columns() + 32 * norm_warps() - 1) / (32 * norm_warps()); }
  constexpr int gates() const { return gated_norm != GatedNorm::none ? norm_rounds() * norm_columns() : 0; }
  constexpr int early_gates() const { return gates() >= 1 && gates() <= kMaxEarlyGates ? gates() : 1; }
  constexpr int early_weights() const { return gates() >= 1 && gates() <= kMaxEarlyGates ? norm_columns() : 1; }
  constexpr int mixer_shared_bytes() const { return is_mixer() ? 4 * (tokens * (staged_row() + kept_row()) + 1) : 0; }

  // Blocks of a mixer that an SM shall hold at least, about as many as of the recurrence alone; 1: as it comes. What a
  // mixer adds passes in its first phase, where the compiler would rather take 16 registers more than load in two
  // steps.
  constexpr int mixer_blocks() const {
    const int elements = lane_keys() * lane_values();
    if (gate_is_per_channel(gate) || passes() > 1 || tree || elements > 64) return 1;
    int registers = elements + 3 * lane_keys() + 3 * lane_values() + 4;
    if (registers < 56) registers = 56;
    if (tokens > 1) registers += elements > 32 ? 40 : 24;
    if (turns > 1) registers += registers < 64 || dtype_bytes(state_dtype) < 4 ? 16 : 8;
    const int blocks = 65536 / (registers * threads());
    return blocks > 1 ? blocks : 1;
  }

  // Why the tiles cannot work, or nullptr.
  constexpr const char* fault() const {
    const auto power_of_two = [](int x) { return x > 0 && (x & (x - 1)) == 0; };
    if (!power_of_two(lanes_k) || lanes_k > 32) return "lanes_k must be a power of two up to 32";
    if (warps < 1 || warps > 32) return "warps must be 1 to 32";
    if (block_v < 1 || block_v % (warps * lanes_v() * value_chunk()) != 0)
      return "block_v must be a multiple of warps * lanes_v * value_chunk";
    if (block_k < 1 || block_k % (lanes_k * key_chunk) != 0) return "block_k must be a multiple of lanes_k * key_chunk";
    if (key_chunk % key_vector != 0 || head_dim_k % key_chunk != 0)
      return "key_chunk must divide K and hold whole vectors";
    if (state_layout == StateLayout::vk && key_chunk != state_vector)
      return "key_chunk must equal state_vector in layout vk";
    if (state_layout == StateLayout::kv && head_dim_v % state_vector != 0)
      return "state_vector must divide V in layout kv";
    if (turns < 1 || turns > blocks_v()) return "turns must be 1 to the blocks of V, V / block_v";
    if (turns > 1 && !is_mixer()) return "turns must be 1 without a convolution or a gated norm";
    if (cluster() > kMaxCluster) return "a gated norm allows at most 8 * turns blocks of V";
    if (mixer_shared_bytes() > kMaxMixerBytes)
      return "a mixer's q, k, v and o, in fp32 for all tokens, must fit 99 KB of shared memory";
    if (tokens == 0 && passes() > 1 && final_state == StatePlace::none)
      return "a state that registers cannot hold (block_k < K) needs memory for the final state";
    if (quick_compile && !may_compile_quickly())
      return "quick_compile is for kernels of one token in one pass, without masks or a mixer";
    return nullptr;
  }
};

// The fields in canonical order; Self is StepConfig or const StepConfig.
template <typename Self, typename Visitor>
constexpr void visit_step_config(Self& c, Visitor&& visit) {
  visit("batch", c.batch);
  visit("tokens", c.tokens);
  visit("ragged", c.ragged);
  visit("heads_k", c.heads_k);
  visit("heads_v", c.heads_v);
  visit("head_dim_k", c.head_dim_k);
  visit("head_dim_v", c.head_dim_v);
  visit("io_dtype", c.io_dtype);
  visit("state_dtype", c.state_dtype);
  visit("output_dtype", c.output_dtype);
  visit("gate_dtype", c.gate_dtype);
  visit("beta_dtype", c.beta_dtype);
  visit("a_log_dtype", c.a_log_dtype);
  visit("dt_bias_dtype", c.dt_bias_dtype);
  visit("slot_dtype", c.slot_dtype);
  visit("scale", c.scale);
  visit("norm", c.norm);
  visit("norm_eps", c.norm_eps);
  visit("gate", c.gate);
  visit("gate_lower_bound", c.gate_lower_bound);
  visit("beta", c.beta);
  visit("head_map", c.head_map);
  visit("state_layout", c.state_layout);
  visit("initial_state", c.initial_state);
  visit("final_state", c.final_state);
  visit("state_steps", c.state_steps);
  visit("num_accepted", c.num_accepted);
  visit("tree", c.tree);
  visit("write_output", c.write_output);
  visit("pad_sentinel", c.pad_sentinel);
  visit("pad_policy", c.pad_policy);
  visit("programmatic", c.programmatic);
  visit("conv_width", c.conv_width);
  visit("conv_bias", c.conv_bias);
  visit("conv_state_dtype", c.conv_state_dtype);
  visit("conv_dtype", c.conv_dtype);
  visit("gated_norm", c.gated_norm);
  visit("gated_norm_eps", c.gated_norm_eps);
  visit("gated_norm_dtype", c.gated_norm_dtype);
  visit("state_vector", c.state_vector);
  visit("key_chunk", c.key_chunk);
  visit("key_vector", c.key_vector);
  visit("block_v", c.block_v);
  visit("block_k", c.block_k);
  visit("lanes_k", c.lanes_k);
  visit("warps", c.warps);
  visit("cache_hint", c.cache_hint);
  visit("turns", c.turns);
  visit("quick_compile", c.quick_compile);
}

// Visits every field under its member name.
template <typename Visitor>
constexpr void visit_fields(StepConfig& c, Visitor&& visit) {
  visit_step_config(c, visit);
}
template <typename Visitor>
constexpr void visit_fields(const StepConfig& c, Visitor&& visit) {
  visit_step_config(c, visit);
}

// The kernel's only argument, passed by value.
struct StepParams {
  const void* q;         // [B,T,H,K]
  const void* k;         // [B,T,H,K]
  const void* v;         // [B,T,HV,V]
  const void* gate;      // a, g or alpha: [B,T,HV] or [B,T,HV,K]; null for Gate::none
  const void* beta;      // b or beta: [B,T,HV]; null for Beta::none
  const void* a_log;     // [HV]
  const void* dt_bias;   // [HV] or [HV,K], dense
  const void* state_in;  // [B or slots, HV, ..]
  void* state_out;
  void* step_states;            // [B,T,HV,..] or, with slots, the pool
  const void* accepted_states;  // [B,any,HV,..] or, with slots, the pool
  void* o;                      // [B,T,HV,V]
  HeadStrides q_strides, k_strides, v_strides, gate_strides, beta_strides;
  HeadStrides o_strides;  // key_head: from one value head to the next
  StateStrides state_in_strides, state_out_strides, step_strides, accepted_strides;
  IndexArray read_slot, write_slot, step_slot, accepted_slot;
  IndexArray num_accepted, parent;  // int32
  IndexArray cu_seqlens;            // [B + 1] int32, ragged
  long long tokens;                 // T, where it is known at run time and the same for all sequences
};

}  // namespace gdnjit::gdn

// The instruction handlers, one set for each instruction set of the host CPU. The decoder describes an instruction by
// an OpKey; a set answers with the function that executes it, or nullptr if there is none.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/emulator/exec/warp.h"
#include "runtime/emulator/types.h"

namespace gdnjit::emulator {

enum class Opcode : std::uint16_t {
  // arithmetic
  add,
  sub,
  mul,
  mul_hi,
  mul_wide,
  mad,
  mad_hi,
  mad_wide,
  fma,
  div,
  div_approx,
  div_full,
  rem,
  min,
  max,
  min3,
  max3,
  abs,
  neg,
  copysign,
  sqrt,
  sqrt_approx,
  rcp,
  rcp_approx,
  rsqrt_approx,
  ex2,
  lg2,
  sin,
  cos,
  tanh,
  sad,
  add_carry,
  sub_carry,
  mad_carry,
  mad_hi_carry,
  dp4a,
  dp2a,
  product_24,
  bmsk,
  szext,
  fns,
  lop3_predicate,
  video,
  // bits
  and_,
  or_,
  xor_,
  not_,
  cnot,
  shl,
  shr,
  shf_l,
  shf_r,
  lop3,
  prmt,
  bfe,
  bfi,
  bfind,
  clz,
  popc,
  brev,
  // comparison and selection
  setp,
  set,
  selp,
  slct,
  testp,
  // movement
  mov,
  pack,
  unpack,
  clock,
  cvta_to_generic,
  cvta_from_generic,
  isspacep,
  // conversion
  cvt,
  cvt_pack,
  cvt_narrow,
  cvt_integers,
  // memory
  ld,
  st,
  atom,
  atom_vector,
  atom_128,
  ld_128,
  st_128,
  prefetch,
  // warp
  shfl,
  vote_all,
  vote_any,
  vote_uni,
  vote_ballot,
  activemask,
  match_any,
  match_all,
  redux,
  elect,
  warp_sync,
  // control
  bra,
  brx,
  exit,
  trap,
  barrier_sync,
  barrier_arrive,
  barrier_red,
  nop,
  // clusters
  cluster_arrive,
  cluster_wait,
  mapa,
  getctarank,
  // calls
  call,
  ret,
  // asynchronous copies and mbarriers
  cp_async,
  cp_async_commit,
  cp_async_wait,
  cp_async_arrive,
  bulk_copy,
  bulk_commit,
  bulk_wait,
  bulk_prefetch,
  tensor_load,
  tensor_store,
  tensor_prefetch,
  prefetch_tensormap,
  mbarrier_init,
  mbarrier_inval,
  mbarrier_expect_tx,
  mbarrier_complete_tx,
  mbarrier_arrive,
  mbarrier_test_wait,
  mbarrier_try_wait,
  mbarrier_pending_count,
  fence,
  // matrices
  mma,
  ldmatrix,
  stmatrix,
  movmatrix,
  wgmma,
  wgmma_fence,
  wgmma_commit,
  wgmma_wait,
  setmaxnreg,
};

enum class AtomicOp : std::uint8_t { add, min, max, and_, or_, xor_, exch, cas, inc, dec };
enum class ShuffleMode : std::uint8_t { up, down, bfly, idx };

struct OpKey {
  Opcode op = Opcode::nop;
  Type type = Type::none;    // of the result
  Type source = Type::none;  // of the first operand, where it differs
  Round round = Round::none;
  bool ftz = false;
  bool sat = false;
  bool nan = false;  // min.NaN, max.NaN; shiftamt, wrap/clamp and other opcode-specific variants
  bool relu = false;
  std::uint8_t variant = 0;  // ShuffleMode; kXorSign, kAbsolute of min and max; kSatFinite
  Space space = Space::generic;
  Compare compare = Compare::eq;
  bool wide_register = false;  // the register of an ld, st or cvt has 64 bits
  bool wide_address = true;    // the address register has 64 bits
  AtomicOp atomic = AtomicOp::add;
};

inline constexpr std::uint8_t kSatFinite = 1;  // of cvt
inline constexpr std::uint8_t kXorSign = 1;    // min and max of magnitudes, with the product's sign
inline constexpr std::uint8_t kAbsolute = 2;   // of the result, of three operands

// Instruction::flags of setp: how the comparison combines with predicate c, and whether c is negated.
inline constexpr std::uint8_t kCombineMask = 3;  // BoolOp
inline constexpr std::uint8_t kNegateThird = 4;
inline constexpr std::uint8_t kNegateFirst = 8;
inline constexpr std::uint8_t kNegateSecond = 16;

// Instruction::flags of the carry chains; Instruction::target is the id of the carry flag.
inline constexpr std::uint8_t kReadsCarry = 1;
inline constexpr std::uint8_t kWritesCarry = 2;

// Instruction::flags of barriers, beside kNegateThird. Operands: a the number, b the thread count, c the predicate.
inline constexpr std::uint8_t kBarrierCounts = 1;   // b is given
inline constexpr std::uint8_t kBarrierReduces = 2;  // barrier.red; Instruction::count says how
inline constexpr std::uint8_t kReducePopc = 1;
inline constexpr std::uint8_t kReduceAnd = 2;
inline constexpr std::uint8_t kReduceOr = 3;

// Instruction::flags of the cluster's barrier.
inline constexpr std::uint8_t kClusterAligned = 1;
inline constexpr std::uint8_t kClusterRelaxed = 2;  // the arrival orders no memory

struct ExecutionSet {
  std::string_view name;
  Handler (*find)(const OpKey&);
  // Runs the warp until it finishes, waits, or has issued `quantum` instructions (then: yielded). Returns how many
  // instructions it completed.
  std::uint32_t (*run_warp)(Warp& warp, std::uint32_t quantum);
};

// The fastest set this CPU can run.
const ExecutionSet& execution_set();
// For tests: every set this CPU can run.
const ExecutionSet& portable_execution_set();

// Barriers, shared by the sets (exec/barrier.cpp). Each throws a report if the warp may not arrive.
void arrive_at_barrier(Warp& warp, const Instruction& at, bool waits);
void reduce_at_barrier(Warp& warp, const Instruction& at);
// Families that gain nothing from the CPU's instruction set and are compiled once.
Handler find_async(const OpKey& key);
Handler find_cluster(const OpKey& key);
Handler find_call(const OpKey& key);
Handler find_integer_forms(const OpKey& key);
Handler find_video(const OpKey& key);
Handler find_rounded(const OpKey& key);

// Checks that the lanes named in `members` are here, as every .sync instruction asks.
void check_members(const Warp& warp, const Instruction& at, int lane, std::uint32_t members);

}  // namespace gdnjit::emulator

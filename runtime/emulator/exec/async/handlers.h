// The handlers of asynchronous instructions, one file a family.
#pragma once

#include <cstdint>

#include "runtime/emulator/exec/shared_window.h"
#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Of an mbarrier's phase, and the limit of its transaction count in both directions.
inline constexpr std::uint32_t kMaxArrivals = (1U << 20) - 1;
inline constexpr std::int64_t kMaxTransactionBytes = (1LL << 20) - 1;

// Instruction::flags of mbarrier instructions; Instruction::count is the space of the address (operand a).
inline constexpr std::uint8_t kMbarrierWide = 1;    // the address register has 64 bits
inline constexpr std::uint8_t kMbarrierParity = 2;  // a wait names a parity, not a state
inline constexpr std::uint8_t kMbarrierExpect = 4;  // .expect_tx
inline constexpr std::uint8_t kMbarrierNoComplete = 8;
inline constexpr std::uint8_t kMbarrierDrop = 16;      // arrive_drop
inline constexpr std::uint8_t kMbarrierReturns = 32;   // the state is wanted
inline constexpr std::uint8_t kMbarrierRelaxed = 64;   // orders no memory; otherwise release or acquire
inline constexpr std::uint8_t kMbarrierCluster = 128;  // scope; otherwise the block

// Instruction::flags and count of a fence.
enum class FenceKind : std::uint8_t {
  acq_rel,
  sc,
  acquire,
  release,
  mbarrier_init,  // makes initialised mbarriers known to the cluster
  proxy_alias,
  async_all,  // orders ordinary accesses before later ones of asynchronous operations, and the reverse
  async_global,
  async_shared,   // .shared::cta
  async_cluster,  // .shared::cluster
  async_generic_acquire,
  async_generic_release,
  tensormap_acquire,
  tensormap_release,
};
enum class FenceScope : std::uint8_t { none, block, cluster, gpu, system };

// Where a .shared::cta, .shared::cluster or generic address leads. Faults if that is no shared memory.
SharedPlace find_shared(Warp& warp, const Instruction& in, int lane, Space space, std::uint64_t address);

// small_copy.cpp
void execute_cp_async(Warp& warp, const Instruction& in);
void execute_cp_async_commit(Warp& warp, const Instruction& in);
void execute_cp_async_wait(Warp& warp, const Instruction& in);
void execute_cp_async_arrive(Warp& warp, const Instruction& in);

// bulk_copy.cpp
void execute_bulk_copy(Warp& warp, const Instruction& in);
void execute_bulk_commit(Warp& warp, const Instruction& in);
void execute_bulk_wait(Warp& warp, const Instruction& in);
void execute_bulk_prefetch(Warp& warp, const Instruction& in);

// tensor_copy.cpp
void execute_tensor_load(Warp& warp, const Instruction& in);
void execute_tensor_store(Warp& warp, const Instruction& in);
void execute_tensor_prefetch(Warp& warp, const Instruction& in);
void execute_prefetch_tensormap(Warp& warp, const Instruction& in);

// mbarrier.cpp
void execute_mbarrier_init(Warp& warp, const Instruction& in);
void execute_mbarrier_inval(Warp& warp, const Instruction& in);
void execute_mbarrier_expect_tx(Warp& warp, const Instruction& in);
void execute_mbarrier_complete_tx(Warp& warp, const Instruction& in);
void execute_mbarrier_arrive(Warp& warp, const Instruction& in);
void execute_mbarrier_test_wait(Warp& warp, const Instruction& in);
void execute_mbarrier_try_wait(Warp& warp, const Instruction& in);
void execute_mbarrier_pending_count(Warp& warp, const Instruction& in);

// fence.cpp
void execute_fence(Warp& warp, const Instruction& in);

}  // namespace gdnjit::emulator

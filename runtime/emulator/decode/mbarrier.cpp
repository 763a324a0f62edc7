// mbarriers and fences.
#include "runtime/emulator/decode/decoder.h"
#include "runtime/emulator/exec/async/handlers.h"

namespace gdnjit::emulator {

void Decoder::mbarrier() {
  if (take("pending_count")) {
    if (need_type() != Type::b64) malformed("an mbarrier's state is .b64");
    expect_operands(2, 2);
    use(inst_.a, source_any(operand(1), 8));
    inst_.dst = destination(operand(0), Type::b32);
    mark(inst_.dst);
    return finish(Opcode::mbarrier_pending_count, Class::control);
  }
  const bool drops = take("arrive_drop");
  if (drops || take("arrive")) return mbarrier_arrive(drops);
  if (take("test_wait")) return mbarrier_wait(Opcode::mbarrier_test_wait);
  if (take("try_wait")) return mbarrier_wait(Opcode::mbarrier_try_wait);
  if (take("init")) return mbarrier_change(Opcode::mbarrier_init);
  if (take("inval")) return mbarrier_change(Opcode::mbarrier_inval);
  if (take("expect_tx")) return mbarrier_change(Opcode::mbarrier_expect_tx);
  if (take("complete_tx")) return mbarrier_change(Opcode::mbarrier_complete_tx);
  malformed("mbarrier without an operation");
}

// Semantics, scope, space, type and the address. An mbarrier is of the block; `remote`: or of another in the cluster.
void Decoder::mbarrier_address(const Operand& value, bool remote) {
  const bool relaxed = take("relaxed");
  if (relaxed) inst_.flags |= kMbarrierRelaxed;
  if (!relaxed && !take("release")) take("acquire");
  if (take("cluster")) {
    inst_.flags |= kMbarrierCluster;
  } else {
    take("cta");
  }
  const Space space = take_space();
  if (space != Space::shared && space != Space::generic && !(remote && space == Space::cluster))
    malformed("an mbarrier is in shared memory of the block{}", remote ? " or the cluster" : "");
  if (need_type() != Type::b64) malformed("an mbarrier is .b64");
  address(value, space);
  if (key_.wide_address) inst_.flags |= kMbarrierWide;
  inst_.count = static_cast<std::uint8_t>(space);
}

// mbarrier.init [a], count; mbarrier.inval [a]; mbarrier.expect_tx [a], bytes; mbarrier.complete_tx [a], bytes.
void Decoder::mbarrier_change(Opcode op) {
  const std::size_t count = op == Opcode::mbarrier_inval ? 1 : 2;
  expect_operands(count, count);
  mbarrier_address(operand(0), op == Opcode::mbarrier_expect_tx || op == Opcode::mbarrier_complete_tx);
  if (count == 2) use(inst_.b, source_any(operand(1), 4));
  finish(op, Class::control);
}

// mbarrier.arrive{.expect_tx}{.noComplete} state, [a]{, count}.
void Decoder::mbarrier_arrive(bool drops) {
  if (drops) inst_.flags |= kMbarrierDrop;
  if (take("expect_tx")) inst_.flags |= kMbarrierExpect;
  if (take("noComplete")) inst_.flags |= kMbarrierNoComplete;
  const bool counts = (inst_.flags & (kMbarrierExpect | kMbarrierNoComplete)) != 0;
  // Older text leaves out the '_' of an arrival whose state nobody wants.
  const std::size_t first = operand(0).kind == Operand::Kind::address ? 0 : 1;
  expect_operands(first + (counts ? 2 : 1), first + 2);
  const bool returns = first == 1 && operand(0).kind != Operand::Kind::sink;
  mbarrier_address(operand(first), !returns);
  if (operand_count() == first + 2) {
    use(inst_.b, source_any(operand(first + 1), 4));
  } else {
    inst_.b = constant(1, false);
  }
  if (returns) {
    inst_.flags |= kMbarrierReturns;
    inst_.dst = destination(operand(0), Type::b64);
    mark(inst_.dst);
  }
  finish(Opcode::mbarrier_arrive, Class::control);
}

// mbarrier.test_wait|try_wait{.parity} done, [a], state|parity{, time limit}.
void Decoder::mbarrier_wait(Opcode op) {
  const bool parity = take("parity");
  if (parity) inst_.flags |= kMbarrierParity;
  expect_operands(3, op == Opcode::mbarrier_try_wait ? 4 : 3);
  mbarrier_address(operand(1), false);
  use(inst_.b, source_any(operand(2), parity ? 4 : 8));
  if (operand_count() == 4) use(inst_.c, source_any(operand(3), 4));
  inst_.dst = destination(operand(0), Type::pred);
  mark(inst_.dst);
  finish(op, Class::control);
}

namespace {

struct FenceForm {
  std::string_view name;
  FenceKind kind;
};

}  // namespace

// membar.cta|gl|sys; fence{.sc|.acq_rel|.acquire|.release}.scope; fence.mbarrier_init; fence.proxy....
void Decoder::fence() {
  FenceKind kind = FenceKind::acq_rel;
  if (take("proxy")) {
    kind = proxy_fence();
  } else if (take("mbarrier_init")) {
    kind = FenceKind::mbarrier_init;
    if (!take("release") || !take("cluster")) malformed("fence.mbarrier_init is .release.cluster");
  } else {
    constexpr FenceForm kForms[] = {{"sc", FenceKind::sc},
                                    {"acq_rel", FenceKind::acq_rel},
                                    {"acquire", FenceKind::acquire},
                                    {"release", FenceKind::release}};
    if (statement_->opcode.front() == "membar") kind = FenceKind::sc;
    for (const auto& [name, form] : kForms) {
      if (take(name)) kind = form;
    }
    take("sync_restrict::shared::cta");
    take("sync_restrict::shared::cluster");
  }
  inst_.flags = static_cast<std::uint8_t>(kind);
  inst_.count = static_cast<std::uint8_t>(fence_scope());
  if (kind == FenceKind::tensormap_acquire) {
    expect_operands(2, 2);
    if (operand(1).kind != Operand::Kind::integer || operand(1).value != 128) malformed("a tensor map has 128 bytes");
    address(operand(0), Space::generic);
  } else {
    expect_operands(0, 0);
  }
  finish(Opcode::fence, Class::control);
}

FenceScope Decoder::fence_scope() {
  constexpr std::pair<std::string_view, FenceScope> kScopes[] = {{"cta", FenceScope::block},
                                                                 {"cluster", FenceScope::cluster},
                                                                 {"gpu", FenceScope::gpu},
                                                                 {"gl", FenceScope::gpu},
                                                                 {"sys", FenceScope::system}};
  for (const auto& [name, scope] : kScopes) {
    if (take(name)) return scope;
  }
  return FenceScope::none;
}

FenceKind Decoder::proxy_fence() {
  if (take("alias")) return FenceKind::proxy_alias;
  if (take("async")) {
    if (take("global")) return FenceKind::async_global;
    if (take("shared::cta")) return FenceKind::async_shared;
    if (take("shared::cluster")) return FenceKind::async_cluster;
    return FenceKind::async_all;
  }
  if (take("async::generic")) {
    const bool acquires = take("acquire");
    if (!acquires && !take("release")) malformed("fence.proxy.async::generic needs .acquire or .release");
    take("sync_restrict::shared::cta");
    take("sync_restrict::shared::cluster");
    return acquires ? FenceKind::async_generic_acquire : FenceKind::async_generic_release;
  }
  if (take("tensormap::generic")) {
    if (take("acquire")) return FenceKind::tensormap_acquire;
    if (take("release")) return FenceKind::tensormap_release;
  }
  unsupported("a fence between these proxies");
}

}  // namespace gdnjit::emulator

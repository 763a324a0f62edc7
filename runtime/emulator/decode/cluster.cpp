// Clusters of blocks.
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {

// barrier.cluster.arrive{.release, .relaxed}{.aligned}; barrier.cluster.wait{.acquire}{.aligned}.
void Decoder::cluster_barrier() {
  const bool arrives = take("arrive");
  if (!arrives && !take("wait")) malformed("barrier.cluster needs .arrive or .wait");
  if (take("aligned")) inst_.flags |= kClusterAligned;
  const bool relaxed = arrives && take("relaxed");
  if (relaxed) inst_.flags |= kClusterRelaxed;
  if (!relaxed) take(arrives ? "release" : "acquire");
  expect_operands(0, 0);
  finish(arrives ? Opcode::cluster_arrive : Opcode::cluster_wait, Class::control);
}

// mapa{.shared::cluster}.u32|.u64 d, a, b.
void Decoder::mapa() {
  key_.space = take_space();
  if (key_.space != Space::generic && key_.space != Space::cluster) malformed("mapa maps shared::cluster or generic");
  const Type type = need_type();
  if (type != Type::u32 && type != Type::u64) malformed("mapa takes .u32 or .u64");
  key_.wide_address = type == Type::u64;
  expect_operands(3, 3);
  use(inst_.a, source_any(operand(1), type_bytes(type)));
  use(inst_.b, source(operand(2), Type::u32));
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  finish(Opcode::mapa, Class::integer_arithmetic);
}

// getctarank{.shared::cluster}.u32|.u64 d, a: d has 32 bits.
void Decoder::getctarank() {
  key_.space = take_space();
  if (key_.space != Space::generic && key_.space != Space::cluster)
    malformed("getctarank asks about shared::cluster or generic");
  const Type type = need_type();
  if (type != Type::u32 && type != Type::u64) malformed("getctarank takes .u32 or .u64");
  key_.wide_address = type == Type::u64;
  expect_operands(2, 2);
  use(inst_.a, source_any(operand(1), type_bytes(type)));
  inst_.dst = destination(operand(0), Type::u32);
  mark(inst_.dst);
  finish(Opcode::getctarank, Class::integer_arithmetic);
}

}  // namespace gdnjit::emulator

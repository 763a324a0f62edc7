// Tensor-core instructions: mma, ldmatrix, stmatrix, movmatrix, wgmma, setmaxnreg.
#include <algorithm>
#include <charconv>

#include "runtime/emulator/decode/decoder.h"
#include "runtime/emulator/exec/wgmma.h"

namespace gdnjit::emulator {
namespace {

struct Shape {
  int m = 0;
  int n = 0;
  int k = 0;
};

// "m16n8k32".
std::optional<Shape> parse_shape(std::string_view word) {
  Shape shape;
  const auto number = [&word](char letter, int& value) {
    if (word.empty() || word.front() != letter) return false;
    const auto [end, error] = std::from_chars(word.data() + 1, word.data() + word.size(), value);
    if (error != std::errc() || value < 1 || value > 256) return false;
    word.remove_prefix(static_cast<std::size_t>(end - word.data()));
    return true;
  };
  if (number('m', shape.m) && number('n', shape.n) && number('k', shape.k) && word.empty()) return shape;
  return std::nullopt;
}

std::optional<ElementType> find_element(std::string_view name) {
  static constexpr std::pair<std::string_view, ElementType> kNames[] = {
      {"f16", ElementType::f16},   {"bf16", ElementType::bf16}, {"tf32", ElementType::tf32},
      {"e4m3", ElementType::e4m3}, {"e5m2", ElementType::e5m2}, {"s8", ElementType::s8},
      {"u8", ElementType::u8},     {"s4", ElementType::s4},     {"u4", ElementType::u4},
      {"f32", ElementType::f32},   {"s32", ElementType::s32}};
  for (const auto& [known, type] : kNames) {
    if (known == name) return type;
  }
  return std::nullopt;
}

bool is_fp8(ElementType type) { return type == ElementType::e4m3 || type == ElementType::e5m2; }

// Whether A, B and D may meet in one instruction, apart from the shape.
bool types_fit(const TensorOp& op) {
  if (is_integer_element(op.a) || is_integer_element(op.b)) {
    return op.d == ElementType::s32 && is_integer_element(op.b) && is_integer_element(op.a) &&
           element_bits(op.a) == element_bits(op.b) && element_bits(op.a) <= 8;
  }
  if (is_fp8(op.a) || is_fp8(op.b))
    return is_fp8(op.a) && is_fp8(op.b) && (op.d == ElementType::f32 || op.d == ElementType::f16);
  if (op.a != op.b) return false;
  if (op.a == ElementType::f16) return op.d == ElementType::f16 || op.d == ElementType::f32;
  return (op.a == ElementType::bf16 || op.a == ElementType::tf32) && op.d == ElementType::f32;
}

// mma: k takes one or two registers of B.
bool mma_depth_fits(const TensorOp& op) {
  const int pack = 32 / element_bits(op.a);
  return op.k == 4 * pack || op.k == 8 * pack;
}

bool wgmma_width_fits(const TensorOp& op) {
  if (op.n % 8 != 0 || op.n > 256) return false;
  return !is_integer_element(op.a) || op.n <= 32 || op.n % 16 == 0;
}

}  // namespace

// .m16n8k16; then the types in the order in which they stand. Nothing else may be left among the modifiers.
void Decoder::take_shape_and_types(TensorOp& op, int m, std::span<ElementType* const> types) {
  std::optional<Shape> shape;
  for (auto place = modifiers_.begin(); place != modifiers_.end() && !shape; ++place) {
    shape = parse_shape(*place);
    if (shape) {
      place = modifiers_.erase(place);
      break;
    }
  }
  if (!shape || shape->m != m) unsupported("'{}' of this shape", statement_->opcode.front());
  op.n = static_cast<std::uint16_t>(shape->n);
  op.k = static_cast<std::uint16_t>(shape->k);
  op.satfinite = take("satfinite");
  if (modifiers_.size() < types.size()) malformed("needs {} types", types.size());
  for (ElementType* type : types) {
    const auto found = find_element(modifiers_.front());
    if (!found) unsupported("the emulator does not know '.{}' of '{}'", modifiers_.front(), statement_->opcode.front());
    *type = *found;
    modifiers_.erase(modifiers_.begin());
  }
  if (!types_fit(op) || (op.satfinite && op.d != ElementType::s32))
    unsupported("these types of '{}'", statement_->opcode.front());
}

// {r0, r1, ...}, or r0 alone for one register.
void Decoder::matrix_registers(const Operand& operand, std::size_t count, bool is_destination,
                               std::vector<Slot>& slots) {
  const bool is_vector = operand.kind == Operand::Kind::vector;
  const std::span<const Operand> items = is_vector ? std::span(operand.items) : std::span(&operand, 1);
  if (items.size() != count) malformed("{} registers where {} are needed", items.size(), count);
  for (const Operand& item : items)
    slots.push_back(is_destination ? destination(item, Type::b32) : source_any(item, 4));
}

void Decoder::need_sync_aligned() {
  if (!take("sync") || !take("aligned")) malformed("'{}' needs .sync.aligned", statement_->opcode.front());
}

void Decoder::mma() {
  need_sync_aligned();
  if (!take("row") || !take("col")) unsupported("mma that is not .row.col");
  TensorOp op;
  ElementType c = ElementType::f32;
  ElementType* const types[] = {&op.d, &op.a, &op.b, &c};
  take_shape_and_types(op, 16, types);
  if (op.n != 8 || !mma_depth_fits(op)) unsupported("mma of this shape and these types");
  if (c != op.d) unsupported("mma whose C and D have different types");
  const int bits = element_bits(op.a);
  op.d_registers = static_cast<std::uint16_t>(op.d == ElementType::f16 ? 2 : 4);
  op.a_registers = static_cast<std::uint16_t>(op.k * bits / 64);
  op.b_registers = static_cast<std::uint16_t>(op.k * bits / 128);
  expect_operands(4, 4);
  std::vector<Slot> slots;
  matrix_registers(operand(0), op.d_registers, true, slots);
  matrix_registers(operand(1), op.a_registers, false, slots);
  matrix_registers(operand(2), op.b_registers, false, slots);
  matrix_registers(operand(3), op.d_registers, false, slots);
  op.operands = add_operands(slots);
  inst_.target = static_cast<std::uint32_t>(program_.tensor_ops.size());
  program_.tensor_ops.push_back(op);
  finish(Opcode::mma, Class::tensor_core);
}

// ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {r0, ...}, [address]; stmatrix the other way round.
void Decoder::matrix_access() {
  const bool loads = statement_->opcode.front() == "ldmatrix";
  need_sync_aligned();
  if (!take("m8n8")) unsupported("'{}' of this shape", statement_->opcode.front());
  const int count = take("x1") ? 1 : take("x2") ? 2 : take("x4") ? 4 : 0;
  if (count == 0) malformed("needs .x1, .x2 or .x4");
  inst_.flags = take("trans") ? 1 : 0;
  key_.space = take_space();
  if (!take("b16")) unsupported("'{}' of elements other than .b16", statement_->opcode.front());
  expect_operands(2, 2);
  std::vector<Slot> slots;
  matrix_registers(operand(loads ? 0 : 1), static_cast<std::size_t>(count), loads, slots);
  inst_.operands = add_operands(slots);
  inst_.count = static_cast<std::uint8_t>(count);
  address(operand(loads ? 1 : 0), key_.space);
  // Only the first 8 lanes of each matrix name an address: the handler checks those.
  inst_.checked[0] = kConstantId;
  finish(loads ? Opcode::ldmatrix : Opcode::stmatrix, loads ? Class::shared_load : Class::shared_store);
}

void Decoder::movmatrix() {
  need_sync_aligned();
  if (!take("m8n8") || !take("trans") || !take("b16")) unsupported("movmatrix other than .m8n8.trans.b16");
  expect_operands(2, 2);
  inst_.dst = destination(operand(0), Type::b32);
  mark(inst_.dst);
  use(inst_.a, source(operand(1), Type::b32));
  finish(Opcode::movmatrix, Class::shuffle);
}

// ---- wgmma

std::int64_t Decoder::small_constant(std::size_t index, std::int64_t low, std::int64_t high) {
  const Operand& value = operand(index);
  const auto number = static_cast<std::int64_t>(value.value);
  if (value.kind != Operand::Kind::integer || number < low || number > high)
    malformed("operand {} must be a constant from {} to {}", index, low, high);
  return number;
}

void Decoder::wgmma() {
  const bool multiplies = take("mma_async");
  const bool fences = take("fence");
  const bool commits = take("commit_group");
  const bool waits = take("wait_group");
  if (multiplies + fences + commits + waits != 1)
    malformed("wgmma needs .mma_async, .fence, .commit_group or .wait_group");
  need_sync_aligned();
  if (program_.target != "sm_90a") unsupported("wgmma needs the target sm_90a; this is {}", program_.target);
  if (multiplies) return wgmma_multiply();
  expect_operands(waits ? 1 : 0, waits ? 1 : 0);
  if (waits) inst_.immediate = small_constant(0, 0, 7);
  finish(fences ? Opcode::wgmma_fence : commits ? Opcode::wgmma_commit : Opcode::wgmma_wait, Class::control);
}

// d, a, b, scale-d [, scale-a, scale-b [, trans-a] , trans-b]; trans-a only where a is a descriptor.
void Decoder::wgmma_multiply() {
  TensorOp op;
  ElementType* const types[] = {&op.d, &op.a, &op.b};
  take_shape_and_types(op, 64, types);
  const int bits = element_bits(op.a);
  if (bits == 4 || op.k * bits != 256 || !wgmma_width_fits(op)) unsupported("wgmma of this shape and these types");
  const bool fragments = operand(1).kind == Operand::Kind::vector;
  const bool integer = is_integer_element(op.a);
  const std::size_t count = integer ? 4 : bits != 16 ? 6 : fragments ? 7 : 8;
  expect_operands(count, count);
  op.d_registers = static_cast<std::uint16_t>(op.d == ElementType::f16 ? op.n / 4 : op.n / 2);
  op.a_registers = fragments ? 4 : 0;
  if (!integer) {
    const auto scale = [this](std::size_t index) {
      const std::int64_t value = small_constant(index, -1, 1);
      if (value == 0) malformed("operand {} must be 1 or -1", index);
      return value < 0;
    };
    op.negate_a = scale(4);
    op.negate_b = scale(5);
  }
  if (bits == 16) {
    op.a_mn_major = !fragments && small_constant(6, 0, 1) != 0;
    op.b_mn_major = small_constant(count - 1, 0, 1) != 0;
  }
  std::vector<Slot> slots;
  matrix_registers(operand(0), op.d_registers, true, slots);
  if (fragments) {
    matrix_registers(operand(1), op.a_registers, false, slots);
  } else {
    use(inst_.a, source_any(operand(1), 8));
  }
  use(inst_.b, source_any(operand(2), 8));
  bool negated = false;
  use(inst_.c, predicate(operand(3), &negated));
  if (negated) inst_.flags |= kNegateThird;
  for (const Slot slot : slots) wgmma_registers_.insert(slot.id);
  op.operands = add_operands(slots);
  inst_.target = static_cast<std::uint32_t>(program_.tensor_ops.size());
  program_.tensor_ops.push_back(op);
  finish(Opcode::wgmma, Class::tensor_core);
}

void Decoder::setmaxnreg() {
  if (!take("inc") && !take("dec")) malformed("setmaxnreg needs .inc or .dec");
  need_sync_aligned();
  if (need_type() != Type::u32) malformed("setmaxnreg takes .u32");
  expect_operands(1, 1);
  if (small_constant(0, 24, 256) % 8 != 0) malformed("the number of registers must be a multiple of 8");
  finish(Opcode::setmaxnreg, Class::other);
}

namespace {

// Operand 0 of these is a source.
bool has_no_destination(std::string_view root) {
  static constexpr std::string_view kRoots[] = {"wgmma", "st",        "stmatrix",   "red",  "bar",     "barrier",
                                                "brx",   "nanosleep", "setmaxnreg", "call", "prefetch"};
  return std::find(std::begin(kRoots), std::end(kRoots), root) != std::end(kRoots);
}

}  // namespace

// Finds the instructions, other than wgmma, that write accumulators or A fragments of a wgmma, and puts
// execute_guarded in front of them. Registers that are copied into such registers count as such.
// REQUIRES: the body's statements are the instructions from `first` on, one to one.
void Decoder::guard_wgmma_registers(std::size_t first) {
  wgmma_registers_.erase(kConstantId);
  if (wgmma_registers_.empty()) return;
  const auto id_of = [this](const Operand& item) {
    return item.kind == Operand::Kind::reg ? registers_[item.reg].id : kConstantId;
  };
  const auto is_copy = [](const Statement& statement) {
    return statement.opcode.front() == "mov" && statement.operands.size() == 2 &&
           statement.operands[0].kind == Operand::Kind::reg && statement.operands[1].kind == Operand::Kind::reg;
  };
  const auto is_move = [&](const Statement& statement) {
    const auto is_literal = [](const Operand& item) {
      return item.kind == Operand::Kind::integer || item.kind == Operand::Kind::real32;
    };
    return is_copy(statement) ||
           (statement.opcode.front() == "mov" && statement.operands.size() == 2 &&
            statement.operands[0].kind == Operand::Kind::reg && is_literal(statement.operands[1]));
  };
  for (bool grows = true; grows;) {
    grows = false;
    for (const Statement& statement : kernel_.statements) {
      if (is_copy(statement) && wgmma_registers_.contains(id_of(statement.operands[0])))
        grows = wgmma_registers_.insert(id_of(statement.operands[1])).second || grows;
    }
  }
  for (std::size_t index = 0; index < kernel_.statements.size(); ++index) {
    const Statement& statement = kernel_.statements[index];
    if (statement.operands.empty() || has_no_destination(statement.opcode.front())) continue;
    const Operand& target = statement.operands.front();
    const bool is_list = target.kind == Operand::Kind::vector || target.kind == Operand::Kind::pair;
    GuardedWrite guarded;
    for (const Operand& item : is_list ? std::span(target.items) : std::span(&target, 1)) {
      if (wgmma_registers_.contains(id_of(item))) guarded.ids.push_back(id_of(item));
    }
    if (guarded.ids.empty()) continue;
    guarded.copies = is_move(statement);
    if (is_copy(statement)) guarded.copied_from = id_of(statement.operands[1]);
    Instruction& instruction = program_.instructions[first + index];
    guarded.run = instruction.run;
    instruction.run = execute_guarded;
    program_.guarded_writes.emplace(instruction.index, std::move(guarded));
  }
}

}  // namespace gdnjit::emulator

// Video instructions: arithmetic on bytes and halfwords of registers.
#include "runtime/emulator/exec/video.h"
#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

std::optional<VideoOp> video_op(std::string_view root) {
  static const std::unordered_map<std::string_view, VideoOp> kOps{
      {"vadd", VideoOp::add}, {"vsub", VideoOp::sub},  {"vabsdiff", VideoOp::absdiff}, {"vmin", VideoOp::min},
      {"vmax", VideoOp::max}, {"vshl", VideoOp::shl},  {"vshr", VideoOp::shr},         {"vmad", VideoOp::mad},
      {"vset", VideoOp::set}, {"vavrg", VideoOp::avrg}};
  const auto found = kOps.find(root);
  return found == kOps.end() ? std::nullopt : std::optional(found->second);
}

bool is_word(Type type) { return type == Type::u32 || type == Type::s32; }

}  // namespace

// A register, alone or with a selector such as .b0 or .h32, or a literal.
Slot Decoder::part(const Operand& operand, std::string_view* selector, bool* negated) {
  if (operand.kind != Operand::Kind::part) return source(operand, Type::b32);
  if (operand.negated && negated == nullptr) malformed("'-' is not possible here");
  if (negated != nullptr) *negated = operand.negated;
  *selector = operand.name;
  if (type_bytes(kernel_.registers[operand.reg].type) != 4) malformed("a video instruction takes 32-bit registers");
  return register_slot(operand.reg);
}

std::uint8_t Decoder::take_comparison() {
  static constexpr std::string_view kNames[] = {"eq", "ne", "lt", "le", "gt", "ge"};
  for (std::uint8_t index = 0; index < 6; ++index) {
    if (take(kNames[index])) return index;
  }
  malformed("vset needs a comparison");
}

// "b0".."b3" and "h0", "h1" of one element; "" is the whole register.
std::uint8_t Decoder::scalar_selector(std::string_view text) const {
  static constexpr std::string_view kNames[] = {"", "b0", "b1", "b2", "b3", "h0", "h1"};
  for (std::uint8_t index = 0; index < 7; ++index) {
    if (kNames[index] == text) return index;
  }
  malformed("the selector '.{}'", text);
}

// "h32": an element of {b, a} for each element of the result, the highest first. 4 bits each.
std::uint16_t Decoder::lane_selector(std::string_view text, std::uint32_t elements, std::uint16_t standard) const {
  if (text.empty()) return standard;
  const char kind = elements == 2 ? 'h' : 'b';
  if (text.size() != elements + 1 || text.front() != kind) malformed("the selector '.{}'", text);
  std::uint16_t result = 0;
  for (const char digit : text.substr(1)) {
    if (digit < '0' || digit >= static_cast<char>('0' + 2 * elements)) malformed("the selector '.{}'", text);
    result = static_cast<std::uint16_t>(result << 4 | (digit - '0'));
  }
  return result;
}

// The elements that "h10" or "b20" names.
std::uint8_t Decoder::lane_mask(std::string_view text, std::uint32_t elements) const {
  if (text.empty()) return static_cast<std::uint8_t>((1U << elements) - 1);
  std::uint8_t mask = 0;
  char last = static_cast<char>('0' + elements);
  if (text.front() != (elements == 2 ? 'h' : 'b') || text.size() < 2) malformed("the mask '.{}'", text);
  for (const char digit : text.substr(1)) {
    if (digit < '0' || digit >= last) malformed("the mask '.{}'", text);
    mask = static_cast<std::uint8_t>(mask | 1U << (digit - '0'));
    last = digit;
  }
  return mask;
}

void Decoder::video() {
  std::string_view root = statement_->opcode.front();
  VideoSpec spec;
  if (root.ends_with('2') || root.ends_with('4')) {
    spec.elements = static_cast<std::uint32_t>(root.back() - '0');
    root.remove_suffix(1);
  }
  spec.op = *video_op(root);
  const bool compares = spec.op == VideoOp::set;
  const Type result = compares ? Type::u32 : need_type();
  const Type a = need_type();
  const Type b = need_type();
  if (!is_word(result) || !is_word(a) || !is_word(b)) malformed("video instructions take .u32 and .s32");
  spec.result_signed = is_signed(result);
  spec.a_signed = is_signed(a);
  spec.b_signed = is_signed(b);
  if (compares) spec.compare = take_comparison();
  if (spec.elements == 0) return video_scalar(spec);
  spec.saturates = !compares && take("sat");
  spec.accumulates = take("add");
  expect_operands(4, 4);
  std::string_view selector;
  const std::uint16_t first = spec.elements == 2 ? 0x10 : 0x3210;
  const std::uint16_t second = spec.elements == 2 ? 0x32 : 0x7654;
  use(inst_.a, part(operand(1), &selector, nullptr));
  spec.a_select = lane_selector(selector, spec.elements, first);
  selector = {};
  use(inst_.b, part(operand(2), &selector, nullptr));
  spec.b_select = lane_selector(selector, spec.elements, second);
  use(inst_.c, source(operand(3), Type::b32));
  finish_video(spec, operand(0));
}

void Decoder::video_scalar(VideoSpec spec) {
  std::string_view selector;
  if (spec.op == VideoOp::shl || spec.op == VideoOp::shr) {
    spec.clamps = take("clamp");
    if (!spec.clamps && !take("wrap")) malformed("needs .clamp or .wrap");
    if (spec.b_signed) malformed("the shift amount is .u32");
  }
  spec.saturates = spec.op != VideoOp::set && take("sat");
  const bool is_mad = spec.op == VideoOp::mad;
  if (is_mad) {
    spec.plus_one = take("po");
    spec.shift = take("shr7") ? 7 : take("shr15") ? 15 : 0;
  } else {
    spec.second = take("add")   ? VideoSecond::add
                  : take("min") ? VideoSecond::min
                  : take("max") ? VideoSecond::max
                                : VideoSecond::none;
  }
  const Operand& target = operand(0);
  const bool merges = target.kind == Operand::Kind::part;
  const bool has_third = is_mad || merges || spec.second != VideoSecond::none;
  if (merges && (is_mad || spec.second != VideoSecond::none)) malformed("a part of a register as the result");
  expect_operands(has_third ? 4 : 3, has_third ? 4 : 3);
  use(inst_.a, part(operand(1), &selector, is_mad ? &spec.a_negated : nullptr));
  spec.a_select = scalar_selector(selector);
  selector = {};
  use(inst_.b, part(operand(2), &selector, is_mad ? &spec.b_negated : nullptr));
  spec.b_select = scalar_selector(selector);
  selector = {};
  if (has_third) use(inst_.c, part(operand(3), &selector, is_mad ? &spec.c_negated : nullptr));
  if (!selector.empty()) malformed("a part of the third operand");
  if (spec.plus_one && (spec.a_negated || spec.b_negated || spec.c_negated)) malformed("'.po' with '-'");
  if (merges) spec.merge = scalar_selector(target.name);
  finish_video(spec, target);
}

void Decoder::finish_video(VideoSpec spec, const Operand& target) {
  std::string_view mask;
  if (target.kind == Operand::Kind::part) {
    if (target.negated || type_bytes(kernel_.registers[target.reg].type) != 4) malformed("the destination");
    mask = target.name;
    inst_.dst = register_slot(target.reg);
  } else {
    inst_.dst = destination(target, Type::b32);
  }
  if (spec.elements != 0) spec.mask = lane_mask(mask, spec.elements);
  mark(inst_.dst);
  inst_.target = static_cast<std::uint32_t>(program_.video.size());
  program_.video.push_back(spec);
  finish(Opcode::video, Class::integer_arithmetic);
}

}  // namespace gdnjit::emulator

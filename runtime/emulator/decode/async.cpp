// cp.async, bulk and bulk tensor copies and reductions.
#include <algorithm>

#include "runtime/emulator/decode/decoder.h"
#include "runtime/emulator/exec/async/spec.h"
#include "runtime/emulator/traits.h"

namespace gdnjit::emulator {
namespace {

constexpr std::pair<std::string_view, AtomicOp> kReductions[] = {
    {"add", AtomicOp::add}, {"min", AtomicOp::min},  {"max", AtomicOp::max}, {"inc", AtomicOp::inc},
    {"dec", AtomicOp::dec}, {"and", AtomicOp::and_}, {"or", AtomicOp::or_},  {"xor", AtomicOp::xor_}};
constexpr std::pair<std::string_view, Space> kSpaces[] = {{"global", Space::global},
                                                          {"shared", Space::shared},
                                                          {"shared::cta", Space::shared},
                                                          {"shared::cluster", Space::cluster}};

}  // namespace

// The next state space in the order written: the destination's, then the source's.
Space Decoder::take_space_in_order() {
  for (const std::string_view modifier : modifiers_) {
    for (const auto& [name, space] : kSpaces) {
      if (modifier != name) continue;
      take(name);
      return space;
    }
  }
  malformed("a copy names the state spaces of its destination and its source");
}

void Decoder::async_address(std::vector<Slot>& slots, AsyncSpec& spec, const Operand& value, Space space) {
  address(value, space);
  if (key_.wide_address) spec.wide |= static_cast<std::uint8_t>(1U << slots.size() / 2);
  slots.push_back(inst_.a);
  slots.push_back(constant(static_cast<std::uint64_t>(inst_.immediate), true));
}

// The cache policy of .L2::cache_hint, always the last operand.
void Decoder::cache_policy(std::vector<Slot>& slots, std::size_t& operands) {
  if (!take("L2::cache_hint")) return;
  if (operands == 0) malformed(".L2::cache_hint needs a cache policy");
  slots.push_back(source_any(operand(--operands), 8));
}

void Decoder::finish_async(Opcode op, Class counted, const AsyncSpec& spec, const std::vector<Slot>& slots) {
  inst_.operands = add_operands(slots);
  inst_.count = static_cast<std::uint8_t>(slots.size());
  inst_.immediate = std::bit_cast<std::int64_t>(spec);
  finish(op, counted);
}

void Decoder::cp() {
  const bool reduces = take("reduce");
  if (!take("async")) malformed("cp needs .async");
  if (take("bulk")) return bulk(reduces);
  if (reduces) malformed("cp.reduce.async needs .bulk");
  if (take("commit_group")) {
    expect_operands(0, 0);
    return finish(Opcode::cp_async_commit, Class::control);
  }
  if (take("wait_all")) {
    expect_operands(0, 0);
    return finish_async(Opcode::cp_async_wait, Class::control, {.options = kWaitAll}, {});
  }
  if (take("wait_group")) return async_wait(Opcode::cp_async_wait);
  if (take("mbarrier")) {
    if (!take("arrive")) malformed("cp.async.mbarrier needs .arrive");
    AsyncSpec spec;
    if (take("noinc")) spec.options = kNoIncrement;
    spec.to = take_space();
    if (spec.to != Space::shared && spec.to != Space::generic) unsupported("an mbarrier of this state space");
    if (need_type() != Type::b64) malformed("an mbarrier is .b64");
    expect_operands(1, 1);
    std::vector<Slot> slots;
    async_address(slots, spec, operand(0), spec.to);
    return finish_async(Opcode::cp_async_arrive, Class::control, spec, slots);
  }
  small_copy();
}

// wait_group{.read} n: n is a number.
void Decoder::async_wait(Opcode op) {
  AsyncSpec spec;
  if (op == Opcode::bulk_wait && take("read")) spec.options = kReadOnly;
  expect_operands(1, 1);
  if (operand(0).kind != Operand::Kind::integer || operand(0).value > 0xffffffffU)
    malformed("the groups that may stay pending must be a number");
  inst_.target = static_cast<std::uint32_t>(operand(0).value);
  finish_async(op, Class::control, spec, {});
}

// cp.async.ca|cg.shared.global [to], [from], bytes{, source bytes | ignore source}{, cache policy}.
void Decoder::small_copy() {
  const bool all_levels = take("ca");
  if (!all_levels && !take("cg")) malformed("cp.async needs .ca or .cg");
  AsyncSpec spec;
  spec.to = take_space_in_order();
  spec.from = take_space_in_order();
  if (spec.to != Space::shared || spec.from != Space::global) malformed("cp.async copies from global to shared");
  take_cache_hints();
  std::size_t operands = operand_count();
  std::vector<Slot> policy;
  cache_policy(policy, operands);
  if (operands < 3 || operands > 4) malformed("cp.async takes two addresses, a size and an option");
  const Operand& size = operand(2);
  if (size.kind != Operand::Kind::integer ||
      !(size.value == 16 || (all_levels && (size.value == 4 || size.value == 8))))
    malformed("cp.async copies 16 bytes, with .ca also 4 or 8");
  spec.size = static_cast<std::uint8_t>(size.value);
  std::vector<Slot> slots;
  async_address(slots, spec, operand(0), Space::shared);
  async_address(slots, spec, operand(1), Space::global);
  if (operands == 4) {
    const Operand& option = operand(3);
    if (option.kind == Operand::Kind::reg && kernel_.registers[option.reg].type == Type::pred) {
      bool negated = false;
      slots.push_back(predicate(option, &negated));
      spec.options = static_cast<std::uint8_t>(kIgnoreSource | (negated ? kNegated : 0));
    } else {
      slots.push_back(source_any(option, 4));
      spec.options = kSourceSize;
    }
  }
  slots.insert(slots.end(), policy.begin(), policy.end());
  finish_async(Opcode::cp_async, Class::global_load, spec, slots);
}

void Decoder::bulk(bool reduces) {
  if (!runs_on("sm_90", program_.target)) unsupported("bulk copies need sm_90 or later; this is {}", program_.target);
  if (!reduces && take("commit_group")) {
    expect_operands(0, 0);
    return finish(Opcode::bulk_commit, Class::control);
  }
  if (!reduces && take("wait_group")) return async_wait(Opcode::bulk_wait);
  for (const std::string_view modifier : modifiers_) {
    if (modifier.starts_with("im2col") || modifier == "tile::gather4" || modifier == "tile::scatter4")
      unsupported("the emulator copies tensors in tile mode only, not with .{}", modifier);
  }
  AsyncSpec spec;
  if (reduces) reduction(spec);
  const bool prefetches = !reduces && take("prefetch");
  if (take("tensor")) return tensor(spec, prefetches);
  if (prefetches) return bulk_prefetch();
  bulk_copy(spec);
}

void Decoder::reduction(AsyncSpec& spec) {
  spec.options |= kReduces;
  for (const auto& [name, op] : kReductions) {
    if (!take(name)) continue;
    spec.op = op;
    return;
  }
  malformed("a reduction needs its operation");
}

// cp.async.bulk.prefetch.L2.global [from], size.
void Decoder::bulk_prefetch() {
  if (!take("L2") || !take("global")) malformed("a bulk prefetch is .L2.global");
  AsyncSpec spec;
  std::vector<Slot> slots, policy;
  std::size_t operands = operand_count();
  cache_policy(policy, operands);
  if (operands != 2) malformed("a bulk prefetch takes an address and a size");
  async_address(slots, spec, operand(0), Space::global);
  slots.push_back(source_any(operand(1), 4));
  slots.insert(slots.end(), policy.begin(), policy.end());
  finish_async(Opcode::bulk_prefetch, Class::other, spec, slots);
}

// How the end of a copy is made known. True: at an mbarrier; false: in a bulk group.
bool Decoder::completion() {
  const bool signals = take("mbarrier::complete_tx::bytes");
  if (signals == take("bulk_group")) malformed("a bulk copy needs .mbarrier::complete_tx::bytes or .bulk_group");
  return signals;
}

// cp{.reduce}.async.bulk.to.from.completion [to], [from], size{, [mbarrier]}{, blocks}{, cache policy}.
void Decoder::bulk_copy(AsyncSpec spec) {
  spec.to = take_space_in_order();
  spec.from = take_space_in_order();
  const bool reduces = (spec.options & kReduces) != 0;
  const bool signals = completion();
  const bool loads = spec.from == Space::global && spec.to != Space::global && !reduces;
  const bool crosses = spec.from == Space::shared && spec.to == Space::cluster;
  const bool stores = spec.from == Space::shared && spec.to == Space::global;
  if (!(signals ? loads || crosses : stores)) malformed("no bulk copy between these state spaces completes like this");
  if (reduces) {
    const bool unflushed = take("noftz");
    spec.type = need_type();
    const bool half_add = (spec.type == Type::f16 || spec.type == Type::bf16) && spec.op == AtomicOp::add;
    if (unflushed != half_add) malformed(".noftz belongs to .add of .f16 and .bf16");
    if (!reduction_exists({spec.op, spec.type}, stores)) unsupported("this reduction of .{}", type_name(spec.type));
  }
  if (signals) spec.options |= kSignals;
  if (loads && take("multicast::cluster")) spec.options |= kMulticast;
  const bool multicast = (spec.options & kMulticast) != 0;
  if (multicast && spec.to != Space::cluster) malformed("a multicast goes to .shared::cluster");
  std::vector<Slot> slots, policy;
  std::size_t operands = operand_count();
  cache_policy(policy, operands);
  if (operands != 3U + signals + multicast) malformed("a bulk copy with too few or too many operands");
  async_address(slots, spec, operand(0), spec.to);
  async_address(slots, spec, operand(1), spec.from);
  if (signals) async_address(slots, spec, operand(3), spec.to);
  slots.push_back(source_any(operand(2), 4));
  if (multicast) slots.push_back(source_any(operand(4), 2));
  slots.insert(slots.end(), policy.begin(), policy.end());
  const Class counted = loads ? Class::global_load : stores ? Class::global_store : Class::shared_store;
  finish_async(Opcode::bulk_copy, counted, spec, slots);
}

// [map, {c0, c1}] of n coordinates, the innermost first.
void Decoder::tensor_operand(std::vector<Slot>& slots, AsyncSpec& spec, std::vector<Slot>& coordinates,
                             const Operand& value) {
  if (value.kind != Operand::Kind::address || value.items.size() != 2) malformed("a tensor is [map, {{coordinates}}]");
  const std::vector<Operand>& numbers = value.items[1].items;
  if (numbers.size() != spec.size) malformed("{} coordinates for a tensor of {} dimensions", numbers.size(), spec.size);
  Operand map = value;
  map.items.pop_back();
  async_address(slots, spec, map, Space::generic);
  for (const Operand& number : numbers) coordinates.push_back(source_any(number, 4));
}

// cp.async.bulk.tensor.<n>d..., cp.reduce.async.bulk.tensor.<n>d..., cp.async.bulk.prefetch.tensor.<n>d...
void Decoder::tensor(AsyncSpec spec, bool prefetches) {
  for (const std::string_view dimensions : {"1d", "2d", "3d", "4d", "5d"}) {
    if (take(dimensions)) spec.size = static_cast<std::uint8_t>(dimensions.front() - '0');
  }
  if (spec.size == 0) malformed("a tensor copy needs .1d to .5d");
  take("tile");
  std::vector<Slot> slots, coordinates, policy;
  std::size_t operands = operand_count();
  cache_policy(policy, operands);
  const auto done = [&](Opcode op, Class counted) {
    slots.insert(slots.end(), coordinates.begin(), coordinates.end());
    slots.insert(slots.end(), policy.begin(), policy.end());
    finish_async(op, counted, spec, slots);
  };
  if (prefetches) {
    if (!take("L2") || !take("global")) malformed("a tensor prefetch is .L2.global");
    if (operands != 1) malformed("a tensor prefetch takes one operand");
    tensor_operand(slots, spec, coordinates, operand(0));
    return done(Opcode::tensor_prefetch, Class::other);
  }
  spec.to = take_space_in_order();
  spec.from = take_space_in_order();
  const bool signals = completion();
  if (!signals) {
    if (spec.to != Space::global || spec.from != Space::shared) malformed("a tensor store goes from shared to global");
    if (operands != 2) malformed("a tensor store takes the tensor and an address");
    tensor_operand(slots, spec, coordinates, operand(0));
    async_address(slots, spec, operand(1), Space::shared);
    return done(Opcode::tensor_store, Class::global_store);
  }
  if (spec.from != Space::global || spec.to == Space::global || (spec.options & kReduces) != 0)
    malformed("a tensor load goes from global to shared");
  const bool multicast = take("multicast::cluster");
  if (multicast && spec.to != Space::cluster) malformed("a multicast goes to .shared::cluster");
  if (operands != 3U + multicast) malformed("a tensor load takes an address, the tensor, an mbarrier");
  tensor_operand(slots, spec, coordinates, operand(1));
  async_address(slots, spec, operand(0), spec.to);
  async_address(slots, spec, operand(2), spec.to);
  if (multicast) {
    spec.options |= kMulticast;
    coordinates.push_back(source_any(operand(3), 2));
  }
  done(Opcode::tensor_load, Class::global_load);
}

// createpolicy.fractional.L2::first{.L2::second}.b64 policy{, fraction}: there is no cache, so a policy is just a
// number.
void Decoder::createpolicy() {
  if (!take("fractional")) unsupported("a cache policy other than .fractional");
  bool found = false;
  for (const char* priority : {"L2::evict_last", "L2::evict_normal", "L2::evict_first", "L2::evict_unchanged"})
    found = take(priority) || found;
  if (!found) malformed("a cache policy needs a priority");
  if (need_type() != Type::b64) malformed("a cache policy is .b64");
  expect_operands(1, 2);
  if (operand_count() == 2) check(source_any(operand(1), 4));
  key_.type = Type::b64;
  inst_.a = constant(1, true);
  inst_.dst = destination(operand(0), Type::b64);
  finish(Opcode::mov, Class::data_movement);
}

// prefetch{.param}.tensormap [map].
void Decoder::prefetch_tensormap() {
  AsyncSpec spec;
  spec.from = take_space();
  if (spec.from != Space::generic && spec.from != Space::param) unsupported("a tensor map in this state space");
  expect_operands(1, 1);
  std::vector<Slot> slots;
  async_address(slots, spec, operand(0), spec.from);
  finish_async(Opcode::prefetch_tensormap, Class::other, spec, slots);
}

}  // namespace gdnjit::emulator

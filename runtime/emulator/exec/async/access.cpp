#include "runtime/emulator/exec/async/access.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>

#include "runtime/emulator/exec/async.h"
#include "runtime/emulator/exec/async/state.h"
#include "runtime/emulator/exec/shared_variables.h"
#include "runtime/emulator/semantics/formats.h"
#include "runtime/emulator/semantics/integers.h"

namespace gdnjit::emulator {
namespace {

const char* verb(AsyncAccess access) {
  return access == AsyncAccess::read ? "reads" : access == AsyncAccess::write ? "writes" : "updates";
}

[[noreturn]] void fail_at(const AsyncIssue& issue, const std::string& what) {
  fault(*issue.warp, *issue.at, issue.lane, what);
}

std::string describe_global(const AsyncIssue& issue, std::uint64_t address, std::uint64_t bytes) {
  return issue.warp->block->launch->ranges->describe(address, bytes);
}

// Calls visit(range, begin, bytes) for the pieces that lie in one range each; faults where there is none.
template <typename Visit>
void visit_ranges(const AsyncIssue& issue, AsyncAccess access, std::uint64_t begin, std::uint64_t bytes, Visit visit) {
  const RangeTable& table = *issue.warp->block->launch->ranges;
  std::uint32_t& hint = issue.warp->worker->range_hints[issue.at->index];
  const auto& ranges = table.ranges();
  const std::uint64_t end = begin + bytes;
  for (std::uint64_t at = begin; at < end;) {
    if (hint >= ranges.size() || at < ranges[hint].begin || at >= ranges[hint].end) hint = table.find(at);
    if (hint >= ranges.size())
      fail_at(issue, fmt::format("{} out of bounds: {}", verb(access), table.describe(at, end - at)));
    const std::uint64_t piece = std::min(end, ranges[hint].end) - at;
    visit(ranges[hint], at, piece);
    at += piece;
  }
}

std::uint64_t first_unmarked(const ShadowBits& shadow, std::uint64_t begin, std::uint64_t bytes) {
  while (bytes > 1 && shadow.all_marked(begin, 1)) ++begin, --bytes;
  return begin;
}

void check_global_written(const AsyncIssue& issue, std::uint64_t begin, std::uint64_t bytes) {
  visit_ranges(issue, AsyncAccess::read, begin, bytes, [&](const Range& range, std::uint64_t at, std::uint64_t count) {
    if (range.fully_written) return;
    const bool output = range.launch != nullptr;
    const ShadowBits& shadow = output ? *range.launch : *range.allocation;
    const std::uint64_t origin = output ? range.launch_begin : range.allocation_begin;
    if (shadow.all_marked(at - origin, count)) return;
    const std::uint64_t where = origin + first_unmarked(shadow, at - origin, count);
    fail_at(issue, fmt::format("reads global memory that {}: {}",
                               output ? "is an output and has not been written by this launch" : "nobody has written",
                               describe_global(issue, where, 1)));
  });
}

void mark_global(const AsyncIssue& issue, std::uint64_t begin, std::uint64_t bytes) {
  visit_ranges(issue, AsyncAccess::write, begin, bytes, [](const Range& range, std::uint64_t at, std::uint64_t count) {
    if (range.launch != nullptr) range.launch->mark(at - range.launch_begin, count);
    if (range.allocation != nullptr) range.allocation->mark(at - range.allocation_begin, count);
  });
}

void check_shared_written(const AsyncIssue& issue, const AsyncPlace& place, std::uint64_t bytes) {
  const ShadowBits& shadow = place.block->shared_written;
  if (bytes == 0 || shadow.all_marked(place.address, bytes)) return;
  const std::uint64_t where = first_unmarked(shadow, place.address, bytes);
  fail_at(issue, fmt::format("reads shared memory that nobody has written: {}{}", shared_name(*place.block, where),
                             describe_unwritten(*place.block, where)));
}

// Other blocks may use the same global memory at the same time: relaxed atomics keep a kernel's race from being
// undefined behaviour of the host program.
void copy_from_global(std::uint64_t from, std::uint64_t bytes, std::byte* into) {
  while (bytes >= 8 && from % 8 == 0) {
    const std::uint64_t word = __atomic_load_n(reinterpret_cast<const std::uint64_t*>(from), __ATOMIC_RELAXED);
    std::memcpy(into, &word, 8);
    from += 8, into += 8, bytes -= 8;
  }
  for (; bytes != 0; ++from, ++into, --bytes)
    *into = std::byte{__atomic_load_n(reinterpret_cast<const unsigned char*>(from), __ATOMIC_RELAXED)};
}

void copy_to_global(std::uint64_t to, std::uint64_t bytes, const std::byte* from) {
  while (bytes >= 8 && to % 8 == 0) {
    std::uint64_t word;
    std::memcpy(&word, from, 8);
    __atomic_store_n(reinterpret_cast<std::uint64_t*>(to), word, __ATOMIC_RELAXED);
    from += 8, to += 8, bytes -= 8;
  }
  for (; bytes != 0; ++from, ++to, --bytes)
    __atomic_store_n(reinterpret_cast<unsigned char*>(to), std::to_integer<unsigned char>(*from), __ATOMIC_RELAXED);
}

// ---- reductions

template <typename T>
T reduced(AtomicOp op, T old, T operand) {
  switch (op) {
    case AtomicOp::add: return wrap_add(old, operand);
    case AtomicOp::min: return std::min(old, operand);
    case AtomicOp::max: return std::max(old, operand);
    case AtomicOp::and_: return old & operand;
    case AtomicOp::or_: return old | operand;
    case AtomicOp::xor_: return old ^ operand;
    case AtomicOp::inc: return old >= operand ? T{0} : wrap_add<T>(old, 1);
    case AtomicOp::dec: return old == 0 || old > operand ? operand : wrap_sub<T>(old, 1);
    default: return old;
  }
}

// NaN only if both are; -0 is below +0.
float lesser(float a, float b) {
  if (a != a) return canonical(b);
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}
float greater(float a, float b) {
  if (a != a) return canonical(b);
  if (b != b) return a;
  if (a == b) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}
float reduced_float(AtomicOp op, float old, float operand) {
  if (op == AtomicOp::add) return canonical(old + operand);
  return op == AtomicOp::min ? lesser(old, operand) : greater(old, operand);
}

// T: how the element lies in memory; F: how it is computed with.
template <typename T, typename F>
void update_element(std::byte* target, const std::byte* from, F f) {
  T operand;
  std::memcpy(&operand, from, sizeof(T));
  std::atomic_ref<T> place(*reinterpret_cast<T*>(target));
  T old = place.load();
  while (!place.compare_exchange_weak(old, f(old, operand))) {
  }
}

void update_one(std::byte* target, const std::byte* from, const Reduction& reduction) {
  const AtomicOp op = reduction.op;
  const auto integers = [op](auto old, auto operand) { return reduced(op, old, operand); };
  switch (reduction.type) {
    case Type::b32:
    case Type::u32: return update_element<std::uint32_t>(target, from, integers);
    case Type::s32: return update_element<std::int32_t>(target, from, integers);
    case Type::b64:
    case Type::u64: return update_element<std::uint64_t>(target, from, integers);
    case Type::s64: return update_element<std::int64_t>(target, from, integers);
    case Type::f32: return update_element<float>(target, from, [](float a, float b) { return canonical(a + b); });
    case Type::f64: return update_element<double>(target, from, [](double a, double b) { return a + b; });
    case Type::f16:
      return update_element<std::uint16_t>(target, from, [op](std::uint16_t a, std::uint16_t b) {
        const float sum = reduced_float(op, f16_to_float(a), f16_to_float(b));
        return static_cast<std::uint16_t>(float_to_f16_rn(sum));
      });
    case Type::bf16:
      return update_element<std::uint16_t>(target, from, [op](std::uint16_t a, std::uint16_t b) {
        const float sum = reduced_float(op, bf16_to_float(a), bf16_to_float(b));
        return static_cast<std::uint16_t>(float_to_bf16_rn(sum));
      });
    default: return;
  }
}

std::byte* host_address(const AsyncPlace& place) {
  if (place.block == nullptr) return reinterpret_cast<std::byte*>(place.address);
  return place.block->shared + place.address;
}

}  // namespace

bool reduction_exists(const Reduction& reduction, bool global) {
  const Type type = reduction.type;
  const bool wide = type == Type::b64 || type == Type::u64 || type == Type::s64;
  const bool narrow = type == Type::b32 || type == Type::u32 || type == Type::s32;
  const bool half = type == Type::f16 || type == Type::bf16;
  switch (reduction.op) {
    case AtomicOp::add:
      return type == Type::u32 || type == Type::s32 || type == Type::u64 ||
             (global && (half || type == Type::f32 || type == Type::f64));
    case AtomicOp::min:
    case AtomicOp::max:
      return type == Type::u32 || type == Type::s32 || (global && (half || type == Type::u64 || type == Type::s64));
    case AtomicOp::inc:
    case AtomicOp::dec: return type == Type::u32;
    case AtomicOp::and_:
    case AtomicOp::or_:
    case AtomicOp::xor_: return narrow || (global && wide);
    default: return false;
  }
}

void check_async(const AsyncIssue& issue, AsyncAccess access, const AsyncPlace& place, std::uint64_t bytes) {
  if (place.block == nullptr) {
    if (bytes > ~place.address)
      fail_at(issue, fmt::format("{} {} bytes at 0x{:x}", verb(access), bytes, place.address));
    visit_ranges(issue, access, place.address, bytes, [&](const Range& range, std::uint64_t at, std::uint64_t count) {
      if (access != AsyncAccess::read && !range.writable)
        fail_at(issue,
                fmt::format("{} memory that is only an input: {}", verb(access), describe_global(issue, at, count)));
    });
    return;
  }
  const std::uint64_t limit = place.block->launch->shared_bytes;
  if (place.address > limit || bytes > limit - place.address) {
    fail_at(issue, fmt::format("{} {} bytes of shared memory from offset {} to {}; the block has {} bytes",
                               verb(access), bytes, place.address, place.address + bytes, limit));
  }
  if (bytes != 0 && !lies_in_shared_variable(*issue.warp->program, place.address, bytes)) {
    std::uint64_t at = place.address;
    while (lies_in_shared_variable(*issue.warp->program, at, 1)) ++at;
    fail_at(issue,
            fmt::format("{} {} bytes of shared memory, {}", verb(access), bytes, describe_shared(*place.block, at)));
  }
  if (place.block != issue.warp->block && has_exited(*place.block)) {
    fail_at(issue, fmt::format("{} shared memory of block {} of its cluster, which has exited", verb(access),
                               place.block->rank));
  }
}

void async_read(const AsyncIssue& issue, const AsyncPlace& from, std::uint64_t bytes, std::byte* into) {
  if (from.block == nullptr) {
    check_global_written(issue, from.address, bytes);
    copy_from_global(from.address, bytes, into);
  } else if (bytes != 0) {
    check_shared_written(issue, from, bytes);
    std::memcpy(into, host_address(from), bytes);
  }
}

void async_write(const AsyncIssue& issue, const AsyncPlace& to, std::uint64_t bytes, const std::byte* from) {
  if (bytes == 0) return;
  if (to.block == nullptr) {
    mark_global(issue, to.address, bytes);
    copy_to_global(to.address, bytes, from);
  } else {
    to.block->shared_written.mark(to.address, bytes);
    std::memcpy(host_address(to), from, bytes);
  }
}

void async_update(const AsyncIssue& issue, const AsyncPlace& to, std::uint64_t bytes, const std::byte* operands,
                  const Reduction& reduction) {
  if (to.block == nullptr) {
    check_global_written(issue, to.address, bytes);
    mark_global(issue, to.address, bytes);
  } else {
    check_shared_written(issue, to, bytes);
  }
  const auto element = static_cast<std::uint64_t>(type_bytes(reduction.type));
  for (std::uint64_t at = 0; at + element <= bytes; at += element)
    update_one(host_address(to) + at, operands + at, reduction);
}

void expect_async_write(const AsyncPlace& to, std::uint64_t bytes) {
  if (to.block == nullptr || bytes == 0) return;
  to.block->shared_written.unmark(to.address, bytes);
  std::memset(host_address(to), 0xff, bytes);
}

void count_async_sectors(const AsyncIssue& issue, AsyncAccess access, std::span<const AsyncRun> runs) {
  Counts& counts = issue.warp->worker->counts;
  const RangeTable& table = *issue.warp->block->launch->ranges;
  std::uint64_t next = 0;  // sector behind the last one counted
  std::uint64_t total = 0;
  std::uint64_t requested = 0;
  std::uint32_t hint = 0;
  for (const AsyncRun& run : runs) {
    if (run.bytes == 0) continue;
    std::uint64_t first = run.begin / 32;
    const std::uint64_t last = (run.begin + run.bytes - 1) / 32;
    if (first + 1 == next) ++first;
    total += last + 1 - first;
    next = last + 1;
    requested += run.bytes;
    hint = table.find(run.begin);
  }
  if (requested == 0 || hint >= table.ranges().size()) return;
  if (access == AsyncAccess::read) {
    counts.memory.sectors_read += total;
    counts.memory.bytes_requested_read += requested;
    counts.range_sectors_read[hint] += total;
  } else {
    counts.memory.sectors_written += total;
    counts.memory.bytes_requested_written += requested;
    counts.range_sectors_written[hint] += total;
  }
}

void count_async_wavefronts(const AsyncIssue& issue, std::uint64_t bytes) {
  LaunchCounters& counters = issue.warp->worker->counts.memory;
  counters.shared_wavefronts += (bytes + 127) / 128;
  counters.shared_wavefronts_ideal += (bytes + 127) / 128;
}

}  // namespace gdnjit::emulator

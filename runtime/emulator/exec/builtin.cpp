#include "runtime/emulator/exec/builtin.h"

#include <fmt/format.h>
#include <fmt/printf.h>

#include <cstdio>
#include <optional>

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kMaxText = 4096;

// The bytes that a generic address may be read at, of what text and arguments can live in: the module's variables
// and the thread's local memory.
std::optional<std::uint64_t> readable_bytes(const Warp& warp, int lane, std::uint64_t address) {
  for (const ModuleMemory::Range& range : warp.program->memory->ranges) {
    if (address - range.begin < range.bytes) return range.bytes - (address - range.begin);
  }
  const Block& block = *warp.block;
  const std::uint64_t thread = warp.first_thread + static_cast<std::uint32_t>(lane);
  const std::uint64_t begin = reinterpret_cast<std::uint64_t>(block.local) + thread * block.local_bytes;
  if (block.local_bytes != 0 && address - begin < block.local_bytes) return block.local_bytes - (address - begin);
  return std::nullopt;
}

std::string text_at(const Warp& warp, const Instruction& in, int lane, std::uint64_t address) {
  const auto bytes = readable_bytes(warp, lane, address);
  if (!bytes) fault(warp, in, lane, fmt::format("reads text at 0x{:x}, where the module has none", address));
  const auto* begin = reinterpret_cast<const char*>(address);
  return {begin, strnlen(begin, std::min(*bytes, kMaxText))};
}

template <typename T>
T argument(const Warp& warp, const CallSite& site, int lane, std::size_t index) {
  const std::uint64_t thread = warp.first_thread + static_cast<std::uint32_t>(lane);
  // The kernel's own frame begins at 0, as the frame register says.
  const auto* frames = reinterpret_cast<const std::uint64_t*>(warp.lanes + warp.program->frame.offset);
  T value{};
  std::memcpy(&value,
              warp.block->local + thread * warp.block->local_bytes + frames[lane] + site.arguments[index].offset,
              sizeof(value));
  return value;
}

[[noreturn]] void fail_assertion(const Warp& warp, const Instruction& in, const CallSite& site, int lane) {
  const std::string expression = text_at(warp, in, lane, argument<std::uint64_t>(warp, site, lane, 0));
  const std::string file = text_at(warp, in, lane, argument<std::uint64_t>(warp, site, lane, 1));
  const std::string function = text_at(warp, in, lane, argument<std::uint64_t>(warp, site, lane, 3));
  fault(warp, in, lane,
        fmt::format("assertion '{}' failed ({}:{}, {})", expression, file, argument<std::uint32_t>(warp, site, lane, 2),
                    function));
}

// The arguments of printf, one behind the other, each aligned to its size.
class ArgumentReader {
 public:
  ArgumentReader(const Warp& warp, const Instruction& in, int lane, std::uint64_t address)
      : warp_(warp), in_(in), lane_(lane), begin_(address) {
    left_ = address == 0 ? 0 : readable_bytes(warp, lane, address).value_or(0);
  }

  template <typename T>
  T next() {
    offset_ = (offset_ + sizeof(T) - 1) / sizeof(T) * sizeof(T);
    if (offset_ + sizeof(T) > left_) fault(warp_, in_, lane_, "prints more arguments than its buffer holds");
    T value{};
    std::memcpy(&value, reinterpret_cast<const void*>(begin_ + offset_), sizeof(value));
    offset_ += sizeof(T);
    return value;
  }

 private:
  const Warp& warp_;
  const Instruction& in_;
  const int lane_;
  const std::uint64_t begin_;
  std::uint64_t left_ = 0;
  std::uint64_t offset_ = 0;
};

// One conversion such as %-8.3f; the length modifiers say how long an integer is, `ll` and `l` 8 bytes.
std::string convert_one(const Warp& warp, const Instruction& in, int lane, ArgumentReader& arguments, std::string spec,
                        char conversion, bool wide) {
  const auto print = [&spec](auto value) { return fmt::sprintf(spec, value); };
  spec += conversion;
  switch (conversion) {
    case 'd':
    case 'i': return wide ? print(arguments.next<std::int64_t>()) : print(arguments.next<std::int32_t>());
    case 'u':
    case 'o':
    case 'x':
    case 'X': return wide ? print(arguments.next<std::uint64_t>()) : print(arguments.next<std::uint32_t>());
    case 'c': return print(static_cast<char>(arguments.next<std::int32_t>()));
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
    case 'a':
    case 'A': return print(arguments.next<double>());
    case 's': return print(text_at(warp, in, lane, arguments.next<std::uint64_t>()));
    case 'p': return fmt::format("0x{:x}", arguments.next<std::uint64_t>());
    default: fault(warp, in, lane, fmt::format("printf: unknown conversion '%{}'", conversion));
  }
}

std::string printed(const Warp& warp, const Instruction& in, int lane, const std::string& format,
                    ArgumentReader arguments, std::uint32_t& count) {
  std::string text;
  for (std::size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%') {
      text += format[at];
      continue;
    }
    if (++at < format.size() && format[at] == '%') {
      text += '%';
      continue;
    }
    std::string spec = "%";
    bool wide = false;
    for (; at < format.size(); ++at) {
      const char c = format[at];
      if (c == '*') {
        spec += std::to_string(arguments.next<std::int32_t>() % 1000);
      } else if (std::string_view("-+ #0123456789.").find(c) != std::string_view::npos) {
        if (spec.size() > 16) fault(warp, in, lane, "printf: a conversion that never ends");
        spec += c;
      } else if (std::string_view("hljzt").find(c) != std::string_view::npos) {
        wide = wide || c != 'h';
      } else {
        break;
      }
    }
    if (at >= format.size()) fault(warp, in, lane, "printf: the format ends within a conversion");
    text += convert_one(warp, in, lane, arguments, spec, format[at], wide);
    ++count;
  }
  return text;
}

}  // namespace

void call_builtin(Warp& warp, const Instruction& in, const CallSite& site) {
  const Builtin builtin = warp.program->functions[site.callee].builtin;
  if (builtin == Builtin::assertfail) fail_assertion(warp, in, site, std::countr_zero(warp.mask));
  const auto* frames = warp.values<std::uint64_t>(warp.program->frame);
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::string format = text_at(warp, in, lane, argument<std::uint64_t>(warp, site, lane, 0));
    std::uint32_t count = 0;
    const std::string text =
        printed(warp, in, lane, format, {warp, in, lane, argument<std::uint64_t>(warp, site, lane, 1)}, count);
    std::fwrite(text.data(), 1, text.size(), stderr);
    Block& block = *warp.block;
    const std::uint64_t at =
        static_cast<std::uint64_t>(warp.first_thread + static_cast<std::uint32_t>(lane)) * block.local_bytes +
        frames[lane] + site.results[0].offset;
    std::memcpy(block.local + at, &count, sizeof(count));
    block.local_written.mark(at, sizeof(count));
  }
}

}  // namespace gdnjit::emulator

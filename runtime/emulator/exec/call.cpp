// Calls and returns. A lane's stack frames lie in its local memory; arguments and results are copied between the
// caller's frame and the callee's.
#include <fmt/format.h>

#include <algorithm>

#include "runtime/emulator/exec/builtin.h"
#include "runtime/emulator/exec/divergence.h"
#include "runtime/emulator/exec/handlers.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint32_t kMaxDepth = 1024;

std::uint64_t thread_begin(const Warp& warp, int lane) {
  return static_cast<std::uint64_t>(warp.first_thread + static_cast<std::uint32_t>(lane)) * warp.block->local_bytes;
}

// Parts of a structure that were never set are copied as they are, and count as set: compilers pass them on.
void copy(Warp& warp, int lane, std::uint64_t to, std::uint64_t from, std::uint32_t bytes) {
  if (bytes == 0) return;
  Block& block = *warp.block;
  const std::uint64_t begin = thread_begin(warp, lane);
  std::memcpy(block.local + begin + to, block.local + begin + from, bytes);
  block.local_written.mark(begin + to, bytes);
}

// Puts the lane's values of a function's registers aside, or gives them back.
void save(Warp& warp, const Function& function, int lane) {
  std::vector<std::byte>& stack = warp.calls.saved[static_cast<std::size_t>(lane)];
  const auto push = [&stack](const void* data, std::size_t bytes) {
    const auto* begin = static_cast<const std::byte*>(data);
    stack.insert(stack.end(), begin, begin + bytes);
  };
  for (const Function::Saved& reg : function.registers)
    push(warp.lanes + reg.offset + static_cast<std::size_t>(lane) * reg.bytes, reg.bytes);
  for (std::uint32_t id = function.first_id; id < function.end_id; ++id) {
    const auto bits = static_cast<std::byte>((warp.written[id] >> lane & 1U) | (warp.predicates[id] >> lane & 1U) << 1);
    push(&bits, 1);
  }
}

void restore(Warp& warp, const Function& function, int lane) {
  std::vector<std::byte>& stack = warp.calls.saved[static_cast<std::size_t>(lane)];
  const auto pop = [&stack](void* data, std::size_t bytes) {
    const auto begin = stack.end() - static_cast<std::ptrdiff_t>(bytes);
    std::memcpy(data, &*begin, bytes);
    stack.erase(begin, stack.end());
  };
  const std::uint32_t own = 1U << lane;
  for (std::uint32_t id = function.end_id; id-- > function.first_id;) {
    std::uint8_t bits = 0;
    pop(&bits, 1);
    warp.written[id] = (bits & 1U) != 0 ? warp.written[id] | own : warp.written[id] & ~own;
    warp.predicates[id] = (bits & 2U) != 0 ? warp.predicates[id] | own : warp.predicates[id] & ~own;
  }
  for (auto reg = function.registers.rbegin(); reg != function.registers.rend(); ++reg)
    pop(warp.lanes + reg->offset + static_cast<std::size_t>(lane) * reg->bytes, reg->bytes);
}

// Brings `lanes` to the start of a function.
void enter(Warp& warp, const Instruction& in, const CallSite& site, std::uint32_t callee, std::uint32_t lanes) {
  const Program& program = *warp.program;
  const Function& function = program.functions[callee];
  Block& block = *warp.block;
  if (warp.depth >= kMaxDepth) fault(warp, in, std::countr_zero(lanes), fmt::format("{} calls deep", warp.depth));
  if (warp.calls.sites.size() <= warp.depth) warp.calls.sites.resize(warp.depth + 1);
  auto* frames = warp.values<std::uint64_t>(program.frame);
  for (std::uint32_t rest = lanes; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const std::uint64_t old = frames[lane];
    const std::uint64_t frame = old + program.functions[site.caller].frame_bytes;
    if (frame + function.frame_bytes > block.local_bytes) {
      fault(warp, in, lane,
            fmt::format("the stack overflows: calling '{}' needs {} bytes, the thread has {}", function.name,
                        frame + function.frame_bytes, block.local_bytes));
    }
    if (function.recursive) save(warp, function, lane);
    if (function.frame_bytes != 0) block.local_written.unmark(thread_begin(warp, lane) + frame, function.frame_bytes);
    for (std::size_t i = 0; i < site.arguments.size(); ++i)
      copy(warp, lane, frame + function.parameters[i].offset, old + site.arguments[i].offset, site.arguments[i].bytes);
    frames[lane] = frame;
    warp.calls.sites[warp.depth][static_cast<std::size_t>(lane)] = in.operands;
  }
  for (std::uint32_t id = function.first_id; id < function.end_id; ++id) warp.written[id] &= ~lanes;
  park(warp, warp.depth + 1, function.start, lanes);
}

bool same_sizes(const std::vector<FramePlace>& a, const std::vector<FramePlace>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const FramePlace& x, const FramePlace& y) { return x.bytes == y.bytes; });
}

// The function whose address a lane calls.
std::uint32_t target_of(const Warp& warp, const Instruction& in, const CallSite& site, int lane,
                        std::uint64_t address) {
  const std::vector<Function>& functions = warp.program->functions;
  const std::uint64_t index = (address - function_address(0)) / 16;
  if (index == 0 || index >= functions.size() || address != function_address(static_cast<std::uint32_t>(index)))
    fault(warp, in, lane, fmt::format("calls 0x{:x}, where no function is", address));
  const Function& function = functions[index];
  if (!same_sizes(site.arguments, function.parameters) || !same_sizes(site.results, function.results))
    fault(warp, in, lane, fmt::format("calls '{}' with parameters of other sizes", function.name));
  return static_cast<std::uint32_t>(index);
}

void execute_call(Warp& warp, const Instruction& in) {
  const CallSite& site = warp.program->calls[in.operands];
  const std::uint32_t stay = warp.active & ~warp.mask;
  if (site.callee != kIndirect && warp.program->functions[site.callee].builtin != Builtin::none)
    return call_builtin(warp, in, site);
  if (site.callee != kIndirect) {
    enter(warp, in, site, site.callee, warp.mask);
  } else {
    const auto* address = warp.values<std::uint64_t>(in.a);
    for (std::uint32_t rest = warp.mask; rest != 0;) {
      const int first = std::countr_zero(rest);
      std::uint32_t lanes = 0;
      for (std::uint32_t left = rest; left != 0; left &= left - 1) {
        if (address[std::countr_zero(left)] == address[first]) lanes |= left & (0U - left);
      }
      enter(warp, in, site, target_of(warp, in, site, first, address[first]), lanes);
      rest &= ~lanes;
    }
  }
  if (stay != 0) park(warp, warp.depth, warp.pc, stay);
  resume_next(warp);
}

// target: the function that ends here.
void execute_ret(Warp& warp, const Instruction& in) {
  const Program& program = *warp.program;
  const Function& function = program.functions[in.target];
  auto* frames = warp.values<std::uint64_t>(program.frame);
  const std::uint32_t stay = warp.active & ~warp.mask;
  for (std::uint32_t rest = warp.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const CallSite& site = program.calls[warp.calls.sites[warp.depth - 1][static_cast<std::size_t>(lane)]];
    const std::uint64_t frame = frames[lane];
    const std::uint64_t old = frame - program.functions[site.caller].frame_bytes;
    for (std::size_t i = 0; i < site.results.size(); ++i)
      copy(warp, lane, old + site.results[i].offset, frame + function.results[i].offset, site.results[i].bytes);
    frames[lane] = old;
    if (function.recursive) restore(warp, function, lane);
    park(warp, warp.depth - 1, site.instruction + 1, 1U << lane);
  }
  if (stay != 0) park(warp, warp.depth, warp.pc, stay);
  resume_next(warp);
}

}  // namespace

Handler find_call(const OpKey& key) {
  if (key.op == Opcode::call) return execute_call;
  return key.op == Opcode::ret ? execute_ret : nullptr;
}

}  // namespace gdnjit::emulator

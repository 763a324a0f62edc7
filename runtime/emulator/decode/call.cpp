// Functions: their frames, calls, and what a call needs to know about its target.
#include <algorithm>
#include <functional>

#include "runtime/emulator/decode/decoder.h"

namespace gdnjit::emulator {
namespace {

constexpr std::uint64_t kMaxFrameBytes = 512U << 10;
// A thread's stack beyond the kernel's own frame, where recursion leaves its depth open.
constexpr std::uint64_t kRecursionBytes = 16U << 10;
constexpr std::size_t kMaxFunctions = 4096;

std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

Function builtin(std::string_view name) {
  if (name == "vprintf")
    return {.name = "vprintf", .builtin = Builtin::vprintf, .parameters = {{0, 8}, {0, 8}}, .results = {{0, 4}}};
  if (name == "__assertfail") {
    return {
        .name = "__assertfail", .builtin = Builtin::assertfail, .parameters = {{0, 8}, {0, 8}, {0, 4}, {0, 8}, {0, 8}}};
  }
  return {};
}

bool same_sizes(const std::vector<FramePlace>& a, const std::vector<FramePlace>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const FramePlace& x, const FramePlace& y) { return x.bytes == y.bytes; });
}

}  // namespace

std::uint32_t function_index(Program& program, const ModuleSymbols& symbols, std::string_view name) {
  for (std::size_t index = 1; index < program.functions.size(); ++index) {
    if (program.functions[index].name == name) return static_cast<std::uint32_t>(index);
  }
  if (program.functions.size() >= kMaxFunctions)
    fail(ErrorCode::unsupported, "loading PTX: more than {} functions", kMaxFunctions);
  Function function = builtin(name);
  if (const auto text = symbols.functions.find(name); text != symbols.functions.end()) {
    // Offsets follow from the same rule as in place_in_frame: results, then parameters.
    function = {.name = text->second->name};
    std::uint64_t end = 0;
    const auto place = [&end](const Variable& variable) {
      end = align_up(end, variable.alignment);
      const FramePlace result{static_cast<std::uint32_t>(end), static_cast<std::uint32_t>(variable.bytes)};
      end += variable.bytes;
      if (end > kMaxFrameBytes)
        fail(ErrorCode::unsupported, "loading PTX: line {}: parameters of more than {} bytes", variable.line,
             kMaxFrameBytes);
      return result;
    };
    for (const Variable& variable : text->second->results) function.results.push_back(place(variable));
    for (const Variable& variable : text->second->parameters) function.parameters.push_back(place(variable));
  } else if (function.builtin == Builtin::none) {
    fail(ErrorCode::unsupported, "loading PTX: the module uses the function '{}' without defining it", name);
  }
  program.functions.push_back(std::move(function));
  return static_cast<std::uint32_t>(program.functions.size() - 1);
}

// ---- frames

void Decoder::place_in_frame(const Variable& variable, int scope) {
  if (variable.is_dynamic) unsupported("'{}' has no size", variable.name);
  frame_bytes_ = align_up(frame_bytes_, variable.alignment);
  const FramePlace place{static_cast<std::uint32_t>(frame_bytes_), static_cast<std::uint32_t>(variable.bytes)};
  if (!frame_symbols_.emplace(std::pair{scope, std::string_view(variable.name)}, place).second)
    malformed("'{}' is declared twice", variable.name);
  frame_bytes_ += variable.bytes;
  if (frame_bytes_ > kMaxFrameBytes) unsupported("'{}' needs more memory than a GPU has", variable.name);
}

std::optional<std::uint64_t> Decoder::frame_offset(std::string_view name) const {
  for (int scope = statement_ != nullptr ? statement_->scope : 0; scope >= 0;
       scope = kernel_.scope_parent[static_cast<std::size_t>(scope)]) {
    if (const auto found = frame_symbols_.find({scope, name}); found != frame_symbols_.end())
      return found->second.offset;
  }
  return std::nullopt;
}

// Where the frame begins: the kernel's is at 0.
Slot Decoder::frame_slot() {
  if (function_ == 0) return constant(0, true);
  if (program_.frame.offset == 0) {
    program_.frame = {program_.lane_bytes, kConstantId};
    program_.specials.push_back({program_.lane_bytes, true, Special::zero});
    program_.lane_bytes += kLanes * 8U;
  }
  return program_.frame;
}

void Decoder::frame_address(std::uint64_t offset, Type type) {
  inst_.dst = destination(operand(0), type);
  mark(inst_.dst);
  if (type_bytes(type) > 8) malformed("an address of {} bytes", type_bytes(type));
  if (function_ == 0) {
    inst_.a = constant(offset, type_bytes(type) == 8);
    return finish(Opcode::mov, Class::data_movement);
  }
  if (type_bytes(type) != 8) unsupported("a stack address of {} bytes", type_bytes(type));
  key_.type = Type::u64;
  inst_.a = frame_slot();
  inst_.b = constant(offset, true);
  finish(Opcode::add, Class::data_movement);
}

void Decoder::decode_function() {
  registers_.assign(kernel_.registers.size(), Slot{});
  frame_slot();
  for (const Variable& result : kernel_.results) place_in_frame(result, 0);
  for (const Variable& parameter : kernel_.parameters) place_in_frame(parameter, 0);
  for (const Variable& variable : kernel_.variables) {
    if (variable.space != Space::shared) place_in_frame(variable, variable.space == Space::param ? variable.scope : 0);
  }
  for (const NamedRange& variable : program_.shared_variables) local_symbols_.emplace(variable.name, variable.begin);
  program_.functions[function_].start = static_cast<std::uint32_t>(program_.instructions.size());
  program_.functions[function_].first_id = static_cast<std::uint16_t>(program_.ids);
  decode_body();
  Function& function = program_.functions[function_];
  function.end_id = static_cast<std::uint16_t>(program_.ids);
  for (std::size_t index = 0; index < registers_.size(); ++index) {
    const Type type = kernel_.registers[index].type;
    if (registers_[index].id == kConstantId || type == Type::pred) continue;
    function.registers.push_back({registers_[index].offset, static_cast<std::uint32_t>(std::max(type_bytes(type), 4))});
  }
}

// ---- calls

FramePlace Decoder::argument_place(const Operand& operand) const {
  for (int scope = statement_->scope; scope >= 0; scope = kernel_.scope_parent[static_cast<std::size_t>(scope)]) {
    const auto found = frame_symbols_.find({scope, operand.name});
    if (operand.kind == Operand::Kind::symbol && found != frame_symbols_.end()) return found->second;
  }
  malformed("'{}' is no .param variable", operand.name);
}

void Decoder::take_arguments(CallSite& site, const Operand* results, const Operand* arguments) {
  if (results != nullptr) {
    for (const Operand& result : results->items) site.results.push_back(argument_place(result));
  }
  if (arguments != nullptr) {
    for (const Operand& argument : arguments->items) site.arguments.push_back(argument_place(argument));
  }
}

// call (results), function, (arguments); call (results), register, (arguments), prototype.
void Decoder::call() {
  take("uni");
  expect_operands(1, 4);
  std::size_t next = 0;
  const Operand* results = operand(0).kind == Operand::Kind::list ? &operand(next++) : nullptr;
  const Operand& target = operand(next++);
  const Operand* arguments = nullptr;
  if (next < operand_count() && operand(next).kind == Operand::Kind::list) arguments = &operand(next++);
  CallSite site{.instruction = static_cast<std::uint32_t>(program_.instructions.size()), .caller = function_};
  take_arguments(site, results, arguments);
  if (target.kind == Operand::Kind::symbol) {
    if (next != operand_count()) malformed("a direct call with a prototype");
    site.callee = function_index(program_, symbols_, target.name);
    const Function& callee = program_.functions[site.callee];
    if (!same_sizes(site.arguments, callee.parameters) || !same_sizes(site.results, callee.results))
      malformed("the parameters or results of '{}' have other sizes", target.name);
  } else {
    use(inst_.a, source_any(target, 8));
    if (next + 1 != operand_count()) malformed("an indirect call needs its prototype");
    const auto prototype = std::find_if(kernel_.prototypes.begin(), kernel_.prototypes.end(),
                                        [&](const CallPrototype& p) { return p.name == operand(next).name; });
    if (prototype == kernel_.prototypes.end()) malformed("there is no prototype '{}'", operand(next).name);
    const auto fits = [](const std::vector<FramePlace>& places, const std::vector<std::uint64_t>& bytes) {
      return std::equal(places.begin(), places.end(), bytes.begin(), bytes.end(),
                        [](const FramePlace& place, std::uint64_t size) { return place.bytes == size; });
    };
    if (!fits(site.arguments, prototype->parameter_bytes) || !fits(site.results, prototype->result_bytes))
      malformed("the parameters or results do not fit the prototype '{}'", prototype->name);
  }
  inst_.operands = static_cast<std::uint32_t>(program_.calls.size());
  program_.calls.push_back(std::move(site));
  if (program_.frame.offset == 0) {
    // The kernel's own frame begins at 0, but those it calls need to know theirs.
    const std::uint32_t own = function_;
    function_ = 1;
    frame_slot();
    function_ = own;
  }
  finish(Opcode::call, Class::control);
}

namespace {

// Depth-first over the call graph: whether a function can be active twice, and the deepest stack of frames.
class CallGraph {
 public:
  explicit CallGraph(Program& program)
      : program_(program), callees_(program.functions.size()), calls_any_(program.functions.size()) {
    for (const CallSite& site : program.calls) {
      if (site.callee != kIndirect) {
        callees_[site.caller].push_back(site.callee);
        continue;
      }
      // An indirect call may reach every function.
      if (calls_any_[site.caller]) continue;
      calls_any_[site.caller] = true;
      for (std::uint32_t index = 1; index < program.functions.size(); ++index) callees_[site.caller].push_back(index);
    }
  }

  void mark_recursion() {
    for (std::uint32_t function = 1; function < callees_.size(); ++function) {
      std::vector<bool> seen(callees_.size());
      std::vector<std::uint32_t> open{function};
      while (!open.empty()) {
        const std::uint32_t at = open.back();
        open.pop_back();
        for (const std::uint32_t callee : callees_[at]) {
          if (callee == function) program_.functions[function].recursive = has_recursion_ = true;
          if (seen[callee]) continue;
          seen[callee] = true;
          open.push_back(callee);
        }
      }
    }
  }

  // REQUIRES: mark_recursion() was called.
  std::uint64_t stack_bytes() {
    if (has_recursion_) return program_.functions[0].frame_bytes + kRecursionBytes;
    deepest_.assign(callees_.size(), 0);
    // Without recursion, relaxing as often as there are functions reaches every path.
    for (std::size_t round = 0; round <= callees_.size(); ++round) {
      bool changed = false;
      for (std::size_t function = 0; function < callees_.size(); ++function) {
        std::uint64_t below = 0;
        for (const std::uint32_t callee : callees_[function]) below = std::max(below, deepest_[callee]);
        const std::uint64_t bytes = program_.functions[function].frame_bytes + below;
        changed = changed || bytes != deepest_[function];
        deepest_[function] = bytes;
      }
      if (!changed) break;
    }
    return deepest_[0];
  }

 private:
  Program& program_;
  std::vector<std::vector<std::uint32_t>> callees_;
  std::vector<bool> calls_any_;
  std::vector<std::uint64_t> deepest_;
  bool has_recursion_ = false;
};

}  // namespace

void link_calls(Program& program) {
  std::uint64_t bytes = program.functions[0].frame_bytes;
  if (!program.calls.empty()) {
    CallGraph graph(program);
    graph.mark_recursion();
    bytes = graph.stack_bytes();
  }
  if (bytes > 2 * kMaxFrameBytes)
    fail(ErrorCode::unsupported, "loading PTX: the calls of '{}' need {} bytes of stack", program.name, bytes);
  program.local_bytes = static_cast<std::uint32_t>(bytes);
}

}  // namespace gdnjit::emulator

// The report of a fault: which kernel, block, thread, PTX line and template line, and what happened there.
#include <fmt/format.h>

#include "runtime/emulator/exec/warp.h"
#include "runtime/support/check.h"

namespace gdnjit::emulator {

std::string Program::describe(std::uint32_t instruction) const {
  if (instruction >= places.size()) return "its end";
  const InstructionPlace& place = places[instruction];
  const auto line = static_cast<std::size_t>(place.ptx_line);
  std::string code;
  if (line >= 1 && line <= line_starts.size()) {
    const std::size_t begin = line_starts[line - 1];
    code = text.substr(begin, text.find('\n', begin) - begin);
    code.erase(0, code.find_first_not_of(" \t"));
    for (char& c : code) {
      if (c == '\t') c = ' ';
    }
  }
  std::string result = fmt::format("PTX line {}: {}", place.ptx_line, code);
  if (place.source.line != 0) {
    const std::string file =
        place.source.file < files.size() && !files[place.source.file].empty() ? files[place.source.file] : "source";
    result += fmt::format(" ({}:{})", file, place.source.line);
  }
  return result;
}

void fault(const Warp& warp, const Instruction& at, int lane, const std::string& what) {
  const Block& block = *warp.block;
  const std::uint32_t* size = block.launch->block;
  std::string who = fmt::format("warp {}", warp.number);
  if (lane >= 0) {
    const std::uint32_t thread = warp.first_thread + static_cast<std::uint32_t>(lane);
    who = fmt::format("thread ({},{},{})", thread % size[0], thread / size[0] % size[1], thread / size[0] / size[1]);
  }
  fail(ErrorCode::device_failed, "emulator: kernel '{}', block ({},{},{}), {}: {}\n  at {}", warp.program->name,
       block.ctaid[0], block.ctaid[1], block.ctaid[2], who, what, warp.program->describe(at.index));
}

void note_undefined(Warp& warp, const Instruction& at) {
  if (warp.origin.empty()) warp.origin.resize(warp.program->ids);
  std::uint32_t origin = at.index + 1;
  for (const std::uint16_t id : at.checked) {
    if ((warp.undefined & ~warp.written[id]) != 0 && warp.origin[id] != 0) origin = warp.origin[id];
  }
  warp.origin[at.marked] = origin;
}

void fault_undefined(const Warp& warp, const Instruction& at, std::uint32_t lanes, std::uint16_t id) {
  std::string what = fmt::format("uses the register {}, which has no defined value", warp.program->id_names[id]);
  if (!warp.origin.empty() && warp.origin[id] != 0) {
    const Instruction& first = warp.program->instructions[warp.origin[id] - 1];
    std::string names;
    for (const std::uint16_t source : first.checked) {
      if (source != kConstantId) names += (names.empty() ? "" : ", ") + warp.program->id_names[source];
    }
    what += first.counted == Class::tensor_core
                ? fmt::format("\n  because no wgmma.wait_group has completed {}", warp.program->describe(first.index))
                : fmt::format("\n  because one of {} had not been written at {}", names,
                              warp.program->describe(first.index));
  }
  fault(warp, at, std::countr_zero(lanes), what);
}

}  // namespace gdnjit::emulator

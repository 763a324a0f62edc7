// The variables in a block's shared memory. Between them lie gaps that belong to none, so that an overrun is found.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/emulator/exec/warp.h"

namespace gdnjit::emulator {

// Whether the bytes lie in one variable. Always, if the kernel declares none and uses bare offsets.
inline bool lies_in_shared_variable(const Program& program, std::uint64_t offset, std::uint64_t bytes) {
  for (const NamedRange& variable : program.shared_variables) {
    if (offset - variable.begin < variable.bytes) return offset + bytes <= variable.begin + variable.bytes;
  }
  return program.shared_variables.empty();
}

// "offset 8 of 'tile'", "4 bytes past the end of 'tile' (64 bytes)", with the block's rank if it is in a cluster.
std::string describe_shared(const Block& block, std::uint64_t offset);

// Bytes that the kernel asked for, without the gaps.
inline std::uint32_t declared_shared(const Block& block) {
  return block.launch->program->static_shared_bytes + block.launch->dynamic_shared_bytes;
}

}  // namespace gdnjit::emulator

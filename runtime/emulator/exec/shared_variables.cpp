#include "runtime/emulator/exec/shared_variables.h"

#include <fmt/format.h>

#include <algorithm>

namespace gdnjit::emulator {

std::string describe_shared(const Block& block, std::uint64_t offset) {
  const std::uint64_t extent = block.launch->shared_bytes;
  const NamedRange* before = nullptr;  // the last variable that begins at or before the offset
  for (const NamedRange& variable : block.launch->program->shared_variables) {
    if (variable.begin <= offset && (before == nullptr || before->begin <= variable.begin)) before = &variable;
  }
  std::string text = fmt::format("offset {}", offset);
  if (before != nullptr) {
    const std::uint64_t end =
        std::min(before->begin + before->bytes, extent);  // a dynamic variable ends with the memory
    if (offset < end) {
      text = fmt::format("offset {} of '{}'", offset - before->begin, before->label);
    } else {
      text = fmt::format("{} bytes past the end of '{}' ({} bytes)", offset - end, before->label, end - before->begin);
    }
  }
  if (block.launch->cluster_blocks > 1) text += fmt::format(" in block {} of the cluster", block.rank);
  return text;
}

}  // namespace gdnjit::emulator

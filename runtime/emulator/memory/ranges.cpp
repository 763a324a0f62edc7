#include "runtime/emulator/memory/ranges.h"

#include <fmt/format.h>

#include <algorithm>

namespace gdnjit::emulator {
namespace {

bool covers(const BufferSource& buffer, std::uint64_t begin, std::uint64_t end) {
  return buffer.begin <= begin && end <= buffer.end;
}

std::uint64_t distance(const BufferSource& buffer, std::uint64_t address) {
  if (address < buffer.begin) return buffer.begin - address;
  return address < buffer.end ? 0 : address - buffer.end + 1;
}

}  // namespace

RangeTable::RangeTable(std::vector<BufferSource> buffers, const std::vector<BufferSource>& allocations)
    : buffers_(std::move(buffers)) {
  std::erase_if(buffers_, [](const BufferSource& buffer) { return buffer.begin >= buffer.end; });
  std::sort(buffers_.begin(), buffers_.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<std::uint64_t> cuts;
  for (const BufferSource& buffer : buffers_) {
    cuts.push_back(buffer.begin);
    cuts.push_back(buffer.end);
  }
  for (const BufferSource& allocation : allocations) {
    cuts.push_back(allocation.begin);
    cuts.push_back(allocation.end);
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

  for (std::size_t cut = 0; cut + 1 < cuts.size(); ++cut) {
    Range range{.begin = cuts[cut], .end = cuts[cut + 1]};
    bool covered = false;
    bool readable = false;
    for (const BufferSource& buffer : buffers_) {
      if (buffer.begin >= range.end) break;
      if (!covers(buffer, range.begin, range.end)) continue;
      if (!covered) range.buffer = static_cast<std::uint32_t>(&buffer - buffers_.data());
      covered = true;
      readable |= buffer.readable;
      range.writable |= buffer.writable;
    }
    if (!covered) continue;
    for (const BufferSource& allocation : allocations) {
      if (!covers(allocation, range.begin, range.end) || allocation.shadow == nullptr) continue;
      range.allocation = allocation.shadow;
      range.allocation_begin = allocation.shadow_begin;
      range.fully_written = false;
    }
    if (!readable) {
      launch_shadows_.push_back(std::make_unique<ShadowBits>(range.end - range.begin));
      range.launch = launch_shadows_.back().get();
      range.launch_begin = range.begin;
      range.fully_written = false;
    }
    ranges_.push_back(range);
  }
}

std::uint32_t RangeTable::find(std::uint64_t address) const {
  const auto above = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                      [](std::uint64_t wanted, const Range& range) { return wanted < range.begin; });
  if (above == ranges_.begin() || std::prev(above)->end <= address) return static_cast<std::uint32_t>(ranges_.size());
  return static_cast<std::uint32_t>(std::prev(above) - ranges_.begin());
}

std::string RangeTable::describe(std::uint64_t address, std::uint64_t bytes) const {
  std::string text = fmt::format("{} bytes at 0x{:x}", bytes, address);
  if (buffers_.empty()) return text + "; this launch has no buffers";
  const BufferSource* near = &buffers_.front();
  for (const BufferSource& buffer : buffers_) {
    if (distance(buffer, address) < distance(*near, address)) near = &buffer;
  }
  const std::uint64_t size = near->end - near->begin;
  if (address < near->begin) {
    return text + fmt::format(", {} bytes before '{}' ({} bytes at 0x{:x})", near->begin - address, near->name, size,
                              near->begin);
  }
  if (address >= near->end) {
    return text + fmt::format(", {} bytes past the end of '{}' ({} bytes at 0x{:x})", address - near->end, near->name,
                              size, near->begin);
  }
  return text +
         fmt::format(", offset {} of '{}' ({} bytes at 0x{:x})", address - near->begin, near->name, size, near->begin);
}

}  // namespace gdnjit::emulator

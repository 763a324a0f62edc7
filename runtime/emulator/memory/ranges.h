// The global memory that one launch may touch, as disjoint sorted ranges with their permissions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/emulator/memory/shadow.h"

namespace gdnjit::emulator {

// A buffer as its owner describes it. Buffers may overlap: a call in place passes one memory as input and output.
struct BufferSource {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  std::string name;
  bool readable = true;  // before this launch has written it
  bool writable = true;
  ShadowBits* shadow = nullptr;  // of begin..end with shadow_begin as its first byte; nullptr: all written
  std::uint64_t shadow_begin = 0;
};

struct Range {
  std::uint32_t buffer = 0;  // the first that covers it, by begin
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  bool writable = false;
  bool fully_written = true;         // no shadow to ask
  ShadowBits* allocation = nullptr;  // written at any time
  std::uint64_t allocation_begin = 0;
  ShadowBits* launch = nullptr;  // written by this launch; set for ranges that are only outputs
  std::uint64_t launch_begin = 0;
};

class RangeTable {
 public:
  // Permissions of overlapping buffers add up. `allocations` lend their shadows only.
  RangeTable(std::vector<BufferSource> buffers, const std::vector<BufferSource>& allocations);

  const std::vector<Range>& ranges() const { return ranges_; }
  // Sorted by begin; Range::buffer indexes them.
  const std::vector<BufferSource>& buffers() const { return buffers_; }

  // The range that holds `address`, or ranges().size().
  std::uint32_t find(std::uint64_t address) const;

  // "16 bytes at 0x..., 4 bytes past the end of 'state' (65536 bytes at 0x...)" and the like.
  std::string describe(std::uint64_t address, std::uint64_t bytes) const;

 private:
  std::vector<BufferSource> buffers_;
  std::vector<Range> ranges_;
  std::vector<std::unique_ptr<ShadowBits>> launch_shadows_;
};

}  // namespace gdnjit::emulator

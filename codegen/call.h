// What one call launches: for each of its kernels the geometry and the parameter block.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>

#include "runtime/support/check.h"

namespace gdnjit {

struct LaunchGeometry {
  std::uint32_t grid[3] = {1, 1, 1};  // none of them 0, or there is nothing to launch
  std::uint32_t block[3] = {1, 1, 1};
  std::uint32_t shared_bytes = 0;        // dynamic shared memory
  std::uint32_t cluster[3] = {1, 1, 1};  // blocks that share their shared memory; the kernel may require a size itself
  bool cooperative = false;              // all blocks run at once, so they may wait for each other
  // The launch may start while its predecessor in the stream ends; the kernel waits with griddepcontrol before it
  // reads what the predecessor wrote.
  bool programmatic = false;

  bool empty() const { return grid[0] == 0 || grid[1] == 0 || grid[2] == 0; }
};

struct Launch {
  std::size_t kernel;  // its place in Instance::kernels()
  LaunchGeometry geometry;
  std::span<const std::byte> parameters;
};

// Instance::pack fills it. It lives on the stack of the call and has all the memory that the call needs, so it is not
// copied and nothing is allocated. Not thread-safe.
class Call {
 public:
  static constexpr std::size_t kMaxKernels = 8;            // launched by one call
  static constexpr std::size_t kMaxParameterBytes = 4096;  // of a block: what CUDA takes everywhere
  static constexpr std::size_t kAlignment = 128;           // of a block: that of a tensor map

  Call() {}  // the blocks' memory stays unwritten
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // A parameter block, zeroed, which lives as long as the call.
  template <typename Parameters>
  Parameters& add_block() {
    static_assert(std::is_trivially_copyable_v<Parameters>, "kernels take blocks of bytes");
    static_assert(sizeof(Parameters) <= kMaxParameterBytes && alignof(Parameters) <= kAlignment);
    GDNJIT_CHECK(used_ + sizeof(Parameters) <= sizeof(blocks_), "a call of more than {} bytes of parameters",
                 sizeof(blocks_));
    std::byte* const place = blocks_ + used_;
    used_ += (sizeof(Parameters) + kAlignment - 1) / kAlignment * kAlignment;
    return *new (place) Parameters{};
  }

  // Launches added from here on are of the Instance's kernels from `kernel` on, in place of the first: of an Instance
  // that launches some of its kernels only.
  void start_at(std::size_t kernel) { next_kernel_ = kernel; }

  // The next kernel's launch. `block` was made by add_block; several kernels may share one.
  template <typename Parameters>
  void add_launch(const LaunchGeometry& geometry, const Parameters& block) {
    GDNJIT_CHECK(count_ < kMaxKernels, "a call of more than {} kernels", kMaxKernels);
    launches_[count_++] = {next_kernel_++, geometry, std::as_bytes(std::span(&block, 1))};
  }

  std::span<const Launch> launches() const { return std::span(launches_).first(count_); }

 private:
  std::array<Launch, kMaxKernels> launches_;
  std::size_t count_ = 0;
  std::size_t next_kernel_ = 0;
  std::size_t used_ = 0;
  alignas(kAlignment) std::byte blocks_[2 * kMaxParameterBytes];
};

}  // namespace gdnjit

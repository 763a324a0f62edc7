#include "tools/bench/moe_tensors.h"

#include <algorithm>
#include <cstring>

#include "runtime/dlpack.h"

namespace gdnjit::bench {
namespace {

// Bytes of bf16 numbers in (-1/32, 1/32), or of e4m3 in (-1, 1), repeated through a tensor.
std::vector<std::byte> pattern(bool e4m3, std::uint32_t seed) {
  std::vector<std::byte> bytes(16U << 20);
  std::uint32_t random = seed;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    random = random * 1664525 + 1013904223;
    const auto bits = static_cast<std::uint16_t>(e4m3 ? (random >> 12 & 0x8f8f) | 0x2020
                                                      : (random >> 16 & 0x807f) | (120 - (random >> 8 & 3)) << 7);
    std::memcpy(bytes.data() + i, &bits, 2);
  }
  return bytes;
}

void fill(Device& device, void* to, std::size_t bytes, std::span<const std::byte> numbers) {
  for (std::size_t at = 0; at < bytes; at += numbers.size()) {
    device.copy_in(static_cast<std::byte*>(to) + at, numbers.data(), std::min(numbers.size(), bytes - at), nullptr);
  }
}

TensorView dense_view(const TensorSpec& spec) {
  TensorView view{.data = nullptr, .dtype = spec.dtype};
  view.rank = static_cast<int>(spec.shape.size());
  std::int64_t count = 1;
  for (std::size_t i = spec.shape.size(); i-- > 0;) {
    view.shape[i] = spec.shape[i];
    view.strides[i] = count;
    count *= spec.shape[i];
  }
  return view;
}

std::size_t bytes_of(const TensorSpec& spec) {
  std::int64_t bytes = dtype_bytes(spec.dtype);
  for (const std::int64_t extent : spec.shape) bytes *= extent;
  return static_cast<std::size_t>(bytes);
}

}  // namespace

std::vector<std::int32_t> even_ids(std::int64_t tokens, int k, int experts, std::uint32_t seed) {
  std::vector<std::int32_t> ids;
  std::uint32_t random = seed;
  for (std::int64_t m = 0; m < tokens; ++m) {
    random = random * 1664525 + 1013904223;
    const std::uint32_t first = random >> 8, step = 2 * (random >> 20) + 1;  // odd: E has no odd factor above 3
    for (int s = 0; s < k; ++s) {
      ids.push_back(static_cast<std::int32_t>((first + static_cast<std::uint32_t>(s) * step) %
                                              static_cast<std::uint32_t>(experts)));
    }
  }
  return ids;
}

MoeTensors::MoeTensors(Device& device, const OperatorPlan& plan, int k, int experts, int draws)
    : views_(static_cast<std::size_t>(draws)) {
  const std::vector<std::byte> wide = pattern(false, 1), narrow = pattern(true, 1);
  for (const TensorSpec& spec : plan.tensors()) {
    const std::size_t bytes = bytes_of(spec);
    const bool drawn = spec.name == "topk_ids" || spec.name == "logits";
    TensorView view = dense_view(spec);
    for (int draw = 0; draw < draws; ++draw) {
      if (draw == 0 || drawn) {
        memory_.emplace_back(device, bytes, spec.name);
        view.data = memory_.back().data();
        const auto seed = static_cast<std::uint32_t>(draw + 1);
        if (spec.name == "topk_ids") {
          const std::vector<std::int32_t> ids = even_ids(spec.shape[0], k, experts, seed);
          device.copy_in(view.data, ids.data(), std::min(ids.size() * sizeof(ids[0]), bytes), nullptr);
        } else if (spec.name == "logits") {
          fill(device, view.data, bytes, pattern(false, 77 * seed));
        } else if (spec.role == TensorRole::input) {
          fill(device, view.data, bytes, spec.dtype == DType::u8 ? narrow : wide);
        }
      }
      views_[static_cast<std::size_t>(draw)].push_back(view);
    }
  }
}

}  // namespace gdnjit::bench

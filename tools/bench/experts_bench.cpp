// Expert products of many tokens on a GPU: moe.up and moe.down of whole layers in bf16 and in e4m3 (weights and
// inputs), with the default tiles and the best of those that multiply by wgmma. No reference is computed: that is
// gpu_moe_grouped_test's affair.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "codegen/registry.h"
#include "runtime/device_choice.h"
#include "runtime/dlpack.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

// Bytes of bf16 numbers in (-1/32, 1/32), or of e4m3 in (-1, 1), repeated through a tensor: weights of gigabytes are
// not drawn one by one.
std::vector<std::byte> pattern(bool e4m3) {
  std::vector<std::byte> bytes(64U << 20);
  std::uint32_t random = 1;
  for (std::size_t i = 0; i < bytes.size(); i += 2) {
    random = random * 1664525 + 1013904223;
    const auto bits = static_cast<std::uint16_t>(e4m3 ? (random >> 12 & 0x8f8f) | 0x2020
                                                      : (random >> 16 & 0x807f) | (120 - (random >> 8 & 3)) << 7);
    std::memcpy(bytes.data() + i, &bits, 2);
  }
  return bytes;
}

// k different experts for each token, all of them equally often.
std::vector<std::int32_t> even_ids(std::int64_t tokens, int k, int experts) {
  std::vector<std::int32_t> ids;
  std::uint32_t random = 1;
  for (std::int64_t m = 0; m < tokens; ++m) {
    random = random * 1664525 + 1013904223;
    const std::uint32_t first = random >> 8, step = 2 * (random >> 20) + 1;  // odd: E is a power of two
    for (int s = 0; s < k; ++s) {
      ids.push_back(static_cast<std::int32_t>((first + static_cast<std::uint32_t>(s) * step) %
                                              static_cast<std::uint32_t>(experts)));
    }
  }
  return ids;
}

class Tensors {
 public:
  Tensors(Device& device, const OperatorPlan& plan, std::span<const std::int32_t> ids) {
    const std::vector<std::byte> wide = pattern(false), narrow = pattern(true);
    for (const TensorSpec& spec : plan.tensors()) {
      TensorView view{.data = nullptr, .dtype = spec.dtype};
      view.rank = static_cast<int>(spec.shape.size());
      std::int64_t count = 1;
      for (std::size_t i = spec.shape.size(); i-- > 0;) {
        view.shape[i] = spec.shape[i];
        view.strides[i] = count;
        count *= spec.shape[i];
      }
      const auto bytes = static_cast<std::size_t>(count * dtype_bytes(spec.dtype));
      const std::vector<std::byte>& numbers = spec.dtype == DType::u8 ? narrow : wide;
      memory_.emplace_back(device, bytes, spec.name);
      view.data = memory_.back().data();
      if (spec.name == "topk_ids") {
        device.copy_in(view.data, ids.data(), ids.size_bytes(), nullptr);
      } else if (spec.role == TensorRole::input) {
        for (std::size_t at = 0; at < bytes; at += numbers.size()) {
          device.copy_in(static_cast<std::byte*>(view.data) + at, numbers.data(), std::min(numbers.size(), bytes - at),
                         nullptr);
        }
      }
      views_.push_back(view);
    }
  }
  std::span<const TensorView> views() const { return views_; }

 private:
  std::vector<DeviceBuffer> memory_;
  std::vector<TensorView> views_;
};

struct Layer {
  const char* name;
  int hidden, intermediate, experts, top_k;
};
constexpr Layer kLayers[] = {{"mixtral-8x7b", 4096, 14336, 8, 2}, {"deepseek-v3", 7168, 2048, 256, 8}};

// Arguments layer, M, and 1 for e4m3.
void experts(benchmark::State& state, const char* operator_name) {
  Runtime& runtime = machine_runtime();
  Device& device = runtime.impl().device();
  const Layer& layer = kLayers[state.range(0)];
  const Operator& op = find_operator(operator_name);
  const FieldMap problem = op.complete(parse_fields(
      fmt::format("M={} D={} I={} E={} k={}{}", state.range(1), layer.hidden, layer.intermediate, layer.experts,
                  layer.top_k, state.range(2) == 1 ? " weights=fp8_block activations=fp8" : "")));
  const auto first = make_plan(runtime.impl(), op, problem);
  const Tensors tensors(device, *first, even_ids(state.range(1), layer.top_k, layer.experts));
  double best_us = 0;
  std::string best;
  for (auto _ : state) {
    const double default_us = replay_us(device, *first, tensors.views());
    best_us = default_us;
    best = first->info().tiles;
    for (const FieldMap& tiles : op.search_space(problem, device.info().traits)) {
      if (*find_field(tiles, "path") != "wgmma") continue;
      const auto plan = make_plan(runtime.impl(), op, problem, tiles);
      const double time_us = replay_us(device, *plan, tensors.views());
      if (time_us < best_us) best_us = time_us, best = fields_text(tiles);
    }
    state.counters["default_us"] = default_us;
    state.SetIterationTime(best_us * 1e-6);
  }
  const Footprint footprint = op.footprint(problem);
  state.counters["TFLOP/s"] = static_cast<double>(footprint.flops) / best_us * 1e-6;
  state.counters["GB/s"] = static_cast<double>(footprint.bytes_read + footprint.bytes_written) / best_us * 1e-3;
  state.SetLabel(fmt::format("{}, {}", layer.name, best));
}

}  // namespace

void register_experts_benchmarks() {
  const DeviceSources sources = system_device_sources();
  if (sources.cuda_device_count() == 0) {
    fmt::print(stderr, "experts are left out: {}\n", sources.cuda_unavailable_reason());
    return;
  }
  for (const char* op : {"moe.up", "moe.down"}) {
    auto* const benchmark = benchmark::RegisterBenchmark(fmt::format("experts/{}", op).c_str(), experts, op);
    for (const std::int64_t layer : {0, 1}) {
      for (const std::int64_t tokens : {1024, 4096, 8192}) {
        for (const std::int64_t e4m3 : {0, 1}) benchmark->Args({layer, tokens, e4m3});
      }
    }
    benchmark->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace gdnjit::bench

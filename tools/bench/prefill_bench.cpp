// Prefill on a GPU: gdn.chunk over the shapes of the published tables, tokens x sequences in a ragged batch, K = V =
// 128, bf16 with an fp32 state. The table of docs/performance.md. Run `gdn-tune tune` on the same problems first;
// without records the default tiles are timed.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "codegen/registry.h"
#include "runtime/device_choice.h"
#include "runtime/dlpack.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"
#include "tools/bench/fixture.h"

namespace gdnjit::bench {
namespace {

// Values in (-1/2, 1/2), the same in every run. A workload of the tests would draw 10^9 of them in double precision.
std::vector<std::byte> values(DType dtype, std::int64_t count) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(count * dtype_bytes(dtype)));
  std::uint32_t random = 1;
  for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
    random = random * 1664525 + 1013904223;
    const float value = static_cast<float>(random >> 8) * 0x1p-24F - 0.5F;
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (dtype == DType::f32) {
      std::memcpy(bytes.data() + 4 * i, &bits, 4);
    } else {
      GDNJIT_CHECK(dtype == DType::bf16, "prefill is timed with bf16 and fp32 tensors");
      const auto upper = static_cast<std::uint16_t>(bits >> 16);
      std::memcpy(bytes.data() + 2 * i, &upper, 2);
    }
  }
  return bytes;
}

// The tensors of a call on the device; those it only writes stay as they are.
class Tensors {
 public:
  Tensors(Device& device, const OperatorPlan& plan, std::int64_t sequences, std::int64_t tokens) {
    for (const TensorSpec& spec : plan.tensors()) {
      std::int64_t count = 1;
      TensorView view;
      view.dtype = spec.dtype;
      view.rank = static_cast<int>(spec.shape.size());
      for (std::size_t i = spec.shape.size(); i-- > 0;) {
        view.shape[i] = spec.shape[i];
        view.strides[i] = count;
        count *= spec.shape[i];
      }
      memory_.emplace_back(device, static_cast<std::size_t>(std::max<std::int64_t>(count, 1) * dtype_bytes(spec.dtype)),
                           spec.name);
      view.data = memory_.back().data();
      if (spec.name == "cu_seqlens") {
        std::vector<std::int32_t> starts;
        for (std::int64_t n = 0; n <= sequences; ++n) starts.push_back(static_cast<std::int32_t>(n * tokens));
        device.copy_in(view.data, starts.data(), starts.size() * sizeof(starts[0]), nullptr);
      } else if (spec.role == TensorRole::input || spec.role == TensorRole::in_out) {
        const std::vector<std::byte> bytes = values(spec.dtype, count);
        device.copy_in(view.data, bytes.data(), bytes.size(), nullptr);
      }
      views_.push_back(view);
    }
  }
  std::span<const TensorView> views() const { return views_; }

 private:
  std::vector<DeviceBuffer> memory_;
  std::vector<TensorView> views_;
};

// Arguments H, HV, tokens of a sequence, sequences.
void prefill(benchmark::State& state) {
  Runtime& runtime = machine_runtime();
  const std::int64_t tokens = state.range(2), sequences = state.range(3);
  const Operator& op = find_operator("gdn.chunk");
  const FieldMap problem = op.complete(parse_fields(
      fmt::format("H={} HV={} T={} B={} ragged={}", state.range(0), state.range(1), tokens, sequences, sequences > 1)));
  const auto plan = make_plan(runtime.impl(), op, problem);
  Device& device = runtime.impl().device();
  const Tensors tensors(device, *plan, sequences, tokens);
  double time_us = 0;
  for (auto _ : state) {
    time_us = replay_us(device, *plan, tensors.views());
    state.SetIterationTime(time_us * 1e-6);
  }
  const Footprint footprint = op.footprint(problem);
  state.counters["TFLOP/s"] = static_cast<double>(footprint.flops) / time_us * 1e-6;
  state.counters["GB/s"] = static_cast<double>(footprint.bytes_read + footprint.bytes_written) / time_us * 1e-3;
  state.SetLabel(plan->info().tiles + " (" + std::string(tiles_from_text(plan->info().tiles_from)) + ")");
}

}  // namespace

void register_prefill_benchmarks() {
  const DeviceSources sources = system_device_sources();
  if (sources.cuda_device_count() == 0) {
    fmt::print(stderr, "prefill is left out: {}\n", sources.cuda_unavailable_reason());
    return;
  }
  auto* const benchmark = benchmark::RegisterBenchmark("prefill", prefill);
  constexpr std::int64_t kHeads[][2] = {{2, 8}, {4, 16}, {8, 32}, {16, 32}, {16, 48}, {16, 64}};
  constexpr std::int64_t kShapes[][2] = {{2048, 1}, {8192, 1}, {32768, 1}, {1024, 8}, {8192, 4}};
  for (const auto& heads : kHeads) {
    for (const auto& shape : kShapes) benchmark->Args({heads[0], heads[1], shape[0], shape[1]});
  }
  benchmark->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace gdnjit::bench

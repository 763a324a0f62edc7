// Expert products of many tokens on a GPU: moe.up and moe.down of whole layers in bf16 and in e4m3 (weights and
// inputs), with the default tiles and the best of those that multiply by wgmma. No reference is computed: that is
// gpu_moe_grouped_test's affair.
#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "codegen/registry.h"
#include "runtime/device_choice.h"
#include "runtime/runtime_impl.h"
#include "tools/bench/fixture.h"
#include "tools/bench/moe_tensors.h"

namespace gdnjit::bench {
namespace {

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
  const MoeTensors tensors(device, *first, layer.top_k, layer.experts);
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

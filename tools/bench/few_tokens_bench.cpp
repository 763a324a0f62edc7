// Expert layers for few tokens on a GPU, in the models' own shapes: moe.up, moe.down and the whole layer, with the
// tiles that the machine's cache holds or the default's. A graph holds calls with ids of their own, so that weights
// come from memory. No reference is computed.
#include <fmt/format.h>

#include <cstdint>
#include <iterator>

#include "codegen/registry.h"
#include "runtime/device_choice.h"
#include "runtime/runtime_impl.h"
#include "tools/bench/fixture.h"
#include "tools/bench/moe_tensors.h"

namespace gdnjit::bench {
namespace {

struct Layer {
  const char* name;
  int experts, top_k;
  const char* rest;  // fields of the problem
};
constexpr Layer kLayers[] = {
    {"qwen3.5-35b int4:128", 256, 8, "D=2048 I=512 weights=int4 group_size=128 shared_size=512 shared_gate=true"},
    {"qwen3.5-35b int4:128, no shared expert", 256, 8, "D=2048 I=512 weights=int4 group_size=128"},
    {"qwen3.5-35b bf16", 256, 8, "D=2048 I=512 shared_size=512 shared_gate=true"},
    {"qwen3.5-35b fp8_block", 256, 8, "D=2048 I=512 weights=fp8_block shared_size=512 shared_gate=true"},
    {"qwen3-30b int4:128", 128, 8, "D=2048 I=768 weights=int4 group_size=128"},
    {"qwen3-30b bf16", 128, 8, "D=2048 I=768"},
    {"mixtral-8x7b int4:128", 8, 2, "D=4096 I=14336 weights=int4 group_size=128"},
    {"deepseek-v3 fp8_block", 256, 8, "D=7168 I=2048 weights=fp8_block shared_size=2048"},
    {"kimi-k2 int4:32", 384, 8, "D=7168 I=2048 weights=int4 group_size=32 shared_size=2048"},
    {"gpt-oss-120b mxfp4", 128, 4,
     "D=2880 I=2880 weights=mxfp4 activation=swiglu_oai gate_order=interleaved up_bias=true down_bias=true"},
};

// Arguments layer, M.
void few_tokens(benchmark::State& state, const char* operator_name) {
  constexpr int kDraws = 24;
  Runtime& runtime = machine_runtime();
  Device& device = runtime.impl().device();
  const Layer& layer = kLayers[state.range(0)];
  const Operator& op = find_operator(operator_name);
  const FieldMap problem = op.complete(
      parse_fields(fmt::format("M={} E={} k={} {}", state.range(1), layer.experts, layer.top_k, layer.rest)));
  const auto plan = make_plan(runtime.impl(), op, problem);
  const MoeTensors tensors(device, *plan, layer.top_k, layer.experts, kDraws);
  double time_us = 0;
  for (auto _ : state) {
    const double all_us = replay_us(device, [&](Stream stream) {
      for (int draw = 0; draw < tensors.draws(); ++draw) plan->run(tensors.views(draw), stream);
    });
    time_us = all_us / tensors.draws();
    state.SetIterationTime(time_us * 1e-6);
  }
  const Footprint footprint = op.footprint(problem);
  const double floor_us =
      static_cast<double>(footprint.bytes_read + footprint.bytes_written) / device.info().traits.memory_bytes_per_us;
  state.counters["floor_us"] = floor_us;
  state.counters["over_floor"] = time_us / floor_us;
  state.SetLabel(fmt::format("{}, {}", layer.name, plan->info().tiles));
}

}  // namespace

void register_few_tokens_benchmarks() {
  if (system_device_sources().cuda_device_count() == 0) return;  // register_experts_benchmarks() says so
  for (const char* op : {"moe.up", "moe.down", "moe.forward"}) {
    auto* const benchmark = benchmark::RegisterBenchmark(fmt::format("few_tokens/{}", op).c_str(), few_tokens, op);
    for (std::int64_t layer = 0; layer < static_cast<std::int64_t>(std::size(kLayers)); ++layer) {
      for (const std::int64_t tokens : {1, 4, 8, 16, 64}) benchmark->Args({layer, tokens});
    }
    benchmark->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);
  }
}

}  // namespace gdnjit::bench

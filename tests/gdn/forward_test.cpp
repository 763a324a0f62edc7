// gdn.forward: each call by the operator that its T asks for, right on both sides of the crossover, with the bits of
// the operator that it runs.
#include <doctest/doctest.h>
#include <gdnjit/gdnjit.h>

#include <algorithm>
#include <string>
#include <vector>

#include "autotune/device_tensors.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/gdn/forward.h"
#include "tests/gdn/emulator_fixture.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const Operator& forward_op() { return find_operator("gdn.forward"); }

constexpr const char* kSmall = "H=1 HV=2 K=32 V=64 initial_state=dense final_state=dense";

FieldMap fields_of(const std::string& text) { return parse_fields(text); }

// A plan with this crossover and otherwise default tiles.
std::shared_ptr<const OperatorPlan> plan_with(Runtime::Impl& runtime, const std::string& fields, int crossover) {
  const FieldMap problem = forward_op().complete(fields_of(fields));
  FieldMap tiles = forward_op().default_tiles(problem, runtime.device().info().traits);
  set_field(tiles, "crossover", std::to_string(crossover));
  return make_plan(runtime, forward_op(), problem, tiles);
}

// What a checked call launched: "step", "recurrent" or "chunk".
std::string ran(const OperatorPlan& plan, const autotune::CheckResult& result) {
  std::vector<std::string> entries;
  for (const autotune::KernelCounts& counts : result.counts)
    entries.push_back(plan.info().kernels[counts.kernel].entry);
  if (entries.empty()) return "nothing";
  if (entries == std::vector<std::string>{"gdnjit_gdn_step"}) return "step";
  if (entries == std::vector<std::string>{"gdnjit_gdn_recurrent"}) return "recurrent";
  const bool chunk = entries.size() >= 2 && std::all_of(entries.begin(), entries.end(), [](const auto& entry) {
                       return entry.starts_with("gdnjit_gdn_chunk");
                     });
  return chunk ? "chunk" : fmt::format("{}", fmt::join(entries, " "));
}

// A call of `plan` with other extents than it was planned for.
struct Checked {
  autotune::CheckResult result;
  std::string ran;
  double state_error = 0;
};

Checked check_call(const OperatorPlan& plan, const std::string& fields) {
  const auto workload =
      reference::make_workload("gdn.forward", forward_op().complete(fields_of(fields)), reference::Inputs::typical, 5);
  Checked checked{.result = autotune::check(plan, *workload), .ran = ""};
  checked.ran = ran(plan, checked.result);
  for (const reference::OutputError& error : checked.result.errors) {
    if (error.tensor.starts_with("state")) checked.state_error = std::max(checked.state_error, error.rms_ratio);
  }
  return checked;
}

}  // namespace

TEST_CASE("calls up to the crossover run gdn.recurrent, longer ones gdn.chunk, one token gdn.step, and all are right") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const int crossover : {64, 32}) {
    const auto plan = plan_with(*runtime, fmt::format("{} B=2 T=300", kSmall), crossover);
    for (const int T : {1, 2, 32, 63, 64, 65, 128, 256}) {
      CAPTURE(crossover);
      CAPTURE(T);
      const Checked checked = check_call(*plan, fmt::format("{} B=2 T={}", kSmall, T));
      CHECK_MESSAGE(checked.result.passed(), checked.result.text());
      CHECK(checked.ran == (T == 1 ? "step" : T <= crossover ? "recurrent" : "chunk"));
      if (T <= crossover) CHECK(checked.state_error < 2e-5);  // no 16-bit products
    }
  }
}

TEST_CASE("a ragged batch goes by its average, with empty sequences and states in a pool") {
  const auto runtime = emulator_runtime("sm_90a");
  const std::string ragged = "H=1 HV=2 K=32 V=64 ragged=true initial_state=pool final_state=pool B=5";
  const auto plan = plan_with(*runtime, ragged + " T=100", 40);
  for (const int T : {0, 1, 13, 40, 41, 70}) {
    CAPTURE(T);
    const Checked checked = check_call(*plan, fmt::format("{} T={}", ragged, T));
    CHECK_MESSAGE(checked.result.passed(), checked.result.text());
    CHECK(checked.ran == (T <= 40 ? "recurrent" : "chunk"));
  }
  // Rounded up: 201 tokens in five sequences are 41 each.
  const auto workload =
      reference::make_workload("gdn.forward", forward_op().complete(fields_of(ragged + " T=41")), {}, 1);
  autotune::DeviceTensors tensors(runtime->device(), workload->tensors(), 0);
  tensors.upload(workload->tensors(), nullptr);
  for (const auto& [total, expected] : {std::pair{201, "chunk"}, std::pair{200, "recurrent"}}) {
    std::vector<TensorView> views = tensors.views();
    for (std::size_t i = 0; i < views.size(); ++i) {
      const std::string& name = workload->tensors()[i].spec.name;
      if (views[i].rank >= 3 && !name.starts_with("state")) views[i].shape[1] = total;
      if (name != "cu_seqlens") continue;
      const std::int32_t starts[6] = {0, 0, 50, total, total, total};
      runtime->device().copy_in(views[i].data, starts, sizeof(starts), nullptr);
    }
    std::string entry;
    const LaunchObserver observer = [&](std::size_t kernel) { entry = plan->info().kernels[kernel].entry; };
    plan->run(views, nullptr, &observer);
    CHECK_MESSAGE(entry.find(expected) != std::string::npos, entry);
  }
}

TEST_CASE("options that gdn.chunk or the others do not have leave the call to those that do") {
  const auto runtime = emulator_runtime("sm_80");
  struct Rule {
    const char* fields;
    const char* short_call;
    const char* long_call;
  };
  const Rule rules[] = {
      {"initial_state=dense", "step", "chunk"},
      {"initial_state=none", "recurrent", "chunk"},
      {"initial_state=dense final_state=none", "step", "chunk"},
      {"initial_state=pool final_state=pool", "step", "chunk"},
      {"initial_state=pool final_state=dense", "recurrent", "chunk"},
      {"initial_state=dense sum_lanes=16", "step", "recurrent"},
      {"initial_state=dense checkpoints=dense", "chunk", "chunk"},
      {"initial_state=dense input_layout=mixed_qkv io=f16 output=f16", "step", "chunk"},
      {"initial_state=dense head_map=modulo state_layout=kv gate=log", "step", "chunk"},
      {"initial_state=dense io=f32 output=f32", "step", "recurrent"},
  };
  for (const Rule& rule : rules) {
    CAPTURE(rule.fields);
    const std::string fields = fmt::format("H=1 HV=2 K=32 V=32 B=2 {}", rule.fields);
    const auto plan = plan_with(*runtime, fields + " T=200", 16);
    const Checked one = check_call(*plan, fields + " T=1"), many = check_call(*plan, fields + " T=70");
    CHECK_MESSAGE(one.result.passed(), one.result.text());
    CHECK_MESSAGE(many.result.passed(), many.result.text());
    CHECK(one.ran == rule.short_call);
    CHECK(many.ran == rule.long_call);
  }
}

TEST_CASE("the bits are those of the operator that runs, and the same again") {
  const auto runtime = emulator_runtime("sm_90a");
  const auto plan = plan_with(*runtime, fmt::format("{} B=2 T=100", kSmall), 50);
  for (const auto& [T, name] : {std::pair{50, "gdn.recurrent"}, std::pair{100, "gdn.chunk"}}) {
    const std::string fields = fmt::format("{} B=2 T={}", kSmall, T);
    const auto workload =
        reference::make_workload("gdn.forward", forward_op().complete(fields_of(fields)), reference::Inputs::brutal, 9);
    autotune::DeviceTensors tensors(runtime->device(), workload->tensors(), 0);
    const auto outputs = [&](const OperatorPlan& any) {
      tensors.upload(workload->tensors(), nullptr);
      std::vector<TensorView> views;
      for (const TensorSpec& spec : any.tensors()) {
        for (std::size_t i = 0; i < workload->tensors().size(); ++i) {
          if (workload->tensors()[i].spec.name == spec.name) views.push_back(tensors.views()[i]);
        }
      }
      any.run(views, nullptr);
      std::vector<std::vector<std::byte>> bytes;
      for (const reference::HostTensor& tensor : tensors.download(nullptr)) {
        if (is_written(tensor.spec.role)) bytes.push_back(tensor.bytes);
      }
      return bytes;
    };
    const auto alone = make_plan(*runtime, find_operator(name), fields_of(fields));
    const auto first = outputs(*plan);
    CHECK(first == outputs(*alone));
    CHECK(first == outputs(*plan));
  }
}

TEST_CASE("a call that does not run gdn.chunk needs no workspace, one that does says how much") {
  const auto runtime = emulator_runtime("sm_90a");
  const auto plan = plan_with(*runtime, fmt::format("{} B=2 T=100", kSmall), 50);
  const Instance& instance = plan->instance();
  CHECK(instance.workspace_bytes(2, 50) == 0);
  const auto chunk = from_fields<gdn::ChunkProblem>(fields_of(fmt::format("{} B=2 T=100", kSmall)));
  CHECK(instance.workspace_bytes(2, 51) == gdn::workspace_bytes(chunk, 2, 51));
  for (const int T : {50, 51}) {
    const auto workload = reference::make_workload(
        "gdn.forward", forward_op().complete(fields_of(fmt::format("{} B=2 T={}", kSmall, T))), {}, 1);
    autotune::DeviceTensors tensors(runtime->device(), workload->tensors(), 0);
    tensors.upload(workload->tensors(), nullptr);
    std::vector<TensorView> views = tensors.views();
    for (std::size_t i = 0; i < views.size(); ++i) {
      if (workload->tensors()[i].spec.name == "workspace") views[i] = TensorView{};
    }
    const std::string message = thrown([&] { plan->run(views, nullptr); });
    CAPTURE(message);
    CHECK((message.find("workspace") != std::string::npos) == (T == 51));
    CHECK(message.empty() == (T == 50));
  }
}

TEST_CASE("the C++ interface plans once and serves every T, in a graph as well") {
  Options options = Options::from_environment();
  options.device = "emulator";
  options.policy = Policy::heuristic;
  options.cache_directory.clear();
  options.read_only_caches.clear();
  Runtime runtime(options);
  const gdn::ForwardProblem problem{.batch = 1,
                                    .tokens = 80,
                                    .heads_k = 1,
                                    .heads_v = 1,
                                    .head_dim_k = 32,
                                    .head_dim_v = 32,
                                    .gate = gdn::Gate::none,
                                    .beta = gdn::Beta::none,
                                    .initial_state = gdn::StatePlace::dense};
  const gdn::ForwardPlan plan = gdn::plan(runtime, problem);
  CHECK(plan.info().operator_name == "gdn.forward");
  CHECK(plan.workspace_bytes(1, 80) > 0);
  CHECK(plan.workspace_bytes(1, 1) == 0);
  Device& device = runtime.impl().device();
  const auto buffer = [&](std::size_t bytes, const char* name) {
    DeviceBuffer made(device, bytes, name);
    device.fill(made.data(), 0x3c, bytes, nullptr);
    return made;
  };
  const DeviceBuffer q = buffer(80 * 64, "q"), k = buffer(80 * 64, "k"), v = buffer(80 * 64, "v"),
                     o = buffer(80 * 64, "o");
  const DeviceBuffer state = buffer(4096, "state");
  const DeviceBuffer workspace = buffer(static_cast<std::size_t>(plan.workspace_bytes(1, 80)), "workspace");
  for (const std::int64_t T : {1, 5, 80}) {
    gdn::ForwardArgs args;
    args.q = TensorView::dense(q.data(), DType::bf16, {1, T, 1, 32});
    args.k = TensorView::dense(k.data(), DType::bf16, {1, T, 1, 32});
    args.v = TensorView::dense(v.data(), DType::bf16, {1, T, 1, 32});
    args.o = TensorView::dense(o.data(), DType::bf16, {1, T, 1, 32});
    args.state_in = TensorView::dense(state.data(), DType::f32, {1, 1, 32, 32});
    args.workspace = TensorView::dense(workspace.data(), DType::u8, {static_cast<std::int64_t>(workspace.bytes())});
    const auto states = [&] {
      std::vector<std::byte> bytes(4096);
      device.copy_out(bytes.data(), state.data(), bytes.size(), nullptr);
      return bytes;
    };
    const std::vector<std::byte> before = states();
    plan.run(args);
    const std::vector<std::byte> once = states();
    CHECK(once != before);  // an empty state_out means in place
    device.copy_in(state.data(), before.data(), before.size(), nullptr);
    const Stream stream = device.create_stream();
    device.capture(stream, [&](Stream captured) { gdn::forward(runtime, problem, args, captured); })->launch(stream);
    device.synchronize(stream);
    device.destroy_stream(stream);
    CHECK(states() == once);
  }
}

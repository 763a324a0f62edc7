// moe.up, moe.down and moe.forward against the double-precision reference: every format, shape and option pairwise
// (in the sweep); repeatability, batch invariance, keys, arguments.
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "codegen/moe/forward.h"
#include "codegen/moe/options_names.h"
#include "codegen/moe/products.h"
#include "runtime/moe_forward.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/gdn/pairwise_check.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const Operator& up() { return find_operator("moe.up"); }
const Operator& down() { return find_operator("moe.down"); }
const Operator& layer() { return find_operator("moe.forward"); }

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"weights", {"int4", "bf16", "f16", "int8", "fp8_block", "mxfp4", "nvfp4"}},
      {"io", {"bf16", "f16", "f32"}},
      {"h", {"io", "f32"}},
      {"group_size", {"128", "64", "32", "16", "0"}},
      {"scale_dtype", {"bf16", "f32", "f16"}},
      {"zero_point", {"eight", "packed", "real"}},
      {"activation", {"silu", "gelu", "gelu_tanh", "swiglu_oai", "relu2"}},
      {"gate_order", {"gate_up", "up_gate", "interleaved"}},
      {"M", {"3", "1", "2", "9", "17", "0"}},
      {"D", {"64", "328", "136"}},
      {"I", {"80", "64", "96", "176", "8"}},
      {"E", {"8", "1", "60"}},
      {"k", {"2", "1", "6", "8"}},
      {"bias", {"false", "true"}},
      {"bias_dtype", {"bf16", "f32"}},
      {"id_dtype", {"i32", "i64"}},
      {"expert_map", {"false", "true"}},
      {"shared_size", {"0", "80", "184", "24"}},
      {"shared_gate", {"false", "true"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "last", "middle"}},
      {"arch", {"sm_90a", "sm_80"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

bool allowed(const Case& built) {
  const std::string weights = chosen(built, "weights"), zero = chosen(built, "zero_point");
  if (!weights.empty() && weights != "int4" && zero != "eight" && !zero.empty()) return false;
  if (chosen(built, "shared_size") == "0" && chosen(built, "shared_gate") == "true") return false;
  const std::string E = chosen(built, "E"), k = chosen(built, "k");
  return E.empty() || k.empty() || chosen(built, "expert_map") == "true" || std::stoi(k) <= std::stoi(E);
}

FieldMap problem_of(const Case& built) {
  FieldMap problem;
  for (const char* name :
       {"M", "D", "I", "E", "k", "io", "id_dtype", "weights", "group_size", "scale_dtype", "zero_point", "activation",
        "gate_order", "bias_dtype", "expert_map", "shared_size", "shared_gate"}) {
    set_field(problem, name, chosen(built, name));
  }
  const std::string io = chosen(built, "io"), bias = chosen(built, "bias");
  set_field(problem, "h", chosen(built, "h") == "io" ? io : "f32");
  set_field(problem, "output", io);
  set_field(problem, "up_bias", bias);
  set_field(problem, "down_bias", bias);
  if (chosen(built, "expert_map") == "true" && std::stoi(chosen(built, "k")) > 2 * std::stoi(chosen(built, "E"))) {
    set_field(problem, "E", "8");
  }
  return problem;
}

// All pairs of values, or few cases in which every value occurs.
void check_pairs(const Operator& op, std::uint64_t seed, bool all) {
  const auto tiles_of = [&](const Case& built, const FieldMap& problem,
                            const DeviceTraits& device) -> std::optional<FieldMap> {
    const std::string tiles = chosen(built, "tiles");
    if (tiles == "default") return std::nullopt;
    const std::vector<FieldMap> space = op.search_space(op.complete(problem), device);
    return tiles == "last" ? space.back() : space[space.size() / 2];
  };
  const std::vector<Case> cases = pairwise_cases(axes(), allowed, seed);
  check_cases(op, axes(), all ? cases : every_value(cases), problem_of, tiles_of);
}

std::string check(const Operator& op, const std::string& problem, reference::Inputs inputs = reference::Inputs::typical,
                  std::uint64_t seed = 1) {
  const auto runtime = emulator_runtime("sm_90a");
  return check_problem(*runtime, op, parse_fields(problem), std::nullopt, inputs, seed);
}

std::vector<std::byte> run(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, HostCall& call,
                           const char* output) {
  const auto plan = make_plan(runtime, op, problem);
  plan->run(call.views(), nullptr);
  return call[output].bytes;
}

}  // namespace

TEST_CASE("every format, shape and option is right on the emulator") {
  check_pairs(up(), 41, false);
  check_pairs(down(), 42, false);
}

TEST_CASE("every pair of formats, shapes and options is right on the emulator" * doctest::test_suite("sweep")) {
  check_pairs(up(), 41, true);
  check_pairs(down(), 42, true);
}

TEST_CASE("a layer is right from logits to hidden states, whatever routes it") {
  for (const char* routing :
       {"scoring=softmax renormalize=true", "scoring=topk_softmax router_bias=true logits=bf16",
        "scoring=sigmoid selection_bias=true scaling=2.5 groups=4 groups_kept=2 group_score=top2_sum",
        "route=false id_dtype=i64", "scoring=softmax softcap=30 expert_map=true router_experts=40", "programmatic=true",
        "shared_size=176 shared_gate=true", "shared_size=24 h=f32", "M=0", "M=33"}) {
    CAPTURE(std::string(routing));
    CHECK(check(layer(), fmt::format("D=136 I=80 E=16 k=4 weights=int4 group_size=32 {}",
                                     std::string(routing).find("M=") == std::string::npos ? "M=5 " : "") +
                             routing) == "");
  }
  CHECK(check(layer(), "M=3 D=64 I=72 E=8 k=2 weights=bf16 io=f32 h=f32 output=f32") == "");
  CHECK(check(layer(),
              "M=3 D=64 I=64 E=8 k=2 weights=mxfp4 activation=swiglu_oai gate_order=interleaved up_bias=true "
              "down_bias=true scoring=topk_softmax router_bias=true") == "");
}

TEST_CASE("numbers of experts and slots of every kind") {
  for (const char* shape : {"E=512 k=10", "E=513 k=8", "E=384 k=8", "E=1024 k=32", "E=1 k=1", "E=160 k=6"}) {
    CAPTURE(std::string(shape));
    CHECK(check(layer(), std::string("M=2 D=32 I=16 weights=int4 group_size=16 ") + shape) == "");
  }
}

TEST_CASE("ids that name nobody, and one expert for all, for many tokens") {
  for (const std::uint64_t seed : {1, 2}) {  // 2: all on one expert
    CHECK(check(up(), "M=70 D=64 I=16 E=8 k=8 weights=int4", reference::Inputs::brutal, seed) == "");
    CHECK(check(down(), "M=70 D=64 I=16 E=8 k=8 weights=int4", reference::Inputs::brutal, seed) == "");
  }
}

TEST_CASE("equal calls have equal bits, and a plan follows the ids that lie there") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = layer().complete(parse_fields("M=9 D=64 I=80 E=8 k=4 weights=int4 group_size=32"));
  const auto workload = reference::make_workload("moe.forward", problem, reference::Inputs::typical, 3);
  HostCall first(workload->tensors()), second(workload->tensors());
  CHECK(run(*runtime, layer(), problem, first, "y") == run(*runtime, layer(), problem, second, "y"));
  // Other logits in the same memory: what the plan then computes is what a new call computes.
  for (const auto& [place, tensor] : workload->redraw(17)) second[tensor.spec.name].bytes = tensor.bytes;
  HostCall third(workload->tensors());
  third["logits"].bytes = second["logits"].bytes;
  // Its experts' weights may be poison in this draw; the bits must still agree.
  CHECK(run(*runtime, layer(), problem, second, "y") == run(*runtime, layer(), problem, third, "y"));
}

TEST_CASE("with batch_invariant a token's bits do not depend on the tokens beside it") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* format : {"int4 group_size=32", "fp8_block activations=fp8"}) {
    CAPTURE(format);
    const std::string shape = std::string(" D=64 I=80 E=4 k=2 batch_invariant=true route=false weights=") + format;
    const FieldMap many = layer().complete(parse_fields("M=19" + shape));
    const auto workload = reference::make_workload("moe.forward", many, reference::Inputs::typical, 5);
    HostCall all(workload->tensors());
    const std::vector<std::byte> together = run(*runtime, layer(), many, all, "y");
    const FieldMap one = layer().complete(parse_fields("M=1" + shape));
    for (const std::int64_t token : {0, 7, 18}) {
      HostCall alone(workload->tensors());
      std::vector<TensorView> views = alone.views();
      const std::vector<TensorSpec> specs = layer().tensors(one);
      for (std::size_t i = 0; i < specs.size(); ++i) {
        const std::string& name = specs[i].name;
        if (name == "x" || name == "topk_ids" || name == "topk_weights" || name == "y")
          views[i] = slice(views[i], 0, token, 1);
      }
      make_plan(*runtime, layer(), one)->run(views, nullptr);
      const std::size_t row = 64 * 2;
      const auto begin = static_cast<std::ptrdiff_t>(static_cast<std::size_t>(token) * row);
      CHECK(std::equal(together.begin() + begin, together.begin() + begin + static_cast<std::ptrdiff_t>(row),
                       alone["y"].bytes.begin() + begin));
    }
  }
}

TEST_CASE("experts may lie gigabytes apart") {
  // Address space, of which only two experts' pages ever become memory.
  constexpr std::int64_t kApart = 5LL << 30;
  void* const memory = mmap(nullptr, static_cast<std::size_t>(2 * kApart), PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const auto runtime = emulator_runtime("sm_90a");
  for (const Operator* op : {&up(), &down()}) {
    const FieldMap problem = op->complete(parse_fields("M=3 D=64 I=32 E=2 k=2 weights=int4 group_size=16"));
    const auto workload = reference::make_workload(op->name(), problem, reference::Inputs::typical, 3);
    HostCall near(workload->tensors()), far(workload->tensors());
    const char* const weights = op == &up() ? "w1" : "w2";
    const char* const output = op == &up() ? "h" : "y";
    std::vector<TensorView> views = far.views();
    const std::vector<TensorSpec> specs = op->tensors(problem);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name != weights) continue;
      const auto bytes = static_cast<std::size_t>(views[i].strides[0]);
      for (std::int64_t expert = 0; expert < 2; ++expert) {
        std::memcpy(static_cast<std::byte*>(memory) + expert * kApart,
                    static_cast<std::byte*>(views[i].data) + static_cast<std::size_t>(expert) * bytes, bytes);
      }
      views[i].data = memory;
      views[i].strides[0] = kApart;
    }
    const auto plan = make_plan(*runtime, *op, problem);
    plan->run(near.views(), nullptr);
    plan->run(views, nullptr);
    CHECK(near[output].bytes == far[output].bytes);
  }
  munmap(memory, static_cast<std::size_t>(2 * kApart));
}

TEST_CASE("bad problems and arguments are refused by name, value and rule") {
  const auto refusal = [](const Operator& op, const char* problem) {
    return thrown([&] { op.complete(parse_fields(problem)); });
  };
  CHECK(refusal(up(), "D=100") == "D=100: must be a multiple of 8, 8 to 1048576");
  CHECK(refusal(up(), "I=12") == "I=12: must be a multiple of 8, 8 to 1048576");
  CHECK(refusal(up(), "E=0") == "E=0: must be 1 to 1024");
  CHECK(refusal(down(), "k=33") == "k=33: must be 1 to 32");
  CHECK(refusal(down(), "E=4 k=5") == "k=5: must not be more than E=4");
  CHECK(refusal(up(), "weights=int4 group_size=48").starts_with("group_size=48: must be 16, 32, 64, 128"));
  CHECK(refusal(up(), "weights=int8 zero_point=real") == "zero_point=real: only weights=int4 have one");
  CHECK(refusal(up(), "shared_gate=true") == "shared_gate=true: needs a shared expert, shared_size > 0");
  CHECK(refusal(up(), "io=bf16 h=f16") == "h=f16: must be io=bf16 or f32");
  CHECK(refusal(layer(), "E=8 router_experts=16") == "router_experts=16: must be E=8 without an expert_map");

  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = layer().complete(parse_fields("M=2 D=64 I=16 E=4 k=2 weights=int4 group_size=16"));
  const auto workload = reference::make_workload("moe.forward", problem, reference::Inputs::typical, 3);
  const auto plan = make_plan(*runtime, layer(), problem);
  const std::vector<TensorSpec> specs = layer().tensors(problem);
  const auto run_with = [&](std::string_view name, const std::function<void(TensorView&)>& change) {
    HostCall call(workload->tensors());
    std::vector<TensorView> views = call.views();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name == name) change(views[i]);
    }
    return thrown([&] { plan->run(views, nullptr); });
  };
  CHECK(run_with("w1", [](TensorView& view) { view.data = nullptr; }) == "w1: is null; the problem needs it");
  CHECK(run_with("w1_scale", [](TensorView& view) { view.dtype = DType::f32; }) ==
        "w1_scale: has dtype f32, the problem says bf16");
  CHECK(run_with("w2", [](TensorView& view) { view.shape[1] = 48; }) == "w2: dimension 1 is 48, must be 64");
  CHECK(
      run_with("x", [](TensorView& view) { view.strides[1] = 2; }).starts_with("x: stride 2 of dimension 1 must be 1"));
  CHECK(run_with("workspace", [](TensorView& view) {
          view.shape[0] = 16;
        }).starts_with("workspace: has 16 bytes, M=2 needs "));
}

TEST_CASE("every field that shapes a kernel changes its key, and M does not") {
  const DeviceTraits device;
  const auto signatures = [&](const Operator& op, const std::string& text) {
    const FieldMap problem = op.complete(parse_fields(text));
    std::string all;
    const FieldMap tiles = op.default_tiles(op.complete(parse_fields("M=1 weights=int4 shared_size=64")), device);
    const auto instance = op.instantiate(problem, tiles, Target{});
    for (const KernelSpec& spec : instance->kernels()) all += spec.signature + "\n";
    return all;
  };
  for (const Operator* op : {&up(), &down()}) {
    const std::string base = "weights=int4 shared_size=64";
    std::set<std::string> seen{signatures(*op, base)};
    for (const char* change :
         {"D=1024", "I=256", "E=64", "k=4", "io=f16 h=f16 output=f16", "id_dtype=i64", "group_size=64",
          "scale_dtype=f32", "zero_point=packed", "zero_point=real", "expert_map=true", "shared_size=128",
          "shared_gate=true", "programmatic=true", "up_bias=true down_bias=true"}) {
      CAPTURE(std::string(change));
      CHECK(seen.insert(signatures(*op, base + " " + change)).second);
    }
    CHECK(signatures(*op, base + " M=7") == signatures(*op, base));
    CHECK(signatures(*op, base + " batch_invariant=true") == signatures(*op, base));
  }
}

TEST_CASE("the C++ interface runs a layer") {
  Options options = Options::from_environment();
  options.device = "emulator";
  options.policy = Policy::heuristic;
  options.cache_directory.clear();
  options.read_only_caches.clear();
  Runtime runtime(options);
  const moe::ForwardProblem problem{.tokens = 3,
                                    .hidden_size = 64,
                                    .intermediate_size = 16,
                                    .experts = 8,
                                    .top_k = 2,
                                    .weights = moe::WeightFormat::int4,
                                    .group_size = 16};
  const auto workload = reference::make_workload("moe.forward", to_fields(problem), reference::Inputs::typical, 1);
  HostCall call(workload->tensors());
  const moe::ForwardPlan plan = moe::plan(runtime, problem);
  CHECK(plan.workspace_bytes(3) <= call.view("workspace").shape[0]);
  moe::ForwardArgs args;
  args.logits = call.view("logits");
  args.x = call.view("x");
  args.w1 = {.data = call.view("w1"), .scale = call.view("w1_scale")};
  args.w2 = {.data = call.view("w2"), .scale = call.view("w2_scale")};
  args.workspace = call.view("workspace");
  args.y = call.view("y");
  moe::forward(runtime, problem, args);
  std::vector<reference::HostTensor> results = workload->tensors();
  for (reference::HostTensor& tensor : results) {
    if (tensor.spec.role != TensorRole::scratch) tensor.bytes = call[tensor.spec.name].bytes;
  }
  for (const reference::OutputError& error : workload->compare(results)) CHECK(error.passed());
}

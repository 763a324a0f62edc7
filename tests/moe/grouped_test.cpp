// The grouped class of moe.up and moe.down against the reference: formats, shapes, options and tiles pairwise; routings
// that are far from even; what is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "tests/gdn/pairwise_check.h"
#include "tests/moe/grouped_check.h"

using namespace gdnjit;
using namespace gdnjit::tests;
using moe::ExpertsProblem;

namespace {

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"weights", {"bf16", "f16", "int4", "int8", "fp8_block", "mxfp4", "nvfp4"}},
      {"io", {"bf16", "f16", "f32"}},
      {"M", {"17", "1", "33", "0", "128", "222"}},
      {"D", {"64", "72", "136"}},
      {"I", {"64", "80", "96", "176", "352"}},
      {"E", {"8", "1", "60"}},
      {"k", {"1", "2", "6"}},
      {"h", {"same", "f32"}},
      {"output", {"bf16", "f16", "f32"}},
      {"id_dtype", {"i32", "i64"}},
      {"group_size", {"128", "64", "32", "16", "0"}},
      {"scale_dtype", {"bf16", "f16", "f32"}},
      {"zero_point", {"eight", "packed", "real"}},
      {"activation", {"silu", "gelu", "gelu_tanh", "swiglu_oai", "relu2"}},
      {"gate_order", {"gate_up", "up_gate", "interleaved"}},
      {"bias", {"false", "true"}},
      {"bias_dtype", {"bf16", "f32"}},
      {"expert_map", {"false", "true"}},
      {"shared_size", {"0", "48", "112"}},
      {"shared_gate", {"false", "true"}},
      {"programmatic", {"false", "true"}},
      {"block_m", {"16", "32", "64", "128"}},
      {"block_n", {"64", "32", "128"}},
      {"block_k", {"64", "32", "128"}},
      {"stages", {"2", "3", "4"}},
      {"warps", {"4", "8"}},
      {"inputs", {"typical", "brutal"}},
      {"arch", {"sm_90a", "sm_80"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

// Values chosen so far exclude each other if both are chosen and `wrong`.
bool allowed(const Case& built) {
  const auto is = [&](std::string_view name, std::initializer_list<std::string_view> values) {
    const std::string value = chosen(built, name);
    return std::find(values.begin(), values.end(), value) != values.end();
  };
  if (is("zero_point", {"packed", "real"}) && !is("weights", {"int4", ""})) return false;
  if (is("shared_gate", {"true"}) && is("shared_size", {"0"})) return false;
  if (is("programmatic", {"true"}) && is("arch", {"sm_80"})) return false;
  return !(is("E", {"1"}) && is("k", {"2", "6"}));
}

FieldMap problem_of(const Case& built) {
  FieldMap problem;
  for (const char* name :
       {"M", "D", "I", "E", "k", "io", "output", "id_dtype", "weights", "group_size", "scale_dtype", "zero_point",
        "activation", "gate_order", "bias_dtype", "expert_map", "shared_size", "shared_gate", "programmatic"}) {
    set_field(problem, name, chosen(built, name));
  }
  set_field(problem, "h", chosen(built, "h") == "f32" ? "f32" : chosen(built, "io"));
  set_field(problem, "up_bias", chosen(built, "bias"));
  set_field(problem, "down_bias", chosen(built, "bias"));
  return problem;
}

std::vector<Case> pairs() { return pairwise_cases(axes(), allowed, 17); }

void check(bool down, const std::vector<Case>& cases) {
  const auto tiles_of = [down](const Case& built, const FieldMap& problem,
                               const DeviceTraits& device) -> std::optional<FieldMap> {
    const auto parsed = moe::complete_experts(from_fields<ExpertsProblem>(problem));
    moe::GroupedTiles tiles{.path = moe::ExpertPath::mma,
                            .block_m = std::stoi(chosen(built, "block_m")),
                            .block_n = std::stoi(chosen(built, "block_n")),
                            .block_k = std::stoi(chosen(built, "block_k")),
                            .stages = std::stoi(chosen(built, "stages")),
                            .warps = std::stoi(chosen(built, "warps")),
                            .group_m = 2,
                            .blocks = 0};
    const moe::GroupedConfig config = moe::grouped_config(parsed, tiles, down);
    if (config.fault() != nullptr || config.shared_bytes() > device.shared_bytes_per_block) {
      tiles = moe::default_grouped_tiles(parsed, down, device);
    }
    return to_fields(with_fields_of<moe::ProductTiles>(tiles));
  };
  check_cases(find_operator(down ? "moe.down" : "moe.up"), axes(), cases, problem_of, tiles_of);
}

}  // namespace

TEST_CASE("every format, shape, option and tile is right on the emulator") {
  check(false, every_value(pairs()));
  check(true, every_value(pairs()));
}

TEST_CASE("every pair of formats, shapes, options and tiles is right on the emulator" * doctest::test_suite("sweep")) {
  check(false, pairs());
  check(true, pairs());
}

TEST_CASE("all tokens on one expert, experts without tokens, ids that are nobody's, a token that names one twice") {
  const std::vector<std::vector<int>> routings{{3, 3}, {0, 7}, {-1, 2, 9, 2, 1 << 30, -7}, {-1}, {5, 5, 1, 5}};
  for (const std::vector<int>& ids : routings) {
    CAPTURE(ids[0]);
    CHECK(check_routing("moe.up", "M=70 D=64 I=96 E=8 k=2", ids) == "");
    CHECK(check_routing("moe.down", "M=70 D=64 I=96 E=8 k=2 shared_size=48 shared_gate=true", ids) == "");
  }
}

TEST_CASE("tokens of ids and x may lie apart") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = parse_fields("M=40 D=64 I=64 E=8 k=2");
  const auto plan = make_plan(*runtime, find_operator("moe.up"), problem, tiles_text(kTiles));
  const auto complete = find_operator("moe.up").complete(problem);
  const auto workload = reference::make_workload("moe.up", complete, reference::Inputs::typical, 3);
  HostCall call(workload->tensors());
  // Every token's row of `name` to a place two rows wide.
  std::vector<std::vector<std::byte>> wide;
  const auto spread = [&](TensorView view) {
    const auto row = static_cast<std::size_t>(view.shape[1] * dtype_bytes(view.dtype));
    auto& memory = wide.emplace_back(2 * row * static_cast<std::size_t>(view.shape[0]));
    for (std::int64_t m = 0; m < view.shape[0]; ++m) {
      const auto* from = static_cast<const std::byte*>(view.data) + static_cast<std::size_t>(m) * row;
      std::copy_n(from, row, memory.data() + 2 * row * static_cast<std::size_t>(m));
    }
    view.data = memory.data();
    view.strides[0] *= 2;
    return view;
  };
  std::vector<TensorView> views = call.views();
  views[0] = spread(views[0]);
  views[1] = spread(views[1]);
  plan->run(views, nullptr);
  std::vector<reference::HostTensor> results;
  for (const TensorSpec& spec : plan->tensors()) results.push_back(call[spec.name]);
  for (const reference::OutputError& error : workload->compare(results)) CHECK(error.passed());
}

TEST_CASE("a workspace that is too small, and tiles of another path, are refused by name") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = find_operator("moe.down").complete(parse_fields("M=20 D=64 I=64 E=8 k=2"));
  const auto plan = make_plan(*runtime, find_operator("moe.down"), problem, tiles_text(kTiles));
  HostCall call(reference::make_workload("moe.down", problem, reference::Inputs::typical, 1)->tensors());
  std::vector<TensorView> views = call.views();
  const std::int64_t needed = plan->instance().workspace_bytes(1, 20);
  CHECK(needed <= views.back().shape[0]);
  views.back().shape[0] = needed;
  CHECK(thrown([&] { plan->run(views, nullptr); }) == "");
  views.back().shape[0] = needed - 1;
  CHECK(thrown([&] { plan->run(views, nullptr); }).find("workspace: has") != std::string::npos);
  views.back() = TensorView{};
  CHECK(thrown([&] { plan->run(views, nullptr); }).find("workspace: has 0 bytes") != std::string::npos);
  CHECK(thrown([&] {
          make_plan(*runtime, find_operator("moe.down"), problem, tiles_text("path=mma warps_k=2"));
        }).find("does not use all of them") != std::string::npos);
  CHECK(thrown([&] {
          make_plan(*runtime, find_operator("moe.down"), problem, tiles_text("path=mma block_n=24"));
        }).find("block_n") != std::string::npos);
}

TEST_CASE("few tokens take the matvec class by default, many the grouped one") {
  const auto path = [](const char* text) {
    const Operator& op = find_operator("moe.up");
    return *find_field(op.default_tiles(op.complete(parse_fields(text)), DeviceTraits{}), "path");
  };
  CHECK(path("M=1 E=256 k=8") == "matvec");
  CHECK(path("M=64 E=256 k=8") == "matvec");
  CHECK(path("M=64 E=8 k=2") != "matvec");
  CHECK(path("M=1024 E=256 k=8") != "matvec");
  CHECK(path("M=1024 E=256 k=8 batch_invariant=true") == "matvec");
}

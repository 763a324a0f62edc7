#include "codegen/gdn/forward.h"

#include <doctest/doctest.h>

#include <string>

#include "codegen/registry.h"
#include "tests/support/error_of.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

const Operator& op() { return forward_operator(); }

FieldMap problem_of(const std::string& fields) { return op().complete(parse_fields(fields)); }

ForwardPaths paths_of(ForwardProblem problem) { return ForwardPaths(complete_forward(problem)); }

std::string names(const std::vector<TensorSpec>& specs) {
  std::vector<std::string> list;
  for (const TensorSpec& spec : specs) list.push_back(spec.name);
  return fmt::format("{}", fmt::join(list, " "));
}

std::string entries(const Instance& instance) {
  std::vector<std::string> list;
  for (const KernelSpec& spec : instance.kernels()) list.push_back(spec.entry);
  return fmt::format("{}", fmt::join(list, " "));
}

std::shared_ptr<const Instance> instance_of(const std::string& fields, const DeviceTraits& device) {
  const FieldMap problem = problem_of(fields);
  return op().instantiate(problem, op().default_tiles(problem, device), Target{device.arch});
}

DeviceTraits sm_80() {
  DeviceTraits traits;
  traits.arch = "sm_80";
  traits.shared_bytes_per_block = 166912;
  return traits;
}

}  // namespace

TEST_CASE("gdn.step serves one token, or the problem's own few, where its states have a place of one kind") {
  ForwardProblem problem{.initial_state = StatePlace::dense};
  CHECK(paths_of(problem).step->tokens == 1);
  problem.tokens = 5;
  CHECK(paths_of(problem).step->tokens == 5);
  problem.tokens = kMaxStepTokens + 1;
  CHECK(paths_of(problem).step->tokens == 1);
  problem.final_state = StatePlace::none;
  CHECK_FALSE(paths_of(problem).step->update_state);
  problem.initial_state = problem.final_state = StatePlace::pool;
  CHECK(paths_of(problem).step->state_store == StateStore::pool);
  problem.final_state = StatePlace::dense;
  CHECK_FALSE(paths_of(problem).step.has_value());
  problem.initial_state = StatePlace::none;
  CHECK_FALSE(paths_of(problem).step.has_value());
  problem.initial_state = StatePlace::dense;
  problem.ragged = true;
  CHECK_FALSE(paths_of(problem).step.has_value());
}

TEST_CASE("fixed sums and fp32 tensors rule out gdn.chunk, checkpoints everything else") {
  CHECK_FALSE(paths_of({.sum_lanes = 16}).chunk.has_value());
  CHECK_FALSE(paths_of({.io_dtype = DType::f32}).chunk.has_value());
  CHECK(paths_of({.io_dtype = DType::f32, .checkpoints = StatePlace::dense}).chunk.has_value());
  const ForwardPaths kept = paths_of({.initial_state = StatePlace::dense, .checkpoints = StatePlace::dense});
  CHECK(kept.chunk.has_value());
  CHECK_FALSE(kept.recurrent.has_value());
  CHECK_FALSE(kept.step.has_value());
  CHECK(says(error_of([] { paths_of({.checkpoints = StatePlace::dense, .sum_lanes = 8}); }), "sum_lanes=8: gdn.chunk"));
}

TEST_CASE("a warm-up is gdn.chunk's, and refused where that is ruled out") {
  const FieldMap problem = forward_operator().complete(parse_fields("T=4096 H=1 HV=2 warmup=100"));
  CHECK(find_field(problem, "warmup") == "128");
  for (const OperatorPart& part : forward_operator().parts(problem)) {
    const auto own = find_field(part.problem, "warmup");
    CHECK(own.has_value() == (part.name == "chunk"));
    if (own) CHECK(*own == "128");
  }
  CHECK(find_field(forward_operator().default_tiles(problem, {}), "chunk.segments") == "8");
  CHECK(says(error_of([] { problem_of("warmup=64 sum_lanes=8"); }),
             "warmup=64: must be 0 with sum_lanes, which rules out gdn.chunk"));
  CHECK(says(error_of([] { problem_of("warmup=64 io=f32"); }),
             "warmup=64: must be 0 with io=f32, which rules out gdn.chunk"));
  CHECK(says(error_of([] { problem_of("warmup=64 gate=none"); }),
             "warmup=64: must be 0 with gate=none, whose states never fade"));
}

TEST_CASE("the way follows from the tokens and the crossover") {
  const ForwardPaths all = paths_of({.initial_state = StatePlace::dense});
  CHECK(all.choose(1, 64) == ForwardPath::step);
  CHECK(all.choose(0, 64) == ForwardPath::recurrent);
  CHECK(all.choose(2, 64) == ForwardPath::recurrent);
  CHECK(all.choose(64, 64) == ForwardPath::recurrent);
  CHECK(all.choose(65, 64) == ForwardPath::chunk);
  CHECK(all.choose(2, 0) == ForwardPath::chunk);
  CHECK(paths_of({.sum_lanes = 16}).choose(5000, 64) == ForwardPath::recurrent);
  CHECK(paths_of({.checkpoints = StatePlace::dense}).choose(1, 64) == ForwardPath::chunk);
}

TEST_CASE("the tensors are those of gdn.chunk, or of gdn.recurrent where gdn.chunk is ruled out") {
  CHECK(names(op().tensors(problem_of(""))) == names(find_operator("gdn.chunk").tensors({})));
  for (const char* fields : {"sum_lanes=16", "io=f32"}) {
    CHECK(names(op().tensors(problem_of(fields))) == names(find_operator("gdn.recurrent").tensors({})));
  }
  CHECK(names(op().tensors(problem_of("initial_state=pool final_state=pool"))) ==
        "q k v a b a_log dt_bias state_in read_slot write_slot workspace o");
}

TEST_CASE("an instance has the kernels of all its ways, and launches those of one") {
  const auto instance = instance_of("initial_state=dense T=200", sm_80());
  CHECK(entries(*instance) == "gdnjit_gdn_step gdnjit_gdn_recurrent gdnjit_gdn_chunk_prepare gdnjit_gdn_chunk_scan");
  const std::vector<LaunchGeometry> geometries = instance->geometries();
  REQUIRE(geometries.size() == 4);
  CHECK(geometries[0].empty());
  CHECK(geometries[1].empty());
  CHECK_FALSE(geometries[2].empty());
  CHECK_FALSE(geometries[3].empty());
  CHECK(entries(*instance_of("sum_lanes=16", sm_80())) == "gdnjit_gdn_recurrent");
}

TEST_CASE("where a device cannot hold a chunk gdn.recurrent serves every T, unless checkpoints are asked for") {
  DeviceTraits small = sm_80();
  small.shared_bytes_per_block = 16384;
  const FieldMap problem = problem_of("initial_state=dense K=256 V=256 T=4096");
  const FieldMap tiles = op().default_tiles(problem, small);
  CHECK(subfields(tiles, "chunk").empty());
  CHECK(entries(*op().instantiate(problem, tiles, Target{"sm_80"})) == "gdnjit_gdn_step gdnjit_gdn_recurrent");
  CHECK(op().decision(problem, tiles) == "gdn.recurrent: gdn.chunk cannot serve these options or this device");
  const FieldMap kept = problem_of("K=256 V=256 checkpoints=dense");
  CHECK(error_of([&] { op().default_tiles(kept, small); }).code() == ErrorCode::unsupported);
}

TEST_CASE("a decision says what runs and why") {
  const auto decision = [](const std::string& fields, const char* crossover) {
    const FieldMap problem = problem_of(fields);
    FieldMap tiles = op().default_tiles(problem, sm_80());
    set_field(tiles, "crossover", crossover);
    return op().decision(problem, tiles);
  };
  CHECK(decision("T=65", "64") == "gdn.chunk: T=65 is above crossover=64");
  CHECK(decision("T=64", "64") == "gdn.recurrent: T=64 is not above crossover=64");
  CHECK(decision("T=3 initial_state=dense", "64") == "gdn.step: T=3 is baked into its kernel");
  CHECK(decision("T=3 checkpoints=dense", "64") == "gdn.chunk: it alone stores checkpoints");
}

TEST_CASE("a crossover is tuned for a power of two of B, whatever T is and whether the batch is ragged") {
  CHECK(op().tuning_bucket(problem_of("B=5 T=7 ragged=true")) == op().tuning_bucket(problem_of("B=8 T=4096")));
  CHECK(op().crossover(problem_of(""))->tile == "crossover");
  CHECK(op().crossover(problem_of(""))->above == "chunk");
  CHECK_FALSE(op().crossover(problem_of("sum_lanes=16")).has_value());
  CHECK_FALSE(op().crossover(problem_of("checkpoints=dense")).has_value());
  CHECK(default_crossover({.batch = 1}, {}) > default_crossover({.batch = 256}, {}));
}

TEST_CASE("a call is described with its own B and T") {
  const FieldMap planned = problem_of("H=2 HV=4 K=16 V=8 T=1024 initial_state=dense");
  std::vector<TensorView> views;
  for (const TensorSpec& spec : op().tensors(problem_of("H=2 HV=4 K=16 V=8 B=3 T=40 initial_state=dense"))) {
    TensorView& view = views.emplace_back();
    view.rank = static_cast<int>(spec.shape.size());
    std::copy(spec.shape.begin(), spec.shape.end(), view.shape.begin());
  }
  const CallDescription call = op().describe_call(planned, views);
  CHECK(find_field(call.problem, "B") == "3");
  CHECK(find_field(call.problem, "T") == "40");
  CHECK(call.tensors.back().shape == std::vector<std::int64_t>{3, 40, 4, 8});
}

TEST_CASE("tiles of the parts are tiles of the whole by their names, and a bad crossover is refused") {
  const FieldMap problem = problem_of("initial_state=dense");
  const FieldMap tiles = op().default_tiles(problem, {});
  CHECK(find_field(tiles, "recurrent.block_v").has_value());
  CHECK(find_field(tiles, "chunk.path").has_value());
  CHECK(subfields(tiles, "step") == find_operator("gdn.step").default_tiles(op().parts(problem)[0].problem, {}));
  CHECK(without_subfields(tiles).size() == 1);
  FieldMap bad = tiles;
  set_field(bad, "crossover", "-1");
  CHECK(
      says(error_of([&] { op().instantiate(problem, bad, Target{"sm_90a"}); }), "crossover=-1: must not be negative"));
  CHECK(op().search_space(problem, {}).size() == 3);
}

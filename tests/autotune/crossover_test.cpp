#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <set>

#include "autotune/crossover_search.h"
#include "codegen/registry.h"
#include "runtime/plan.h"
#include "runtime/tile_lookup.h"
#include "tests/autotune/fakes.h"

using namespace gdnjit;
using autotune::crossover_of;
using autotune::Rung;

namespace {

const Operator& forward_op() { return find_operator("gdn.forward"); }

// gdn.recurrent takes T us, gdn.chunk a fixed time; nothing is run.
class ModelEvaluator : public autotune::Evaluator {
 public:
  explicit ModelEvaluator(double chunk_us) : chunk_us_(chunk_us) {}

  autotune::Checked check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) override {
    asked.emplace_back(op.name());
    CHECK(fields_text(op.complete(problem)) == fields_text(problem));
    op.instantiate(problem, tiles, Target{"sm_90a"});
    if (op.name() == fails) return {.status = cache::TuningStatus::wrong, .reason = "o rms 1"};
    const double tokens = std::stod(std::string(*find_field(problem, "T")));
    return {.error = 1e-3, .modelled_us = op.name() == "gdn.chunk" ? chunk_us_ : tokens};
  }
  std::vector<autotune::Timed> time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                                    const autotune::TimingOptions&) override {
    ++timed;
    const double us = check(op, problem, tiles.at(0)).modelled_us;
    return {{.samples_us = {us, us, us}}};
  }

  std::vector<std::string> asked;
  std::string fails;
  int timed = 0;

 private:
  double chunk_us_;
};

autotune::TuneOutcome tune(Runtime::Impl& runtime, ModelEvaluator& evaluator, const std::string& fields,
                           bool force = false) {
  autotune::TunerOptions options;
  options.force = force;
  return autotune::tune_with(evaluator, runtime, {{.op = &forward_op(), .problem = parse_fields(fields)}}, options)
      .at(0);
}

}  // namespace

TEST_CASE("the crossover lies where the lines through the times meet") {
  const std::vector<Rung> rungs{{8, 8, 20}, {16, 16, 20}, {32, 32, 20}, {64, 64, 22}};
  CHECK(crossover_of(rungs) == 20);
  CHECK(crossover_of(std::vector<Rung>{{8, 30, 20}, {16, 40, 20}}) == 0);
  CHECK(crossover_of(std::vector<Rung>{{8, 8, 20}, {16, 16, 20}}) == 16);
  CHECK(crossover_of(std::vector<Rung>{}) == 0);
  // One rung that noise gave to the second does not end the first's reign.
  CHECK(crossover_of(std::vector<Rung>{{8, 8, 7}, {16, 16, 20}, {32, 32, 16}}) == 19);
  // Equal times stay with the first.
  CHECK(crossover_of(std::vector<Rung>{{8, 8, 8}, {16, 16, 8}}) == 8);
}

TEST_CASE("a tuned crossover is stored, found again, and used by plans of that batch") {
  tests::TemporaryFolder folder;
  for (const DeviceKind kind : {DeviceKind::cuda, DeviceKind::emulator}) {
    tests::FakeRuntime runtime(kind, folder.path());
    ModelEvaluator evaluator(50);
    const autotune::TuneOutcome first = tune(*runtime.impl, evaluator, "B=3 T=700");
    CHECK_FALSE(first.cached);
    CHECK(first.best.tiles == "crossover=50");
    CHECK(first.best.chosen);
    CHECK(first.best.reason.find("T=48 48.0 50.0; T=64 64.0 50.0") != std::string::npos);
    CHECK(first.best.error == 1e-3);
    CHECK(first.gain() > 1.0);
    CHECK(first.default_record.tiles == "crossover=16");
    CHECK((evaluator.timed > 0) == (kind == DeviceKind::cuda));
    // Long rungs are left out once gdn.chunk has won three in a row.
    CHECK(first.best.reason.find("T=128") != std::string::npos);
    CHECK(first.best.reason.find("T=192") == std::string::npos);

    ModelEvaluator unused(1);
    const autotune::TuneOutcome again = tune(*runtime.impl, unused, "B=4");
    CHECK(again.cached);
    CHECK(again.best.tiles == "crossover=50");
    CHECK(unused.asked.empty());
    CHECK_FALSE(tune(*runtime.impl, unused, "B=4", true).cached);
    CHECK(evaluator.asked.size() % 2 == 0);
    tune(*runtime.impl, evaluator, "B=4", true);

    const FieldMap problem = forward_op().complete(parse_fields("B=4 T=60 ragged=true"));
    const DeviceInfo& device = runtime.impl->device().info();
    const TileChoice choice = choose_tiles(runtime.impl->cache(), device, forward_op(), problem, true);
    CHECK(choice.from == TilesFrom::exact);
    CHECK(find_field(choice.tiles, "crossover") == "50");
    CHECK(forward_op().decision(problem, choice.tiles) == "gdn.chunk: T=60 is above crossover=50");
    CHECK(choose_tiles(runtime.impl->cache(), device, forward_op(), problem, false).from == TilesFrom::heuristic);
  }
}

TEST_CASE("a part that is wrong leaves the default crossover, unchosen, with the reason") {
  tests::FakeRuntime runtime(DeviceKind::emulator);
  ModelEvaluator evaluator(50);
  evaluator.fails = "gdn.chunk";
  const autotune::TuneOutcome outcome = tune(*runtime.impl, evaluator, "");
  CHECK_FALSE(outcome.best.chosen);
  CHECK(outcome.best.status == cache::TuningStatus::wrong);
  CHECK(outcome.best.reason.find("gdn.chunk T=1: o rms 1") != std::string::npos);
  CHECK(evaluator.asked.size() == 2);
}

TEST_CASE("options that leave one way need no tuning") {
  tests::FakeRuntime runtime(DeviceKind::emulator);
  ModelEvaluator evaluator(50);
  const autotune::TuneOutcome outcome = tune(*runtime.impl, evaluator, "sum_lanes=16");
  CHECK(outcome.cached);
  CHECK(outcome.best.chosen);
  CHECK(outcome.best.reason == "its options and this device leave one way only");
  CHECK(evaluator.asked.empty());
}

TEST_CASE("the parts are raced with the tiles that records give them, and a plan takes these too") {
  tests::FakeRuntime runtime(DeviceKind::emulator);
  const DeviceInfo& device = runtime.impl->device().info();
  const FieldMap problem = forward_op().complete(parse_fields("B=4"));
  const std::vector<OperatorPart> parts = forward_op().parts(problem);
  const auto recurrent =
      std::find_if(parts.begin(), parts.end(), [](const OperatorPart& part) { return part.name == "recurrent"; });
  REQUIRE(recurrent != parts.end());
  const FieldMap tiles = recurrent->op->search_space(recurrent->problem, device.traits).back();
  REQUIRE(tiles != recurrent->op->default_tiles(recurrent->problem, device.traits));
  cache::TuningRecord record;
  record.operator_name = recurrent->op->name();
  record.problem = fields_text(recurrent->op->complete(recurrent->op->tuning_bucket(recurrent->problem)));
  record.device = device.tuning_identity();
  record.arch = device.traits.arch;
  record.deployment = "graph";
  record.tiles = fields_text(tiles);
  record.basis = tuning_basis_of(device);
  record.chosen = true;
  runtime.impl->cache().put_tuning(record);
  runtime.impl->cache().choose_tuning(record);
  const TileChoice choice = choose_tiles(runtime.impl->cache(), device, forward_op(), problem, true);
  CHECK(subfields(choice.tiles, "recurrent") == tiles);
  CHECK(choice.from == TilesFrom::heuristic);
}

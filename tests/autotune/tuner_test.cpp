#include "autotune/tuner.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "autotune/search.h"
#include "autotune/tune_hook.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/autotune/fakes.h"

using namespace gdnjit;
using namespace gdnjit::autotune;
using namespace gdnjit::tests;
using cache::TuningStatus;

namespace {

FakeOperator three_kernels() {
  FakeOperator op;
  op.space = {{"plain", {.time_us = 10}}, {"fast", {.time_us = 8}}, {"slow", {.time_us = 20}}};
  return op;
}

std::vector<TuneOutcome> tune_all(FakeRuntime& runtime, CountingEvaluator& evaluator, const FakeOperator& op,
                                  const TunerOptions& options = {}, const std::function<bool()>& stop = {},
                                  const std::function<void(const TuneProgress&)>& progress = {}) {
  return tune_with(evaluator, *runtime.impl, {{.op = &op, .problem = {}}}, options, progress, stop);
}

std::map<std::string, TuningStatus> statuses(const TuneOutcome& outcome) {
  std::map<std::string, TuningStatus> all;
  for (const auto& record : outcome.candidates) all[record.tiles] = record.status;
  return all;
}

}  // namespace

TEST_CASE("the fastest right candidate wins and everything known about it is stored") {
  const TemporaryFolder folder;
  FakeRuntime runtime(DeviceKind::cuda, folder.path());
  const FakeOperator op = three_kernels();
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcomes = tune_all(runtime, evaluator, op);
  REQUIRE(outcomes.size() == 1);
  const TuneOutcome& outcome = outcomes.front();
  CHECK(outcome.best.tiles == "kernel=fast");
  CHECK(outcome.best.chosen);
  CHECK(outcome.best.reason == "beats the default by 25 %");
  CHECK(outcome.default_record.tiles == "kernel=plain");
  CHECK(outcome.gain() == doctest::Approx(1.25));
  CHECK(outcome.binary_bytes == 123);
  CHECK_FALSE(outcome.cached);

  const auto rows = runtime.impl->cache().find_tuning("fake.double", fields_text(outcome.problem),
                                                      runtime.device->info().tuning_identity());
  REQUIRE(rows.size() == 3);
  for (const auto& row : rows) {
    CHECK(row.chosen == (row.tiles == "kernel=fast"));
    CHECK(row.is_default == (row.tiles == "kernel=plain"));
    CHECK(row.basis == cache::TuningBasis::measured);
    CHECK(row.samples == 9);
    CHECK(row.deployment == "graph");
    CHECK(row.toolchain == "fake 1.0");
  }
}

TEST_CASE("a device that counts instead of timing gives modelled records and no race") {
  const TemporaryFolder folder;
  FakeRuntime runtime(DeviceKind::emulator, folder.path());
  const FakeOperator op = three_kernels();
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcome = tune_all(runtime, evaluator, op).front();
  CHECK(evaluator.races == 0);
  CHECK(outcome.best.basis == cache::TuningBasis::modelled);
  CHECK(outcome.best.is_default);  // the fake counts the same for all: a tie
  CHECK(outcome.best.time_us > 0);
  CHECK(outcome.best.samples == 0);
}

TEST_CASE("the kernels of a call are compiled, counted, modelled and timed together") {
  for (const DeviceKind kind : {DeviceKind::cuda, DeviceKind::emulator}) {
    const TemporaryFolder folder;
    FakeRuntime single(kind), several(kind, folder.path());
    FakeOperator op = three_kernels();
    CountingEvaluator alone(*single.impl, op), together(*several.impl, op);
    const auto before = tune_all(single, alone, op).front();
    op.prepared = true;
    const auto outcome = tune_all(several, together, op).front();
    CHECK(outcome.best.tiles == before.best.tiles);
    CHECK(outcome.best.key != before.best.key);
    CHECK(outcome.binary_bytes == 2 * before.binary_bytes);
    // The fake counts the same for every kernel, so a model of two is twice that of one.
    const double expected = kind == DeviceKind::cuda ? before.best.time_us + 3 : 2 * before.best.time_us;
    CHECK(outcome.best.time_us == doctest::Approx(expected));
    CHECK(several.impl->cache().statistics().compiles == 4);  // three candidates, and what they share
    CHECK(tune_all(several, together, op).front().cached);
  }
}

TEST_CASE("the default is a candidate even if the search space forgets it") {
  FakeRuntime runtime;
  FakeOperator op = three_kernels();
  op.list_default = false;
  CountingEvaluator evaluator(*runtime.impl, op);
  tune_all(runtime, evaluator, op);
  CHECK(evaluator.checked == std::vector<std::string>{"kernel=plain", "kernel=fast", "kernel=slow"});
}

TEST_CASE("wrong, crashing, uncompilable and unfit candidates are quarantined with the reason") {
  const TemporaryFolder folder;
  FakeRuntime runtime(DeviceKind::cuda, folder.path());
  FakeOperator op = three_kernels();
  op.space.push_back({"liar", {.does = "wrong", .time_us = 1}});
  op.space.push_back({"spiller", {.does = "outside", .time_us = 1}});
  op.space.push_back({"crasher", {.does = "fault", .time_us = 1}});
  op.space.push_back({"broken", {.does = "uncompilable", .time_us = 1}});
  op.space.push_back({"misfit", {.does = "unfit", .time_us = 1}});
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcome = tune_all(runtime, evaluator, op).front();
  CHECK(outcome.best.tiles == "kernel=fast");
  auto status = statuses(outcome);
  CHECK(status["kernel=liar"] == TuningStatus::wrong);
  CHECK(status["kernel=spiller"] == TuningStatus::wrong);
  CHECK(status["kernel=crasher"] == TuningStatus::crashed);
  CHECK(status["kernel=broken"] == TuningStatus::rejected);
  CHECK(status["kernel=misfit"] == TuningStatus::rejected);
  for (const auto& record : outcome.candidates) {
    if (record.status == TuningStatus::ok) continue;
    CHECK_FALSE(record.reason.empty());
    CHECK(record.samples == 0);
    CHECK_FALSE(record.chosen);
  }
}

TEST_CASE("if no candidate is right nothing is chosen") {
  const TemporaryFolder folder;
  FakeRuntime runtime(DeviceKind::cuda, folder.path());
  FakeOperator op;
  op.space = {{"liar", {.does = "wrong"}}, {"other", {.does = "unwritten"}}};
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcome = tune_all(runtime, evaluator, op).front();
  CHECK_FALSE(outcome.best.chosen);
  CHECK(outcome.best.status == TuningStatus::wrong);
  CHECK(outcome.gain() == 1);
}

TEST_CASE("a finished problem is answered from its records, until forced, recompiled or changed") {
  const TemporaryFolder folder;
  FakeOperator op = three_kernels();
  const auto run = [&](const TunerOptions& options, const std::string& toolchain) {
    FakeRuntime runtime(DeviceKind::cuda, folder.path(), toolchain);
    CountingEvaluator evaluator(*runtime.impl, op);
    const auto outcome = tune_all(runtime, evaluator, op, options).front();
    CHECK(outcome.best.tiles == "kernel=fast");
    CHECK(outcome.candidates.size() == 3);
    CHECK(outcome.binary_bytes == 123);
    CHECK(outcome.cached == evaluator.checked.empty());
    return evaluator.checked.size();
  };
  CHECK(run({}, "fake 1.0") == 3);
  CHECK(run({}, "fake 1.0") == 0);
  CHECK(run({.force = true}, "fake 1.0") == 3);
  CHECK(run({.deployment = "stream"}, "fake 1.0") == 3);
  CHECK(run({}, "fake 1.0") == 0);
  CHECK(run({}, "fake 2.0") == 3);
  op.space[0].second.jitter_us = 0.01;  // its source changes, so its record and the binary are of another kernel
  op.space[1].second.jitter_us = 0.01;
  CHECK(run({}, "fake 2.0") == 2);
}

TEST_CASE("what a read-only layer chose need not be tuned again, and the user's own choice goes first") {
  const TemporaryFolder site, user;
  FakeOperator op = three_kernels();
  const auto run = [&](const TemporaryFolder& folder, const std::vector<std::filesystem::path>& layers) {
    FakeRuntime runtime(DeviceKind::cuda, folder.path(), "fake 1.0", layers);
    CountingEvaluator evaluator(*runtime.impl, op);
    return tune_all(runtime, evaluator, op).front();
  };
  const std::filesystem::path layer = site.path() / "kernels.db";
  CHECK(run(site, {}).best.tiles == "kernel=fast");
  const TuneOutcome found = run(user, {layer});
  CHECK(found.cached);
  CHECK(found.best.tiles == "kernel=fast");

  // The user's own search knows two of the three kernels; the layer's choice is the third.
  const FakeOperator all = op;
  op.space.erase(op.space.begin() + 1);
  CHECK(run(user, {}).best.tiles == "kernel=plain");
  op = all;
  const TuneOutcome both = run(user, {layer});
  CHECK(both.cached);
  CHECK(both.best.tiles == "kernel=plain");
  CHECK(std::count_if(both.candidates.begin(), both.candidates.end(), [](const auto& r) { return r.chosen; }) == 1);
}

TEST_CASE("a stopped run keeps what it measured and goes on from there") {
  const TemporaryFolder folder;
  const FakeOperator op = three_kernels();
  {
    FakeRuntime runtime(DeviceKind::cuda, folder.path());
    CountingEvaluator evaluator(*runtime.impl, op);
    const auto outcomes = tune_all(runtime, evaluator, op, {}, [&] { return evaluator.checked.size() == 2; });
    CHECK(outcomes.empty());
    CHECK(evaluator.checked.size() == 2);
    CHECK(evaluator.races == 0);
  }
  FakeRuntime runtime(DeviceKind::cuda, folder.path());
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcome = tune_all(runtime, evaluator, op).front();
  CHECK(evaluator.checked == std::vector<std::string>{"kernel=slow"});
  CHECK(outcome.best.tiles == "kernel=fast");
  CHECK_FALSE(outcome.cached);
}

TEST_CASE("a lost device ends the run, names the culprit, and the next run passes it over") {
  const TemporaryFolder folder;
  FakeOperator op = three_kernels();
  op.space.insert(op.space.begin() + 1, {"killer", {.does = "lost"}});
  {
    FakeRuntime runtime(DeviceKind::cuda, folder.path());
    CountingEvaluator evaluator(*runtime.impl, op);
    CHECK_THROWS_WITH_AS(tune_all(runtime, evaluator, op), doctest::Contains("kernel=killer"), Error);
  }
  FakeRuntime runtime(DeviceKind::cuda, folder.path());
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcome = tune_all(runtime, evaluator, op).front();
  CHECK(evaluator.checked == std::vector<std::string>{"kernel=fast", "kernel=slow"});
  CHECK(statuses(outcome)["kernel=killer"] == TuningStatus::crashed);
  CHECK(outcome.best.tiles == "kernel=fast");
}

TEST_CASE("problems of one bucket are tuned once, and a large batch is checked on a smaller one") {
  FakeRuntime runtime;
  const FakeOperator op = three_kernels();
  CountingEvaluator evaluator(*runtime.impl, op);
  const auto outcomes = tune_with(evaluator, *runtime.impl,
                                  {{&op, {{"B", "5"}}}, {&op, {{"B", "8"}}}, {&op, {{"B", "7"}}}}, TunerOptions{});
  REQUIRE(outcomes.size() == 3);
  CHECK(evaluator.checked.size() == 3);
  CHECK(find_field(outcomes[0].problem, "B") == "8");
  CHECK(outcomes[2].best.tiles == outcomes[0].best.tiles);

  const FieldMap large = op.complete({{"B", "4096"}, {"n", "1000000"}});
  const FieldMap small = check_problem(op, large, op.tiles("plain"), runtime.device->info());
  CHECK(find_field(small, "B") == "33");  // 256 MiB of 8 MB a sequence
  CHECK(check_problem(op, op.complete({}), op.tiles("plain"), runtime.device->info()) == op.complete({}));
}

TEST_CASE("progress counts every candidate once and ends with all done") {
  FakeRuntime runtime;
  const FakeOperator op = three_kernels();
  CountingEvaluator evaluator(*runtime.impl, op);
  std::vector<TuneProgress> seen;
  tune_all(runtime, evaluator, op, {}, {}, [&](const TuneProgress& at) { seen.push_back(at); });
  REQUIRE(seen.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(seen[i].done == i);
    CHECK(seen[i].total == 3);
  }
  CHECK(seen[1].current.find("kernel=fast") != std::string::npos);
}

TEST_CASE("shards partition the requests exactly") {
  std::vector<TuneRequest> requests;
  for (int i = 0; i < 23; ++i) requests.push_back({nullptr, {{"B", std::to_string(i)}}});
  for (int count : {1, 2, 3, 7, 16, 23, 40}) {
    std::multiset<std::string> seen;
    std::size_t largest = 0, smallest = requests.size();
    for (int index = 0; index < count; ++index) {
      const auto own = shard_of(requests, index, count);
      largest = std::max(largest, own.size());
      smallest = std::min(smallest, own.size());
      for (const TuneRequest& request : own) seen.insert(request.problem.front().second);
    }
    CHECK(seen.size() == requests.size());
    CHECK(std::set<std::string>(seen.begin(), seen.end()).size() == requests.size());
    CHECK(largest - smallest <= 1);
  }
  CHECK_THROWS_WITH_AS(shard_of(requests, 3, 3), "shard index 3: must be 0 to 2", Error);
  CHECK_THROWS_AS(shard_of(requests, 0, 0), Error);
}

TEST_CASE("bad options are refused by name") {
  FakeRuntime runtime;
  const FakeOperator op = three_kernels();
  CountingEvaluator evaluator(*runtime.impl, op);
  CHECK_THROWS_WITH_AS(tune_all(runtime, evaluator, op, {.deployment = "cloud"}),
                       "deployment=cloud: must be graph or stream", Error);
  CHECK_THROWS_AS(tune_all(runtime, evaluator, op, {.margin = -1}), Error);
  CHECK_THROWS_AS(tune_all(runtime, evaluator, op, {.rounds = 1}), Error);
  CHECK(evaluator.checked.empty());
}

TEST_CASE("two tunings of the same device agree although their times are noisy") {
  FakeOperator op;
  op.space = {{"plain", {.time_us = 10}}};
  for (int i = 0; i < 6; ++i) {
    op.space.push_back({"near" + std::to_string(i), {.time_us = 8 + 0.01 * ((i * 5) % 7), .jitter_us = 0.3}});
  }
  std::set<std::string> winners;
  for (double drift : {0.0, 0.0001, 0.0002}) {
    FakeRuntime runtime;
    runtime.device->drift_per_launch_us = drift;
    CountingEvaluator evaluator(*runtime.impl, op);
    winners.insert(tune_all(runtime, evaluator, op).front().best.tiles);
  }
  CHECK(winners == std::set<std::string>{"kernel=near0"});
}

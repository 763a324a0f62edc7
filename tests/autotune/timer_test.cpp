#include "autotune/timer.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "autotune/choose.h"
#include "tests/autotune/fakes.h"

using namespace gdnjit;
using namespace gdnjit::tests;
using autotune::TimingOptions;

namespace {

struct Bench {
  FakeRuntime runtime;
  FakeOperator op;
  std::vector<std::shared_ptr<const OperatorPlan>> plans;

  explicit Bench(const std::vector<double>& times) {
    for (double time : times) {
      op.space.emplace_back("k" + std::to_string(op.space.size()), Behaviour{.does = "good", .time_us = time});
    }
    for (const auto& [kernel, behaviour] : op.space) {
      plans.push_back(make_plan(*runtime.impl, op, op.complete({}), op.tiles(kernel)));
    }
  }

  std::vector<std::vector<double>> time(const TimingOptions& options, std::vector<std::size_t>* order = nullptr) {
    return autotune::time_plans(plans, FakeWorkload(op, op.complete({})), options, [&](std::size_t index) {
      if (order != nullptr) order->push_back(index);
    });
  }
};

}  // namespace

TEST_CASE("samples are microseconds per launch, one a round, from graphs or from the stream") {
  for (bool graph : {true, false}) {
    Bench bench({10, 25});
    const auto samples = bench.time({.cold_l2 = true, .graph = graph, .rounds = 5});
    REQUIRE(samples.size() == 2);
    REQUIRE(samples[0].size() == 5);
    for (double sample : samples[0]) CHECK(sample == doctest::Approx(10));
    for (double sample : samples[1]) CHECK(sample == doctest::Approx(25));
    CHECK(bench.runtime.device->graph_launches == (graph ? 2 * 6 : 0));
    CHECK(bench.runtime.device->live_allocations == 0);
  }
}

TEST_CASE("rounds are interleaved and start with another plan each time") {
  Bench bench({1, 1, 1});
  std::vector<std::size_t> order;
  bench.time({.rounds = 3}, &order);
  CHECK(order == std::vector<std::size_t>{0, 1, 2, /* rounds */ 0, 1, 2, 1, 2, 0, 2, 0, 1});
}

TEST_CASE("a device that slows down while timing meets all plans alike") {
  Bench bench({10, 10, 10, 9});
  bench.runtime.device->drift_per_launch_us = 0.002;
  const auto samples = bench.time({.rounds = 8});
  std::vector<double> medians;
  for (const auto& own : samples) medians.push_back(autotune::summarize(own).median);
  CHECK(medians[3] < medians[0]);
  CHECK(std::abs(medians[0] - medians[2]) < 0.05 * medians[0]);
  CHECK(autotune::summarize(samples[0]).spread > 0.1);  // the drift shows where it belongs
}

TEST_CASE("cold timing rotates copies past twice the L2, warm timing stays on one") {
  CHECK(autotune::rotation_copies(1000, 4096, true) == 9);
  CHECK(autotune::rotation_copies(1000, 4096, false) == 1);
  CHECK(autotune::rotation_copies(1 << 20, 4096, true) == 1);
  CHECK(autotune::rotation_copies(0, 4096, true) == 1);
  CHECK(autotune::rotation_copies(1, 1LL << 40, true) == 512);

  const auto distinct_inputs = [](bool cold) {
    Bench bench({1});
    bench.time({.cold_l2 = cold, .rounds = 3});
    const auto& seen = bench.runtime.device->inputs_seen;
    return std::set<const void*>(seen.begin(), seen.end()).size();
  };
  CHECK(distinct_inputs(true) == 4);  // tensors of 2 KiB, an L2 of 4 KiB
  CHECK(distinct_inputs(false) == 1);
}

TEST_CASE("no plans take no time") {
  FakeOperator op;
  op.space = {{"one", {}}};
  CHECK(autotune::time_plans({}, FakeWorkload(op, op.complete({})), {}).empty());
}

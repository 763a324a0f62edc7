// The whole tuner with the real gdn.step on the emulator.
#include <doctest/doctest.h>
#include <gdnjit/gdn.h>

#include <cstdio>
#include <filesystem>

#include "autotune/tune_hook.h"
#include "autotune/tuner.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/autotune/fakes.h"

using namespace gdnjit;
using namespace gdnjit::autotune;
using cache::TuningStatus;

namespace {

std::unique_ptr<Runtime::Impl> emulator(const std::filesystem::path& cache, Policy policy = Policy::cached) {
  Options options = Options::from_environment();
  options.device = "emulator:sm_90a";
  options.cache_directory = cache;
  options.read_only_caches.clear();
  options.policy = policy;
  return std::make_unique<Runtime::Impl>(options);
}

bool have_nvrtc() {
  static const bool have = !emulator({})->toolchain().empty();
  if (!have) std::puts("SKIPPED: no NVRTC on this machine");
  return have;
}

// Small, with an odd head ratio.
const FieldMap kProblem = parse_fields("B=2 H=1 HV=3 K=64 V=32");

TuneRequest request() { return {.op = &find_operator("gdn.step"), .problem = kProblem}; }

std::string summary(const TuneOutcome& outcome) {
  std::string text;
  for (const auto& record : outcome.candidates) {
    text += fmt::format("{} {} {} {}\n", record.tiles, static_cast<int>(record.status), record.time_us, record.chosen);
  }
  return text;
}

}  // namespace

TEST_CASE("gdn.step is tuned on the emulator, cached, and used by plan()") {
  if (!have_nvrtc()) return;
  const tests::TemporaryFolder folder;
  std::string first;
  {
    const auto runtime = emulator(folder.path());
    const auto outcomes = tune(*runtime, {request()}, {});
    REQUIRE(outcomes.size() == 1);
    const TuneOutcome& outcome = outcomes.front();
    CHECK_FALSE(outcome.cached);
    CHECK(outcome.candidates.size() > 3);
    for (const auto& record : outcome.candidates) {
      CAPTURE(record.tiles);
      CAPTURE(record.reason);
      CHECK(record.status == TuningStatus::ok);
      CHECK(record.basis == cache::TuningBasis::modelled);
      CHECK(record.time_us > 2.5);
      CHECK(record.error < 3e-3);
      CHECK(record.error > 0);
    }
    CHECK(outcome.best.chosen);
    CHECK(outcome.default_record.is_default);
    CHECK(outcome.gain() >= 1);
    CHECK(outcome.binary_bytes > 0);
    first = summary(outcome);
  }
  {
    const auto runtime = emulator(folder.path());
    const auto outcome = tune(*runtime, {request()}, {}).front();
    CHECK(outcome.cached);
    CHECK(summary(outcome) == first);
    const auto plan = make_plan(*runtime, find_operator("gdn.step"), kProblem);
    CHECK(plan->info().tiles_from == TilesFrom::exact);
    CHECK(plan->info().tiles == outcome.best.tiles);
    CHECK_FALSE(plan->info().compiled);
  }
}

TEST_CASE("a worker process finds what this process finds") {
  if (!have_nvrtc()) return;
  const tests::TemporaryFolder here;
  const tests::TemporaryFolder there;
  const auto local = emulator(here.path());
  const auto remote = emulator(there.path());
  const auto worker = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "autotune_fake_worker";
  TunerOptions options;
  options.worker_command = {worker.string(), "--real"};
  CHECK(summary(tune(*remote, {request()}, options).front()) == summary(tune(*local, {request()}, {}).front()));
}

TEST_CASE("policy tune_on_miss tunes inside plan()") {
  if (!have_nvrtc()) return;
  const tests::TemporaryFolder folder;
  const auto runtime = emulator(folder.path(), Policy::tune_on_miss);
  register_tune_hook(*runtime);
  const auto plan = make_plan(*runtime, find_operator("gdn.step"), kProblem);
  CHECK(plan->info().tiles_from == TilesFrom::exact);
}

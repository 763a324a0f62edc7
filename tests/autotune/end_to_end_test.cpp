// The whole tuner with the real gdn.step on the emulator.
#include <doctest/doctest.h>
#include <gdnjit/gdn.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>

#include "autotune/child_process.h"
#include "autotune/tune_hook.h"
#include "autotune/tuner.h"
#include "autotune/worker_protocol.h"
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
    CHECK_FALSE(plan->info().compiled());
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

TEST_CASE("a worker survives the signals that reach its whole process group") {
  const auto program = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "autotune_fake_worker";
  ChildProcess worker({"sh", "-c", "echo $$; exec \"$0\" --real", program.string()});
  std::string line;
  REQUIRE(worker.read_line(line, 20'000) == ChildProcess::Read::line);
  const pid_t pid = std::stoi(line);
  Options options;
  options.device = "emulator:sm_90a";
  worker.write_line(to_line({{"hello", to_json(options)}}));
  REQUIRE(worker.read_line(line, 20'000) == ChildProcess::Read::line);
  CHECK(line == R"({"ready":"emulator of sm_90a"})");
  for (int signal : {SIGINT, SIGTERM, SIGHUP}) CHECK(::kill(pid, signal) == 0);
  worker.write_line(to_line({{"check", to_json(CheckRequest{"gdn.dance", {}, {}})}}));
  REQUIRE(worker.read_line(line, 20'000) == ChildProcess::Read::line);
  CHECK(line.find("gdn.dance") != std::string::npos);
}

TEST_CASE("policy tune_on_miss tunes inside plan()") {
  if (!have_nvrtc()) return;
  const tests::TemporaryFolder folder;
  const auto runtime = emulator(folder.path(), Policy::tune_on_miss);
  register_tune_hook(*runtime);
  const auto plan = make_plan(*runtime, find_operator("gdn.step"), kProblem);
  CHECK(plan->info().tiles_from == TilesFrom::exact);
}

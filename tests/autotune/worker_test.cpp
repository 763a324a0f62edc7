#include <doctest/doctest.h>
#include <signal.h>

#include <filesystem>

#include "autotune/child_process.h"
#include "autotune/worker_client.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"

using namespace gdnjit;
using namespace gdnjit::autotune;
using cache::TuningStatus;

namespace {

// The worker beside this test: its tiles say what to do, see fake_worker.cpp.
WorkerClient client(int timeout_ms = 20'000, std::vector<std::string> arguments = {}) {
  std::vector<std::string> command{
      (std::filesystem::read_symlink("/proc/self/exe").parent_path() / "autotune_fake_worker").string()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  Options options;
  options.device = "emulator:sm_90a";
  options.cache_directory = "/nowhere/\"quoted\" folder";
  return {command, options, timeout_ms};
}

const Operator& step() { return find_operator("gdn.step"); }

Checked check(WorkerClient& worker, const std::string& does) {
  return worker.check(step(), {{"B", "2"}}, {{"do", does}});
}

}  // namespace

TEST_CASE("results come back as the worker made them") {
  WorkerClient worker = client();
  Checked checked = check(worker, "good");
  CHECK(checked.status == TuningStatus::ok);
  CHECK(checked.error == 1.25e-3);
  CHECK(checked.modelled_us == 17.5);
  checked = check(worker, "wrong");
  CHECK(checked.status == TuningStatus::wrong);
  CHECK(checked.reason == "o rms 1 (tolerance 0.003)");
  CHECK(check(worker, "infinite").modelled_us == std::numeric_limits<double>::infinity());
  CHECK(worker.workers_started() == 1);
}

TEST_CASE("options and problems arrive unchanged") {
  WorkerClient worker = client();
  CHECK(check(worker, "echo").reason == "gdn.step B=2 emulator:sm_90a /nowhere/\"quoted\" folder");
}

TEST_CASE("a crash costs one candidate and names the signal") {
  WorkerClient worker = client();
  const Checked crashed = check(worker, "abort");
  CHECK(crashed.status == TuningStatus::crashed);
  CHECK(crashed.reason == "the worker died: signal 6 (Aborted)");
  CHECK(check(worker, "good").status == TuningStatus::ok);
  CHECK(worker.workers_started() == 2);
  CHECK(check(worker, "exit").reason == "the worker died: exit status 9");
}

TEST_CASE("a hang is ended by the watchdog") {
  WorkerClient worker = client(300);
  const Checked hung = check(worker, "sleep");
  CHECK(hung.status == TuningStatus::hung);
  CHECK(hung.reason == "no answer within 300 ms; the worker was ended");
  CHECK(check(worker, "good").status == TuningStatus::ok);
  CHECK(worker.workers_started() == 2);
}

TEST_CASE("a lost device costs the worker, not the run") {
  WorkerClient worker = client();
  const Checked lost = check(worker, "lose");
  CHECK(lost.status == TuningStatus::crashed);
  CHECK_FALSE(lost.device_lost);
  CHECK(check(worker, "good").status == TuningStatus::ok);
  CHECK(worker.workers_started() == 2);
}

TEST_CASE("garbage from a worker is that candidate's failure") {
  WorkerClient worker = client();
  const Checked garbled = check(worker, "garbage");
  CHECK(garbled.status == TuningStatus::crashed);
  CHECK(garbled.reason.find("unreadable answer: not json") != std::string::npos);
  CHECK(check(worker, "good").status == TuningStatus::ok);
}

TEST_CASE("what is nobody's fault is an error with its code") {
  WorkerClient worker = client();
  try {
    check(worker, "no_nvrtc");
    FAIL("no exception");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::nvrtc_missing);
    CHECK(std::string(error.what()) == "no NVRTC here");
  }
}

TEST_CASE("a worker that cannot start or greet is an error") {
  WorkerClient missing({"/nonexistent/worker"}, {}, 1000);
  CHECK_THROWS_AS(check(missing, "good"), Error);
  WorkerClient silent({"sleep", "60"}, {}, 200);
  CHECK_THROWS_WITH_AS(check(silent, "good"), doctest::Contains("no answer within 200 ms"), Error);
  WorkerClient refuses = client(20'000, {"--refuse"});
  CHECK_THROWS_WITH_AS(check(refuses, "good"), "no device here", Error);
}

TEST_CASE("candidates that fail while they are timed leave the race, the others are timed together") {
  WorkerClient worker = client(1000);
  const std::vector<FieldMap> tiles{
      {{"do", "good"}}, {{"do", "abort"}}, {{"do", "good"}}, {{"do", "sleep"}}, {{"do", "throw"}}};
  const auto timed = worker.time(step(), {{"B", "2"}}, tiles, {.cold_l2 = false, .graph = false, .rounds = 4});
  REQUIRE(timed.size() == 5);
  CHECK(timed[0].samples_us == std::vector<double>(4, 2.0));  // as many microseconds as candidates were in the race
  CHECK(timed[2].samples_us == std::vector<double>(4, 2.0));
  CHECK(timed[1].status == TuningStatus::crashed);
  CHECK(timed[1].reason.find("Aborted") != std::string::npos);
  CHECK(timed[3].status == TuningStatus::hung);
  CHECK(timed[4].status == TuningStatus::crashed);
  CHECK(timed[4].reason == "an illegal address");
  CHECK(worker.workers_started() == 4);
}

TEST_CASE("a child process is gone when its owner is") {
  pid_t pid = 0;
  {
    ChildProcess child({"sh", "-c", "echo $$; exec sleep 60"});
    std::string line;
    REQUIRE(child.read_line(line, 5000) == ChildProcess::Read::line);
    pid = std::stoi(line);
    CHECK(child.read_line(line, 20) == ChildProcess::Read::timeout);
    CHECK(::kill(pid, 0) == 0);
    child.kill();
    CHECK(child.obituary() == "signal 9 (Killed)");
    child.write_line("nobody reads this");  // no SIGPIPE
  }
  CHECK(::kill(pid, 0) != 0);
}

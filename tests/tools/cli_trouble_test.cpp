// Bad input and bad surroundings: a clear message, the documented exit code, and nothing lost.
#include <doctest/doctest.h>

#include <fstream>

#include "tests/tools/messages.h"
#include "tests/tools/tool_process.h"
#include "tools/gdn-tune/command.h"

namespace gdnjit::tool {
namespace {

const Words kSmall{"--problem", "gdn.step H=2 HV=4 K=64 V=64"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace

TEST_CASE("help lists every subcommand, and each has help of its own") {
  const TemporaryFolder folder;
  const Tool tool(folder.path());
  const Ran help = tool({"--help"});
  CHECK(help.exit_code == 0);
  CHECK(help.error.empty());
  CHECK(tool({}).out == help.out);
  for (const CommandEntry& entry : command_table()) {
    if (entry.group == CommandGroup::hidden) continue;
    const std::string name(entry.name);
    CHECK(contains(help.out, "\n  " + name + " "));
    const Ran own = tool({name, "--help"});
    CHECK(own.exit_code == 0);
    CHECK(contains(own.out, "Examples:"));
    CHECK(contains(own.out, "--json"));
    CHECK_FALSE(contains(own.out, "\n\n\n"));
  }
}

TEST_CASE("errors are one line with a suggestion on standard error, and an object with --json") {
  const TemporaryFolder folder;
  const Tool tool(folder.path());
  struct Case {
    Words words;
    const char* message;
  };
  const Case cases[] = {
      {{"tuen"}, "unknown command 'tuen' (did you mean 'tune'?)"},
      {{"tune", "--modle", "x"}, "unknown option '--modle' (did you mean '--model'?)"},
      {{"tune", "--model", "qwen3-nxt-80b"}, "unknown model 'qwen3-nxt-80b' (did you mean 'qwen3-next-80b'?)"},
      {{"tune"}, "no problem given"},
      {{"verify", "--model", "qwen3-next-80b", "--tp", "3"}, "H=16 must be divisible by tp; splits in use: 1, 2, 4, 8"},
      {{"verify", "--problem", "gdn.step H=16 HV=20"}, "HV=20"},
      {{"verify", "--op", "gdn.step", "--set", "stat=f32"}, "unknown field 'stat' (did you mean 'state'?)"},
      {{"verify", "--op", "gdn.step", "--set", "state=f31"}, "state=f31: unknown value (did you mean 'f32'?)"},
      {{"verify", "--op", "gdn.step", "--set", "state"}, "expected name=value"},
      {{"verify", "--op", "gdn.stop"}, "did you mean 'gdn.step'?"},
      {{"verify", "--op", "gdn.step", "--inputs", "kind"}, "expected typical or brutal"},
      {{"verify", "--op", "gdn.step", "--tiles", "nonsense"}, "--tiles nonsense"},
      {{"tune", "--op", "gdn.step", "--shard", "2/2"}, "--shard 2/2"},
      {{"tune", "--op", "gdn.step", "--margin", "400"}, "--margin 400"},
      {{"tune", "--op", "gdn.step", "--policy", "sometimes"}, "policy=sometimes"},
      {{"tune", "--op", "gdn.step", "--device", "tpu"}, "tpu"},
      {{"explain", "--op", "gdn.step", "--arch", "sm_91"}, "sm_91"},
      {{"explain", "--op", "gdn.step", "--device", "cuda", "--arch", "sm_80"}, "--arch sm_80"},
  };
  for (const Case& each : cases) {
    const Ran ran = tool(each.words);
    INFO(each.message << "\n" << ran.error);
    CHECK(ran.exit_code == 2);
    CHECK(ran.out.empty());
    CHECK(ran.error.starts_with("gdn-tune: error: "));
    CHECK(contains(ran.error, each.message));
  }
  const Ran object = tool({"tune", "--model", "qwen3-nxt-80b", "--json"});
  CHECK(object.exit_code == 2);
  const auto report = object.json();
  REQUIRE(report.is_object());
  CHECK(report["error"]["code"] == 2);
  CHECK(report["error"]["name"] == "invalid_argument");
  CHECK(contains(report["error"]["message"].get<std::string>(), "did you mean"));
  CHECK(tool({"tune", "--modle", "x", "--json"}).json()["error"]["code"] == 2);
}

TEST_CASE("files that cannot be read are code 10") {
  const TemporaryFolder folder;
  const Tool tool(folder.path());
  CHECK(tool({"tune", "--from-misses", "/nowhere/misses.jsonl"}).exit_code == 10);
  CHECK(tool({"models", "--models", "/nowhere/models.json"}).exit_code == 10);
}

TEST_CASE("a GPU that was asked for and is not there is code 6 with a remedy, never the emulator") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  // No GPU is visible, also on machines that have one.
  const Ran ran = tool(with({"explain"}, with(kSmall, {"--device", "cuda"})), {{"CUDA_VISIBLE_DEVICES", "-1"}});
  CHECK(ran.exit_code == 6);
  CHECK(ran.out.empty());
  CHECK(contains(ran.error, "emulator"));
}

TEST_CASE("doctor finds everything in order") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Ran ran = tool({"doctor"});
  INFO(ran.out << ran.error);
  CHECK(ran.exit_code == 0);
  CHECK(contains(ran.out, "matches the reference"));
  CHECK(contains(ran.out, "Kernels run on this machine."));
  const auto report = tool({"doctor", "--json"}).json();
  REQUIRE(report.is_object());
  CHECK(report["works"] == true);
  CHECK(report["findings"].size() >= 6);
}

TEST_CASE("without NVRTC doctor says what to do, and works again where kernels are cached") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Variables no_nvrtc{{"GDNJIT_NVRTC", "/nowhere/libnvrtc.so"}};
  const Ran missing = tool({"doctor"}, no_nvrtc);
  INFO(missing.out << missing.error);
  CHECK(missing.exit_code == 4);
  CHECK(contains(missing.out, "/nowhere/libnvrtc.so"));
  CHECK(contains(missing.out, "tools/quickstart.sh"));
  CHECK(tool(with({"explain"}, kSmall), no_nvrtc).exit_code == 4);
  CHECK(tool(with({"compile"}, kSmall), no_nvrtc).exit_code == 4);
  CHECK(tool(with({"verify"}, kSmall), no_nvrtc).exit_code == 4);

  REQUIRE(tool(with({"compile"}, kSmall)).exit_code == 0);
  const Ran cached = tool({"doctor"}, no_nvrtc);
  CHECK(cached.exit_code == 0);
  CHECK(contains(cached.out, "only the 1 kernel in the cache can run"));
  CHECK(tool(with({"verify"}, kSmall), no_nvrtc).exit_code == 0);
}

TEST_CASE("a bad variable is doctor's finding and everybody else's error") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Variables bad{{"GDNJIT_POLICY", "sometimes"}};
  const Ran doctor = tool({"doctor"}, bad);
  CHECK(doctor.exit_code == 2);
  CHECK(contains(doctor.out, "GDNJIT_POLICY=sometimes"));
  CHECK(tool({"stats"}, bad).exit_code == 2);
}

TEST_CASE("a cache that cannot be written costs a warning and nothing else") {
  const TemporaryFolder folder;
  std::ofstream(folder / "file") << "not a folder";
  const Tool tool(folder / "file" / "cache");
  const Ran verified = tool(with({"verify"}, kSmall));
  INFO(verified.out << verified.error);
  CHECK(verified.exit_code == 0);
  CHECK(contains(verified.error, "gdn-tune: warning: "));
  const Ran doctor = tool({"doctor"});
  CHECK(doctor.exit_code == 0);
  CHECK(contains(doctor.out, "warn  cache"));
  CHECK(contains(doctor.out, "--cache-dir"));
}

TEST_CASE("a terminal gets colours and progress unless NO_COLOR or --quiet say otherwise") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words words = with({"verify"}, kSmall);
  const Ran colored = tool.on_terminal(words);
  CHECK(colored.exit_code == 0);
  CHECK(contains(colored.out, "\x1b[32mpass"));
  CHECK(contains(colored.out, "verifying  ["));
  const Ran plain = tool.on_terminal(with(words, {"--quiet"}), {{"NO_COLOR", "1"}});
  CHECK(plain.exit_code == 0);
  CHECK_FALSE(contains(plain.out, "\x1b"));
  CHECK_FALSE(contains(plain.out, "verifying"));
  CHECK_FALSE(contains(tool.on_terminal(with(words, {"--quiet", "--no-color"})).out, "\x1b"));
  // A long table is cut to the terminal's 100 columns.
  for (std::size_t begin = 0, end; (end = plain.out.find('\n', begin)) != std::string::npos; begin = end + 1) {
    if (end - begin > 101) CHECK_FALSE(contains(plain.out.substr(begin, end - begin), "pass  "));
  }
}

TEST_CASE("Ctrl-C stops tidily with code 130, and a second one at once") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words words{"verify", "--all-models", "--tp", "all", "--batch", "2", "--json"};
  const Ran once = tool.interrupted(words, 700, 1);
  INFO(once.error);
  CHECK(once.exit_code == 130);
  CHECK(contains(once.error, "stopping after the work that is running"));
  const auto report = once.json();
  REQUIRE(report.is_object());
  CHECK(report["failed"] == 0);
  CHECK(report["left_out"].get<int>() > 0);
  // One check of some seconds, which the first signal waits for.
  const Ran twice = tool.interrupted({"verify", "--model", "kimi-k3", "--batch", "16"}, 700, 2);
  INFO(twice.error);
  CHECK(twice.exit_code == 130);
  CHECK(twice.out.empty());
  CHECK(twice.seconds < 2.0);
}

}  // namespace gdnjit::tool

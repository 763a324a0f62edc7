// The main job, end to end on the emulator.
#include <doctest/doctest.h>

#include <fstream>
#include <set>

#include "codegen/templates.h"
#include "tests/tools/messages.h"
#include "tests/tools/tool_process.h"

namespace gdnjit::tool {
namespace {

const Words kTune{"tune", "--model", "qwen3-next-80b", "--tp", "4", "--op", "gdn.step", "--batch", "1"};
const Words kProblem{"--model", "qwen3-next-80b", "--tp", "4", "--op", "gdn.step"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// The template `name` below `folder`, with one text replaced: how a kernel developer would try things.
void write_template(const std::filesystem::path& folder, const std::string& name, const std::string& from,
                    const std::string& to) {
  const TemplateFile* file = TemplateSet::embedded().find(name);
  REQUIRE(file != nullptr);
  std::string text = file->text;
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
  std::filesystem::create_directories((folder / name).parent_path());
  std::ofstream(folder / name) << text;
}

}  // namespace

TEST_CASE("tuning prints a table and a sentence, and a second run finds everything cached within a second") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Ran first = tool(kTune);
  INFO(first.out << first.error);
  REQUIRE(first.exit_code == 0);
  for (const char* expected : {"best tiles", "modelled", "qwen3-next-80b tp=4", "H=4 HV=8", "KB", "tuned"}) {
    CHECK(contains(first.out, expected));
  }
  CHECK(contains(first.out, "1 problem on emulator of sm_90a"));
  CHECK_FALSE(contains(first.out, "\x1b"));
  CHECK(first.error.empty());

  const Ran second = tool(with(kTune, {"--json"}));
  REQUIRE(second.exit_code == 0);
  const auto report = second.json();
  REQUIRE(report.is_object());
  CHECK(report["cached"] == 1);
  CHECK(report["tuned"] == 0);
  CHECK(second.seconds < 1.0);
  const auto& outcome = report["outcomes"][0];
  CHECK(outcome["best"]["chosen"] == true);
  CHECK(outcome["best"]["basis"] == "modelled");
  CHECK(outcome["best"]["error"].get<double>() < 3e-3);
  CHECK(outcome["binary_bytes"].get<int>() > 1000);
  CHECK(outcome["gain"].get<double>() >= 1.0);
  CHECK(outcome["candidates"].size() > 1);
  CHECK(outcome["problem"]["HV"] == "8");

  // Explain then names the record, unless the policy looks past it.
  const auto explained = tool(with(with({"explain"}, kProblem), {"--json"})).json();
  REQUIRE(explained.is_object());
  const auto& problem = explained["problems"][0];
  CHECK(problem["tiles_from"] == "exact");
  REQUIRE(problem["kernels"].size() == 1);
  CHECK(problem["kernels"][0]["compiled"] == false);
  CHECK(problem["kernels"][0]["key"] == outcome["best"]["key"]);
  CHECK(problem["records"].size() == outcome["candidates"].size());
  const auto heuristic = tool(with(with({"explain"}, kProblem), {"--json", "--policy", "heuristic"})).json();
  CHECK(heuristic["problems"][0]["tiles_from"] == "heuristic");

  // Binaries are there, so tuning again costs checks and no compiles.
  const auto forced = tool(with(kTune, {"--json", "--force"})).json();
  CHECK(forced["tuned"] == 1);
  CHECK(forced["outcomes"][0]["best"]["tiles"] == outcome["best"]["tiles"]);
  const auto shard = tool(with(kTune, {"--json", "--shard", "1/2"})).json();
  CHECK(shard["outcomes"].empty());
}

TEST_CASE("every operator verifies several tokens of a model, and the options of one by its name") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Ran both = tool({"verify", "--model", "qwen3-next-80b", "--tp", "8", "--set", "T=4", "--inputs", "typical"});
  INFO(both.out << both.error);
  CHECK(both.exit_code == 0);
  CHECK(contains(both.out, "4 of 4 checks of 4 problems passed"));
  const Ran tree = tool({"verify", "--op", "gdn.step", "--problem", "H=1 HV=2 K=64 V=32 T=6 tree=true", "--set",
                         "state_steps=none,dense"});
  INFO(tree.out << tree.error);
  CHECK(contains(tree.out, "4 of 4 checks of 2 problems passed"));
  const auto report = tool({"explain", "--op", "gdn.recurrent", "--problem", "H=1 HV=2 ragged=true", "--json"}).json();
  CHECK(report["problems"][0]["kernels"][0]["binary"]["spill_store_bytes"] == 0);
}

TEST_CASE("the crossover of gdn.forward is tuned, explained and used") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words problem{"--op", "gdn.forward", "--problem", "H=1 HV=2 K=32 V=32"};
  const auto explained = [&](const char* T) {
    return tool(with(with({"explain"}, problem), {"--set", T, "--json"})).json()["problems"][0];
  };
  const auto before = explained("T=300");
  CHECK(before["decision"] == "gdn.chunk: T=300 is above crossover=16");
  CHECK(before["tiles_from"] == "heuristic");
  const Ran tuned = tool(with(with({"tune"}, problem), {"--json"}));
  INFO(tuned.out << tuned.error);
  REQUIRE(tuned.exit_code == 0);
  const auto best = tuned.json()["outcomes"][0]["best"];
  const std::string crossover = best["tiles"];
  CHECK(contains(crossover, "crossover="));
  CHECK(contains(best["reason"].get<std::string>(), "recurrent against chunk, us; T=1 "));
  const auto after = explained("T=300");
  CHECK(after["tiles_from"] == "exact");
  CHECK(contains(after["decision"].get<std::string>(), crossover));
  CHECK(after["tiles"]["crossover"] == crossover.substr(10));
  CHECK(contains(explained("T=1")["decision"].get<std::string>(), "gdn.recurrent: T=1 is not above "));
  CHECK(tool(with(with({"tune"}, problem), {"--json"})).json()["cached"] == 1);
}

TEST_CASE(
    "inspect shows figures, counts and lines of each architecture, and leaves profiled binaries out of the cache") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words words = with(with({"inspect"}, kProblem), {"--arch", "sm_80,sm_90a"});
  const Ran table = tool(with(words, {"--lines", "3"}));
  INFO(table.out << table.error);
  REQUIRE(table.exit_code == 0);
  CHECK(contains(table.out, "occupancy"));
  CHECK(contains(table.out, "Busiest lines of gdnjit_gdn_step on sm_90a (3 of"));
  const auto report = tool(with(words, {"--json"})).json();
  REQUIRE(report["kernels"].size() == 2);
  for (const auto& kernel : report["kernels"]) {
    CHECK(kernel["binary"]["spill_store_bytes"] == 0);
    CHECK(kernel["occupancy"]["blocks_per_sm"] > 0);
    std::uint64_t instructions = 0, sectors = 0;
    bool names_template = false;
    for (const auto& line : kernel["lines"]) {
      instructions += line["warp_instructions"].get<std::uint64_t>();
      sectors += line["sectors_read"].get<std::uint64_t>();
      names_template = names_template || contains(line["file"].get<std::string>(), "gdn/");
    }
    CHECK(instructions == kernel["counters"]["warp_instructions"]);
    CHECK(sectors == kernel["counters"]["sectors_read"]);
    CHECK(names_template);
  }
  CHECK(tool({"list", "--json"}).json()["binaries"].size() == 2);
}

TEST_CASE("verify passes, and its JSON has every tensor of every check") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words words = with(with({"verify"}, kProblem), {"--set", "state=f32,bf16", "--set", "state_layout=kv,vk"});
  const Ran table = tool(words);
  INFO(table.out << table.error);
  REQUIRE(table.exit_code == 0);
  CHECK(contains(table.out, "8 of 8 checks of 4 problems passed"));
  CHECK(contains(table.out, "tolerance"));
  const auto report = tool(with(words, {"--json", "--inputs", "brutal"})).json();
  REQUIRE(report.is_object());
  CHECK(report["passed"] == 4);
  CHECK(report["failed"] == 0);
  for (const auto& check : report["checks"]) {
    CHECK(check["inputs"] == "brutal");
    CHECK(check["passed"] == true);
    CHECK(check["outputs"].size() == 2);
    for (const auto& output : check["outputs"])
      CHECK(output["rms_ratio"].get<double>() <= output["tolerance"].get<double>());
  }
}

TEST_CASE("verify exits with 11 and names the tensors when a kernel is wrong") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  write_template(folder.path(), "device/math.cuh", "sigmoid(float x) { return ", "sigmoid(float x) { return 1.5f * ");
  const Words words = with(with({"verify"}, kProblem), {"--inputs", "typical", "--templates", folder.path().string()});
  const Ran wrong = tool(words);
  INFO(wrong.out << wrong.error);
  CHECK(wrong.exit_code == 11);
  CHECK(contains(wrong.out, "fail"));
  CHECK(contains(wrong.out, "0 of 1 check of 1 problem passed"));
  const auto report = tool(with(words, {"--json"})).json();
  CHECK(report["failed"] == 1);
  CHECK(report["checks"][0]["passed"] == false);
  // The wrong binary has a key of its own: the right templates are not served by it.
  CHECK(tool(with(with({"verify"}, kProblem), {"--inputs", "typical"})).exit_code == 0);
}

TEST_CASE("a kernel that does not compile is a code 5, and explain shows the compiler's log") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  write_template(folder.path(), "device/math.cuh", "#pragma once", "#pragma once\n#error broken on purpose");
  const Words templates{"--templates", folder.path().string()};
  const Ran compiled = tool(with(with({"compile"}, kProblem), templates));
  CHECK(compiled.exit_code == 5);
  CHECK(contains(compiled.out, "compile_failed"));
  CHECK(contains(compiled.error, "broken on purpose"));
  const Ran explained = tool(with(with({"explain"}, kProblem), templates));
  CHECK(explained.exit_code == 5);
  CHECK(contains(explained.out, "refused by nvrtc"));
  CHECK(contains(explained.out, "broken on purpose"));
  CHECK(tool(with(with({"verify"}, kProblem), templates)).exit_code == 5);
  const auto failed = tool({"list", "--failed", "--json"}).json();
  CHECK(failed["binaries"].size() == 1);
  CHECK(contains(failed["binaries"][0]["log"].get<std::string>(), "broken on purpose"));
  CHECK(tool({"prune", "--failures", "--json"}).json()["rows"] == 1);
  CHECK(tool({"list", "--failed", "--json"}).json()["binaries"].empty());
}

TEST_CASE("explain shows signature, key, tiles, ptxas figures and counters") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Ran text = tool(with({"explain"}, kProblem));
  INFO(text.out << text.error);
  REQUIRE(text.exit_code == 0);
  for (const char* expected :
       {"signature", "key", "registers", "sectors of 32 bytes", "gdn/step.cuh", "no tuning record"}) {
    CHECK(contains(text.out, expected));
  }
  const auto report = tool(with(with({"explain"}, kProblem), {"--json"})).json();
  REQUIRE(report.is_object());
  const auto& problem = report["problems"][0];
  CHECK(problem["tiles_from"] == "heuristic");
  REQUIRE(problem["kernels"].size() == 1);
  const auto& kernel = problem["kernels"][0];
  CHECK(kernel["key"].get<std::string>().size() == 32);
  CHECK(kernel["binary"]["registers"].get<int>() > 0);
  CHECK(kernel["binary"]["spill_store_bytes"] == 0);
  CHECK(contains(kernel["source"].get<std::string>(), "#include"));
  const auto& counters = kernel["counters"];
  const auto& least = problem["least"];
  CHECK(counters["sectors_read"].get<double>() * 32 >= least["bytes_read"].get<double>());
  CHECK(counters["sectors_written"].get<double>() * 32 >= least["bytes_written"].get<double>());
  CHECK(counters["sectors_written"].get<double>() * 32 <= 1.05 * least["bytes_written"].get<double>());
  CHECK(problem["counters_note"] == "counted on the emulator of sm_90a");
  const auto uncounted = tool(with(with({"explain"}, kProblem), {"--json", "--counters-mb", "0"})).json();
  CHECK_FALSE(uncounted["problems"][0]["kernels"][0].contains("counters"));
}

TEST_CASE("compile fills the cache for architectures that are not here, once") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words words = with(with({"compile"}, kProblem), {"--arch", "sm_80,sm_100,sm120", "--json"});
  const auto first = tool(words).json();
  REQUIRE(first.is_object());
  CHECK(first["compiled"] == 3);
  std::set<std::string> archs;
  for (const auto& kernel : first["kernels"]) archs.insert(kernel["binary"]["arch"].get<std::string>());
  CHECK(archs == std::set<std::string>{"sm_80", "sm_100", "sm_120"});
  const auto second = tool(words).json();
  CHECK(second["compiled"] == 0);
  CHECK(second["cached"] == 3);
  // What was compiled serves a machine that may not compile.
  const Ran strict = tool(with(with({"explain"}, kProblem), {"--arch", "sm_80", "--policy", "strict"}));
  CHECK(strict.exit_code == 0);
}

TEST_CASE("a strict miss is noted, and compiling from the note mends it") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words strict = with(with({"explain"}, kProblem), {"--policy", "strict"});
  const Ran miss = tool(strict);
  CHECK(miss.exit_code == 9);
  CHECK(contains(miss.error, "misses.jsonl"));
  const std::string misses = (tool.cache() / "misses.jsonl").string();
  const Ran compiled = tool({"compile", "--from-misses", misses});
  INFO(compiled.out << compiled.error);
  REQUIRE(compiled.exit_code == 0);
  CHECK(contains(compiled.out, "1 kernel compiled"));
  CHECK(tool(strict).exit_code == 0);
}

TEST_CASE("a model's expert layer is verified in the format and the split asked for") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const Words layer{"--op",     "moe.forward", "--model", "qwen3.5-35b-a3b", "--tp", "8", "--weights",
                    "int4:128", "--batch",     "1,4",     "--set",           "E=16"};
  const Ran verified = tool(with(with({"verify"}, layer), {"--inputs", "typical", "--json"}));
  INFO(verified.out << verified.error);
  REQUIRE(verified.exit_code == 0);
  const auto report = verified.json();
  CHECK(report["passed"] == 2);
  CHECK(report["checks"][1]["problem"]["M"] == "4");
  CHECK(report["checks"][1]["problem"]["I"] == "64");
  CHECK(report["checks"][1]["problem"]["shared_size"] == "64");
  CHECK(report["checks"][1]["problem"]["weights"] == "int4");
  const Ran refused = tool({"verify", "--op", "moe.forward", "--model", "gemma4-26b", "--tp", "16"});
  CHECK(refused.exit_code == 2);
  CHECK(contains(refused.error, "model gemma4-26b with tp=16: I=44: must be a multiple of 8"));
}

TEST_CASE("models can come from a user's file") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const std::string file = (folder / "mine.json").string();
  std::ofstream(file) << R"({"models": [{"name": "mine", "base": "qwen3.5-27b", "tp": [1, 16]}]})";
  const auto models = tool({"models", "--models", file, "--model", "mine", "--json"}).json();
  REQUIRE(models.is_object());
  CHECK(models["models"][0]["operators"]["gdn.step"]["fields"]["HV"] == "48");
  const Ran verified = tool({"verify", "--models", file, "--model", "mine", "--tp", "16", "--inputs", "typical"});
  INFO(verified.out << verified.error);
  CHECK(verified.exit_code == 0);
  CHECK(contains(verified.out, "H=1 HV=3"));
}

}  // namespace gdnjit::tool

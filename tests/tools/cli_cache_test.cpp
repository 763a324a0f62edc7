// Looking after caches, end to end.
#include <doctest/doctest.h>

#include <fstream>

#include "tests/tools/messages.h"
#include "tests/tools/tool_process.h"

namespace gdnjit::tool {
namespace {

const Words kSmall{"--problem", "gdn.step H=2 HV=4 K=64 V=64"};

Words with(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// A copy, in `folder`, of a cache with one tuned problem. It is tuned once for all tests.
Tool tuned_cache(const std::filesystem::path& folder) {
  static const TemporaryFolder original;
  static const Ran ran = Tool(original / "cache")(with({"tune"}, kSmall));
  INFO(ran.out << ran.error);
  REQUIRE(ran.exit_code == 0);
  std::filesystem::copy(original / "cache", folder, std::filesystem::copy_options::recursive);
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all);
  std::filesystem::permissions(folder / "kernels.db",
                               std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  return Tool(folder);
}

}  // namespace

TEST_CASE("list, stats, prune and check agree about a cache") {
  const TemporaryFolder folder;
  const Tool tool = tuned_cache(folder / "cache");
  const auto list = tool({"list", "--json"}).json();
  const auto stats = tool({"stats", "--json"}).json();
  REQUIRE(list.is_object());
  REQUIRE(stats.is_object());
  const std::size_t binaries = list["binaries"].size();
  CHECK(binaries > 1);
  CHECK(stats["files"][0]["binaries"] == binaries);
  CHECK(stats["files"][0]["tuning_rows"] == list["tuning"].size());
  CHECK(tool({"list", "--tuning", "--chosen", "--json"}).json()["tuning"].size() == 1);
  CHECK(tool({"list", "--arch", "sm_80", "--json"}).json()["binaries"].empty());
  CHECK(contains(tool({"list"}).out, "gdn.step"));
  CHECK(contains(tool({"check"}).out, "sound"));

  CHECK(tool({"prune", "--keep-mb", "0", "--dry-run", "--json"}).json()["rows"] == binaries);
  CHECK(tool({"list", "--json"}).json()["binaries"].size() == binaries);
  CHECK(tool({"prune", "--keep-mb", "0", "--json"}).json()["rows"] == binaries);
  CHECK(tool({"list", "--json"}).json()["binaries"].empty());
  // Tuning records survive, and the winner is compiled again from them.
  const auto again = tool(with(with({"explain"}, kSmall), {"--json"})).json();
  CHECK(again["problems"][0]["tiles_from"] == "exact");
  CHECK(again["problems"][0]["kernels"][0]["compiled"] == true);
}

TEST_CASE("binaries of this machine's toolchain stay when others are pruned") {
  const TemporaryFolder folder;
  const Tool tool = tuned_cache(folder / "cache");
  CHECK(tool({"prune", "--other-toolchains", "--json"}).json()["rows"] == 0);
  CHECK(tool({"prune", "--keep-toolchain", "nvrtc 1.0.0", "--dry-run", "--json"}).json()["rows"].get<int>() > 1);
  CHECK(tool({"prune"}).exit_code == 2);
}

TEST_CASE("a merged cache holds the same as its source") {
  const TemporaryFolder folder;
  const Tool tool = tuned_cache(folder / "cache");
  const std::string merged = (folder / "merged.db").string();
  const Ran ran = tool({"merge", "--into", merged, tool.cache_file().string()});
  INFO(ran.out << ran.error);
  REQUIRE(ran.exit_code == 0);
  const Ran same = tool({"diff", tool.cache_file().string(), merged, "--json"});
  CHECK(same.exit_code == 0);
  CHECK(same.json()["differences"].empty());
  CHECK(tool({"merge", "--into", merged, tool.cache_file().string(), "--json"}).json()["rows"] == 0);
}

TEST_CASE("exported tuning records come back by import, without binaries") {
  const TemporaryFolder folder;
  const Tool tool = tuned_cache(folder / "cache");
  const std::string text = (folder / "tuning.jsonl").string();
  REQUIRE(tool({"export", text}).exit_code == 0);
  const Tool other(folder / "other");
  const Ran imported = other({"import", text, "--json"});
  INFO(imported.out << imported.error);
  REQUIRE(imported.exit_code == 0);
  CHECK(imported.json()["rows"].get<int>() > 1);
  CHECK(other({"list", "--tuning", "--json"}).json()["tuning"] ==
        tool({"list", "--tuning", "--json"}).json()["tuning"]);
  const auto differences = tool({"diff", tool.cache_file().string(), other.cache_file().string(), "--json"}).json();
  REQUIRE(differences.is_object());
  CHECK_FALSE(differences["differences"].empty());
  for (const auto& difference : differences["differences"]) CHECK(difference["what"] == "binary");
  CHECK(other(with(with({"explain"}, kSmall), {"--json"})).json()["problems"][0]["tiles_from"] == "exact");
}

TEST_CASE("an exported layer serves a machine that may not compile") {
  const TemporaryFolder folder;
  const Tool tool = tuned_cache(folder / "cache");
  const std::string layer = (folder / "layer.db").string();
  const auto exported = tool({"export", "--as-layer", layer, "--json"}).json();
  REQUIRE(exported.is_object());
  CHECK(exported["sha256"].get<std::string>().size() == 64);
  const Tool other(folder / "other");
  const Words strict = with(with({"explain"}, kSmall), {"--policy", "strict", "--json"});
  CHECK(other(strict).exit_code == 9);
  const Ran served = other(with(strict, {"--layer", layer}));
  INFO(served.out << served.error);
  REQUIRE(served.exit_code == 0);
  CHECK(served.json()["problems"][0]["tiles_from"] == "exact");
  const auto stats = other({"stats", "--layer", layer, "--json"}).json();
  CHECK(stats["files"][1]["binaries"] == tool({"stats", "--json"}).json()["files"][0]["binaries"]);
}

TEST_CASE("check finds a damaged file and says that nothing is lost") {
  const TemporaryFolder folder;
  const std::string file = (folder / "kernels.db").string();
  std::ofstream(file) << std::string(8192, 'x');
  const Tool tool(folder / "cache");
  const Ran checked = tool({"check", file});
  CHECK(checked.exit_code == 10);
  CHECK(contains(checked.out, "damaged"));
  CHECK(contains(checked.out, "made again"));
}

TEST_CASE("a cache that nobody has used yet is empty, but a file named by the user must exist") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  CHECK(contains(tool({"list"}).out, "does not exist yet"));
  CHECK(contains(tool({"stats"}).out, "not there"));
  CHECK(tool({"prune", "--failures", "--json"}).json()["rows"] == 0);
  CHECK(tool({"check"}).exit_code == 0);
  CHECK_FALSE(std::filesystem::exists(tool.cache_file()));
  for (const char* command : {"list", "stats"}) CHECK(tool({command, "--file", "/nowhere/kernels.db"}).exit_code == 10);
  CHECK(tool({"check", "/nowhere/kernels.db"}).exit_code == 10);
  CHECK(tool({"diff", "/nowhere/a.db", "/nowhere/b.db"}).exit_code == 10);
  CHECK(tool({"export", (folder / "x.jsonl").string()}).exit_code == 10);
  CHECK(tool({"import", "/nowhere/x.jsonl"}).exit_code == 10);
}

}  // namespace gdnjit::tool

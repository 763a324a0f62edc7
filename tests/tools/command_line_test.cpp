#include <doctest/doctest.h>
#include <fmt/format.h>

#include "tests/tools/messages.h"
#include "tools/gdn-tune/command_line.h"

namespace gdnjit::tool {
namespace {

// Remembers what the last parsed command was given.
struct Given {
  std::vector<std::string> words;
  std::vector<std::string> sets;
  std::filesystem::path file;
  int count = 3;
  bool force = false;
} given;

class EchoCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    given = {};
    arguments.group("Echo");
    arguments.list("words", given.words, "WORD,..", "Words to say");
    arguments.repeated("set", given.sets, "NAME=VALUE", "Values to set");
    arguments.option("file", given.file, "FILE", "A file");
    arguments.option("count", given.count, 1, "How often");
    arguments.flag("force,f", given.force, "Say it anyway");
  }
  Result run(Console&) override { return {}; }
};

class FilesCommand : public Command {
 public:
  void declare(Arguments& arguments) override { arguments.positional("FILE", files_, 2, 2, "Two files"); }
  Result run(Console&) override { return {.exit_code = static_cast<int>(files_.size())}; }

 private:
  std::vector<std::filesystem::path> files_;
};

constexpr CommandEntry kEntries[] = {
    {"echo", CommandGroup::kernels, "Say words", "gdn-tune echo --words a,b",
     []() -> std::unique_ptr<Command> { return std::make_unique<EchoCommand>(); }},
    {"files", CommandGroup::cache, "Take files", "",
     []() -> std::unique_ptr<Command> { return std::make_unique<FilesCommand>(); }},
    {"secret", CommandGroup::hidden, "Not for people", "",
     []() -> std::unique_ptr<Command> { return std::make_unique<EchoCommand>(); }},
};

ParsedCommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "gdn-tune");
  return parse_command_line(static_cast<int>(words.size()), words.data(), kEntries);
}

std::string error_of(const std::vector<const char*>& words) {
  return message_of([&] { parse(words); });
}

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("lists take commas and repetition, and leave the next word alone") {
  const ParsedCommandLine parsed = parse({"echo", "--words", "a,b", "--words", "c", "--set", "x=1,2", "--json"});
  REQUIRE(parsed.entry != nullptr);
  CHECK(parsed.entry->name == "echo");
  CHECK(parsed.json);
  CHECK(given.words == Texts{"a", "b", "c"});
  CHECK(given.sets == Texts{"x=1,2"});
  CHECK(given.count == 3);
  CHECK(contains(error_of({"echo", "--words", "a", "b"}), "b"));
}

TEST_CASE("flags, short names, files and numbers arrive") {
  const ParsedCommandLine parsed = parse({"echo", "-f", "--file=/tmp/x y", "--count", "7", "-q", "--no-color"});
  CHECK(given.force);
  CHECK(given.file == "/tmp/x y");
  CHECK(given.count == 7);
  CHECK(parsed.quiet);
  CHECK(parsed.no_color);
  CHECK_FALSE(parsed.json);
}

TEST_CASE("numbers outside their range and words that are no numbers are refused") {
  CHECK(contains(error_of({"echo", "--count", "0"}), "count"));
  CHECK(contains(error_of({"echo", "--count", "many"}), "count"));
  CHECK(code_of([] { parse({"echo", "--count", "0"}); }) == ErrorCode::invalid_argument);
}

TEST_CASE("positional files are counted") {
  CHECK(parse({"files", "a", "b"}).entry->name == "files");
  CHECK(contains(error_of({"files", "a"}), "FILE"));
  CHECK(contains(error_of({"files"}), "FILE"));
}

TEST_CASE("unknown commands and options get the nearest name") {
  CHECK(contains(error_of({"ecko"}), "unknown command 'ecko' (did you mean 'echo'?)"));
  CHECK(contains(error_of({"echo", "--wrods", "a"}), "unknown option '--wrods' (did you mean '--words'?)"));
  CHECK(contains(error_of({"echo", "--sett=a"}), "unknown option '--sett' (did you mean '--set'?)"));
  CHECK(contains(error_of({"echo", "--quite-something"}), "'gdn-tune echo --help' lists the options"));
  CHECK(contains(error_of({"zzzzzzzzzzzz"}), "known: echo, files"));
}

TEST_CASE("help lists commands by group, hides hidden ones, and documents exit codes") {
  for (const std::vector<const char*>& words : {std::vector<const char*>{}, {"--help"}, {"-h"}}) {
    const ParsedCommandLine parsed = parse(words);
    CHECK(parsed.entry == nullptr);
    CHECK(contains(parsed.text, "Usage: gdn-tune COMMAND"));
    CHECK(contains(parsed.text, "echo"));
    CHECK(contains(parsed.text, "Take files"));
    CHECK_FALSE(contains(parsed.text, "secret"));
    CHECK(contains(parsed.text, " 11  outputs differ from the reference"));
    CHECK(contains(parsed.text, "130  stopped by Ctrl-C"));
  }
}

TEST_CASE("a command's help has its options and examples") {
  const std::string text = parse({"echo", "--help"}).text;
  CHECK(contains(text, "Usage: gdn-tune echo [OPTIONS]"));
  CHECK(contains(text, "--words WORD,.."));
  CHECK(contains(text, "Examples:\n  gdn-tune echo --words a,b\n"));
  CHECK(contains(parse({"files", "--help"}).text, "Usage: gdn-tune files FILE... [OPTIONS]"));
  CHECK_FALSE(contains(parse({"files", "--help"}).text, "Examples"));
}

TEST_CASE("the version is printed") { CHECK(contains(parse({"--version"}).text, "gdn-tune 0.")); }

TEST_CASE("every error code has a name") {
  CHECK(error_code_name(ErrorCode::ok) == "ok");
  CHECK(error_code_name(ErrorCode::device_unavailable) == "device_unavailable");
  CHECK(error_code_name(ErrorCode::internal) == "internal");
}

TEST_CASE("the table has every command once, with a summary and, if it is shown, examples of itself") {
  std::vector<std::string> names;
  for (const CommandEntry& entry : command_table()) {
    CHECK(std::find(names.begin(), names.end(), entry.name) == names.end());
    names.emplace_back(entry.name);
    CHECK_FALSE(entry.summary.empty());
    if (entry.group != CommandGroup::hidden) CHECK(contains(entry.examples, fmt::format("gdn-tune {}", entry.name)));
  }
  CHECK(names.size() == 17);
}

}  // namespace gdnjit::tool

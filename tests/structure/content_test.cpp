// What a file may hold: device code, the environment, macros, names of machines; and how long it may be.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "runtime/support/text.h"
#include "tests/structure/source_tree.h"

namespace gdnjit::structure {
namespace {

constexpr std::size_t kLongFile = 400;
constexpr std::size_t kLongestFile = 600;
constexpr std::size_t kMostMacros = 5;

bool is_source(const SourceFile& file) { return has_extension(file, ".h .cpp .c .cuh .cu"); }

// Reports each line of code that holds one of `words`.
Violations lines_with(const SourceFile& file, const std::vector<std::string>& words, std::string_view rule) {
  Violations violations;
  for (std::size_t index = 0; index < file.lines.size(); ++index) {
    for (const std::string& word : words) {
      if (code_of(file.lines[index]).find(word) != std::string_view::npos)
        violations.push_back(fmt::format("{}:{}: {}: {}", file.path, index + 1, word, rule));
    }
  }
  return violations;
}

// A generated translation unit ends in one entry function of a few lines, whose text one file of codegen/ writes; all
// else that runs on a device is in templates/. Tests may bring kernels of their own.
Violations misplaced_device_code(const SourceFile& file) {
  if (!is_source(file) || is_below(file, "templates/") || is_below(file, "tests/")) return {};
  if (has_extension(file, ".cu .cuh")) return {fmt::format("{}: device code belongs in templates/", file.path)};
  std::vector<std::string> words{"__shared__", "threadIdx", "blockIdx", "__syncthreads();", "asm volatile", "asm(\""};
  if (file.path != "codegen/kernel_text.cpp") words.insert(words.end(), {"__global__", "__launch_bounds__"});
  return lines_with(file, words, "device code belongs in templates/");
}

TEST_CASE("device code is in templates and nowhere else") { CHECK(violations_in_project(misplaced_device_code) == ""); }

TEST_CASE("device code in another room is found") {
  CHECK(misplaced_device_code(file_of("codegen/gdn/x.cpp", "int i = threadIdx.x;\n")).size() == 1);
  CHECK(misplaced_device_code(file_of("runtime/x.cpp", "const char* s = \"__global__ void f() {}\";\n")).size() == 1);
  CHECK(misplaced_device_code(file_of("codegen/gdn/x.cpp", "const char* s = \"__global__ void f() {}\";\n")).size() ==
        1);
  CHECK(misplaced_device_code(file_of("runtime/x.cuh", "\n")).size() == 1);
  CHECK(misplaced_device_code(file_of("templates/gdn/x.cuh", "int i = threadIdx.x;\n")).empty());
  CHECK(misplaced_device_code(file_of("runtime/x.cpp", "// threadIdx is what the register holds\n")).empty());
}

// NO_COLOR and TERM describe a terminal, which only the tool has; every other variable is an option of a Runtime.
Violations misplaced_environment(const SourceFile& file) {
  if (!is_source(file) || is_below(file, "tests/")) return {};
  if (file.path == "runtime/options.cpp" || file.path == "tools/gdn-tune/terminal.cpp") return {};
  return lines_with(file, {"getenv("}, "the environment is read in runtime/options.cpp");
}

TEST_CASE("the environment is read in one place") { CHECK(violations_in_project(misplaced_environment) == ""); }

TEST_CASE("a second reader of the environment is found") {
  CHECK(misplaced_environment(file_of("cache/x.cpp", "auto* home = std::getenv(\"HOME\");\n")).size() == 1);
}

// Macros that outlive the files that define them. Device code may use some to write out an instruction's many forms, if
// it undefines them again.
std::set<std::string> macros_of(const std::vector<SourceFile>& files) {
  constexpr std::string_view kDefine = "#define ";
  constexpr std::string_view kUndef = "#undef ";
  std::set<std::string> macros;
  std::set<std::string> undefined;
  for (const SourceFile& file : files) {
    if (!is_source(file)) continue;
    for (const std::string& line : file.lines) {
      const std::string_view word = line.starts_with(kDefine) ? kDefine : line.starts_with(kUndef) ? kUndef : "";
      if (word.empty() || line.substr(word.size()).find("GDNJIT_") != 0) continue;
      const std::string name = line.substr(word.size(), line.find_first_of(" (", word.size()) - word.size());
      (word == kUndef ? undefined : macros).insert(name);
    }
  }
  for (const std::string& name : undefined) macros.erase(name);
  return macros;
}

TEST_CASE("the project defines at most five macros") {
  const std::set<std::string> macros = macros_of(project_files());
  INFO(fmt::format("{}", fmt::join(macros, " ")));
  CHECK(macros.size() <= kMostMacros);
  CHECK(macros.count("GDNJIT_CHECK") == 1);
}

Violations too_long(const SourceFile& file) {
  if (!is_source(file) || file.lines.size() <= kLongestFile) return {};
  return {fmt::format("{}: {} lines, {} is the most", file.path, file.lines.size(), kLongestFile)};
}

TEST_CASE("no source file is longer than 600 lines") {
  CHECK(violations_in_project(too_long) == "");
  CHECK(too_long(file_of("cache/x.cpp", std::string(kLongestFile + 1, '\n'))).size() == 1);
  CHECK(too_long(file_of("cache/x.cpp", std::string(kLongestFile, '\n'))).empty());
}

TEST_CASE("at most one source file in ten is longer than 400 lines") {
  std::size_t sources = 0;
  std::vector<std::string> longer;
  for (const SourceFile& file : project_files()) {
    if (!is_source(file)) continue;
    ++sources;
    if (file.lines.size() > kLongFile) longer.push_back(fmt::format("{} ({})", file.path, file.lines.size()));
  }
  INFO(join(longer, "\n"));
  CHECK(sources > 50);
  CHECK(longer.size() * 10 <= sources);
}

// Names of one machine or of somebody's server. Written in pieces, so that this file does not name them either.
Violations foreign_names(const SourceFile& file) {
  const auto made = [](std::string_view a, std::string_view b) { return fmt::format("{}{}", a, b); };
  const std::vector<std::string> names{
      made("/ro", "ot/"),       made("/wo", "rk/"),         made("/home", "/"),      made("py", "pi.org"),
      made("python", "hosted"), made("deb.de", "bian.org"), made("archive.", "ubu"), made("developer.downl", "oad")};
  Violations violations;
  for (std::size_t index = 0; index < file.lines.size(); ++index) {
    for (const std::string& name : names) {
      if (file.lines[index].find(name) != std::string::npos)
        violations.push_back(fmt::format("{}:{}: {}", file.path, index + 1, name));
    }
  }
  return violations;
}

TEST_CASE("no file names a machine's folders or a registry's host") {
  CHECK(violations_in_project(foreign_names) == "");
  CHECK(foreign_names(file_of("docs/x.md", std::string("see /ro") + "ot/notes\n")).size() == 1);
}

Violations unfinished(const SourceFile& file) {
  if (!is_source(file)) return {};
  const std::vector<std::string> words{std::string("TO") + "DO", std::string("FIX") + "ME",
                                       std::string("Being ") + "written."};
  Violations violations;
  for (std::size_t index = 0; index < file.lines.size(); ++index) {
    for (const std::string& word : words) {
      if (file.lines[index].find(word) != std::string::npos)
        violations.push_back(fmt::format("{}:{}: {}", file.path, index + 1, word));
    }
  }
  return violations;
}

TEST_CASE("nothing is left for later") { CHECK(violations_in_project(unfinished) == ""); }

}  // namespace
}  // namespace gdnjit::structure

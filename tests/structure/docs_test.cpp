// What the documents say about the code is true: paths exist, functions exist, the example is the one that compiles.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <string>

#include "runtime/support/text.h"
#include "tests/structure/source_tree.h"

namespace gdnjit::structure {
namespace {

const SourceFile& find_file(const std::vector<SourceFile>& files, std::string_view path) {
  const auto found = std::find_if(files.begin(), files.end(), [&](const auto& file) { return file.path == path; });
  REQUIRE_MESSAGE(found != files.end(), fmt::format("{} is missing", path));
  return *found;
}

// Calls visit(line number, text) for every `span` in backquotes; fenced blocks have none.
template <typename Visit>
void for_each_span(const SourceFile& file, Visit&& visit) {
  static const std::regex kSpan("`([^`]+)`");
  for (std::size_t index = 0; index < file.lines.size(); ++index) {
    const std::string& line = file.lines[index];
    for (std::sregex_iterator match(line.begin(), line.end(), kSpan), end; match != end; ++match)
      visit(index + 1, (*match)[1].str());
  }
}

bool exists_from_a_root(const std::string& path) {
  constexpr const char* kRoots[] = {"", "templates/", "runtime/include/"};
  return std::any_of(std::begin(kRoots), std::end(kRoots),
                     [&](const char* root) { return std::filesystem::exists(root + path); });
}

// A span is taken for a path if it is one word that holds a '/' and ends like a source file or a folder of ours.
Violations missing_paths(const SourceFile& file) {
  Violations violations;
  if (!has_extension(file, ".md")) return violations;
  static const std::regex kPath(R"([\w.-]+(/[\w.-]+)*/([\w.-]+\.(h|cpp|c|cuh|md|sh|cmake|json|txt))?)");
  for_each_span(file, [&](std::size_t line, const std::string& span) {
    if (!std::regex_match(span, kPath) || span.starts_with("build/")) return;
    const std::string beside = (std::filesystem::path(file.path).parent_path() / span).generic_string();
    if (!exists_from_a_root(span) && !std::filesystem::exists(beside))
      violations.push_back(fmt::format("{}:{}: {} does not exist", file.path, line, span));
  });
  return violations;
}

TEST_CASE("every path that a document names exists") {
  CHECK(violations_in_project(missing_paths) == "");
  CHECK(missing_paths(file_of("docs/x.md", "see `codegen/gone.cpp` and `codegen/fields.h`\n")).size() == 1);
  CHECK(missing_paths(file_of("docs/x.md", "see `gone/`\n")).size() == 1);
}

std::string all_code(const std::vector<SourceFile>& files) {
  std::string code;
  for (const SourceFile& file : files) {
    if (!has_extension(file, ".h .cpp .c .cuh .sh .cmake") && !file.path.ends_with("CMakeLists.txt")) continue;
    for (const std::string& line : file.lines) code += line + '\n';
  }
  return code;
}

// A span like `make_plan()` or `Operator::tensors()` names a function.
Violations missing_functions(const SourceFile& file, const std::string& code) {
  Violations violations;
  if (!has_extension(file, ".md")) return violations;
  static const std::regex kFunction(R"((?:\w+::)*(\w+)\(\))");
  for_each_span(file, [&](std::size_t line, const std::string& span) {
    std::smatch match;
    if (!std::regex_match(span, match, kFunction)) return;
    if (code.find(match[1].str() + "(") == std::string::npos)
      violations.push_back(fmt::format("{}:{}: there is no function {}", file.path, line, span));
  });
  return violations;
}

TEST_CASE("every function that a document names exists") {
  const std::vector<SourceFile> files = project_files();
  const std::string code = all_code(files);
  Violations all;
  for (const SourceFile& file : files) {
    const Violations found = missing_functions(file, code);
    all.insert(all.end(), found.begin(), found.end());
  }
  CHECK(join(all, "\n") == "");
  const std::string unknown = std::string("`no_such") + "_function()`";
  CHECK(missing_functions(file_of("docs/x.md", unknown), code).size() == 1);
}

TEST_CASE("the README's example is the program in examples/readme") {
  const std::vector<SourceFile> files = project_files();
  const std::vector<std::string>& readme = find_file(files, "README.md").lines;
  const auto begin = std::find(readme.begin(), readme.end(), "```cpp");
  REQUIRE(begin != readme.end());
  const auto end = std::find(begin, readme.end(), "```");
  const std::vector<std::string> block(begin + 1, end);
  CHECK(join(block, "\n") == join(find_file(files, "examples/readme/readme.cpp").lines, "\n"));
}

TEST_CASE("every room has a README") {
  const std::vector<SourceFile> files = project_files();
  std::vector<std::string> missing;
  for (const char* room : {"autotune", "cache", "codegen", "runtime", "runtime/cuda", "runtime/emulator", "templates",
                           "tests", "tests/reference", "tools", "tools/bench"}) {
    const std::string path = fmt::format("{}/README.md", room);
    const bool found = std::any_of(files.begin(), files.end(),
                                   [&](const SourceFile& file) { return file.path == path && file.lines.size() >= 5; });
    if (!found) missing.push_back(path);
  }
  CHECK(join(missing, " ") == "");
}

}  // namespace
}  // namespace gdnjit::structure

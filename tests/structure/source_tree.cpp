#include "tests/structure/source_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit::structure {
namespace {

namespace fs = std::filesystem;

bool is_text(const fs::path& path) {
  constexpr std::array<std::string_view, 11> kExtensions{".h",  ".cpp",   ".c",  ".cuh", ".cu",  ".cmake",
                                                         ".md", ".jsonl", ".sh", ".txt", ".json"};
  return std::find(kExtensions.begin(), kExtensions.end(), path.extension().string()) != kExtensions.end();
}

bool is_skipped(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name == "build" || name == "__pycache__" || (name.starts_with('.') && name != ".ci");
}

std::string read(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  require(stream.good(), "reading {}: cannot open it", path.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace

std::vector<SourceFile> project_files() {
  GDNJIT_CHECK(fs::exists("CMakePresets.json"), "run this test through ctest, from the project's folder");
  std::vector<SourceFile> files;
  for (fs::recursive_directory_iterator entry("."), end; entry != end; ++entry) {
    if (entry->is_directory() && is_skipped(entry->path())) {
      entry.disable_recursion_pending();
    } else if (entry->is_regular_file() && is_text(entry->path())) {
      files.push_back(file_of(entry->path().lexically_normal().generic_string(), read(entry->path())));
    }
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return files;
}

SourceFile file_of(std::string path, std::string_view text) {
  SourceFile file{.path = std::move(path), .lines = split(text, '\n')};
  if (!file.lines.empty() && file.lines.back().empty()) file.lines.pop_back();
  return file;
}

bool has_extension(const SourceFile& file, std::string_view extensions) {
  const std::vector<std::string> wanted = split(extensions, ' ');
  return std::find(wanted.begin(), wanted.end(), fs::path(file.path).extension().string()) != wanted.end();
}

bool is_below(const SourceFile& file, std::string_view folder) { return file.path.starts_with(folder); }

std::string_view code_of(std::string_view line) {
  bool quoted = false;
  for (std::size_t at = 0; at < line.size(); ++at) {
    if (line[at] == '\\') {
      ++at;
    } else if (line[at] == '"') {
      quoted = !quoted;
    } else if (!quoted && line.substr(at, 2) == "//") {
      return line.substr(0, at);
    }
  }
  return line;
}

std::string violations_in_project(Violations (*rule)(const SourceFile&)) {
  Violations all;
  for (const SourceFile& file : project_files()) {
    const Violations found = rule(file);
    all.insert(all.end(), found.begin(), found.end());
  }
  return join(all, "\n");
}

}  // namespace gdnjit::structure

#include "codegen/templates.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>

#include "codegen/embedded_templates.h"
#include "runtime/support/check.h"

namespace gdnjit {
namespace {

// The names in `#include "x"` and `#include <x>` lines.
std::vector<std::string_view> included_names(std::string_view text) {
  std::vector<std::string_view> names;
  for (std::size_t at = text.find("#include"); at != std::string_view::npos; at = text.find("#include", at + 1)) {
    const std::size_t open = text.find_first_of("\"<\n", at);
    if (open == std::string_view::npos || text[open] == '\n') continue;
    const std::size_t close = text.find_first_of("\">\n", open + 1);
    if (close == std::string_view::npos || text[close] == '\n') continue;
    names.push_back(text.substr(open + 1, close - open - 1));
  }
  return names;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  if (!stream) fail(ErrorCode::io, "reading template {}: cannot be read", path.string());
  return text;
}

}  // namespace

TemplateSet::TemplateSet(std::vector<TemplateFile> files) : files_(std::move(files)) {
  std::sort(files_.begin(), files_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
}

const TemplateSet& TemplateSet::embedded() {
  static const TemplateSet set = [] {
    std::vector<TemplateFile> files;
    for (const EmbeddedTemplate& file : embedded_templates())
      files.push_back({std::string(file.name), std::string(file.text)});
    return TemplateSet(std::move(files));
  }();
  return set;
}

TemplateSet TemplateSet::with_overrides(const std::filesystem::path& directory) {
  if (!std::filesystem::is_directory(directory)) {
    fail(ErrorCode::io,
         "reading templates from {}: not a directory; set GDNJIT_TEMPLATES to a folder laid out like templates/",
         directory.string());
  }
  std::vector<TemplateFile> files = embedded().files();
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory)) {
    const auto extension = entry.path().extension();
    if (!entry.is_regular_file() || (extension != ".cuh" && extension != ".h")) continue;
    TemplateFile file{entry.path().lexically_relative(directory).generic_string(), read_file(entry.path())};
    const auto same =
        std::find_if(files.begin(), files.end(), [&](const auto& other) { return other.name == file.name; });
    if (same == files.end()) {
      files.push_back(std::move(file));
    } else {
      *same = std::move(file);
    }
  }
  return TemplateSet(std::move(files));
}

const TemplateFile* TemplateSet::find(std::string_view name) const {
  const auto found =
      std::lower_bound(files_.begin(), files_.end(), name,
                       [](const TemplateFile& file, std::string_view wanted) { return file.name < wanted; });
  return found != files_.end() && found->name == name ? &*found : nullptr;
}

std::vector<const TemplateFile*> TemplateSet::closure(std::string_view source) const {
  const auto by_name = [](const TemplateFile* a, const TemplateFile* b) { return a->name < b->name; };
  std::set<const TemplateFile*, decltype(by_name)> reached(by_name);
  std::vector<std::string_view> pending{source};
  while (!pending.empty()) {
    const std::string_view text = pending.back();
    pending.pop_back();
    for (std::string_view name : included_names(text)) {
      const TemplateFile* file = find(name);
      require(file != nullptr, "template '{}': included but not among the templates", name);
      if (reached.insert(file).second) pending.push_back(file->text);
    }
  }
  return {reached.begin(), reached.end()};
}

}  // namespace gdnjit

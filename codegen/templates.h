// The kernel templates as text: embedded in the library, or read from a directory by kernel developers.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace gdnjit {

struct TemplateFile {
  std::string name;  // as an #include names it: "gdn/step.cuh", "gdnjit/dtype.h"
  std::string text;
};

class TemplateSet {
 public:
  // The files embedded at build time.
  static const TemplateSet& embedded();
  // Every .cuh and .h below `directory` replaces or extends the embedded files. Throws Error(io) if unreadable.
  static TemplateSet with_overrides(const std::filesystem::path& directory);

  const std::vector<TemplateFile>& files() const { return files_; }  // sorted by name
  const TemplateFile* find(std::string_view name) const;
  // The files that `source` includes, directly or not, sorted by name. Throws invalid_argument for one that is
  // not in the set: kernels include templates and nothing else.
  std::vector<const TemplateFile*> closure(std::string_view source) const;

 private:
  explicit TemplateSet(std::vector<TemplateFile> files);
  std::vector<TemplateFile> files_;
};

}  // namespace gdnjit

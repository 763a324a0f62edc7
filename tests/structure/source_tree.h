// The project's own files as text, for tests of the rules that no compiler checks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gdnjit::structure {

struct SourceFile {
  std::string path;  // relative to the project's folder, with '/'
  std::vector<std::string> lines;
};

// Every text file of the project, sorted by path; not build folders and what starts with a dot.
// REQUIRES: the working directory is the project's folder (CTest sees to it).
std::vector<SourceFile> project_files();

// A file made up by a test.
SourceFile file_of(std::string path, std::string_view text);

bool has_extension(const SourceFile& file, std::string_view extensions);  // ".h .cpp"
bool is_below(const SourceFile& file, std::string_view folder);           // "templates/"

// The line without its // comment and with the contents of string literals kept.
std::string_view code_of(std::string_view line);

// One line per broken rule: "path:line: what is wrong".
using Violations = std::vector<std::string>;

// All violations of a rule over the project, joined by newlines: "" is the only right answer.
std::string violations_in_project(Violations (*rule)(const SourceFile&));

}  // namespace gdnjit::structure

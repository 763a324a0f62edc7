// Which room may include which: tools -> autotune -> runtime -> {codegen, cache} -> runtime/support.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "runtime/support/text.h"
#include "tests/structure/source_tree.h"

namespace gdnjit::structure {
namespace {

// What the files below `folder` may include of the project, by the beginning of its path. The first entry that fits
// a file counts, so a folder stands before the one that holds it.
struct Arrow {
  std::string_view folder;
  std::string_view may_include;  // separated by spaces; "*" is everything
};

constexpr std::string_view kPublic = "runtime/include/";

constexpr Arrow kArrows[] = {
    {"runtime/include/", ""},
    {"runtime/support/", "runtime/support/"},
    // Device code sees itself and the headers that have no includes.
    {"templates/",
     "templates/ runtime/include/gdnjit/dtype.h runtime/include/gdnjit/gdn_options.h "
     "runtime/include/gdnjit/moe_options.h"},
    {"codegen/", "codegen/ templates/ runtime/support/"},
    {"cache/", "cache/ runtime/support/"},
    // The two devices know the interface that they implement and nothing of each other.
    {"runtime/cuda/", "runtime/cuda/ runtime/device.h runtime/counters.h runtime/support/ codegen/"},
    {"runtime/emulator/", "runtime/emulator/ runtime/device.h runtime/counters.h runtime/support/ codegen/"},
    {"runtime/", "runtime/ codegen/ cache/"},
    {"tests/reference/", "tests/reference/ codegen/ runtime/support/"},
    {"autotune/", "autotune/ runtime/ codegen/ cache/ tests/reference/"},
    {"tools/record-vectors/", "runtime/ codegen/ tests/vectors/"},
    {"tools/", "tools/ autotune/ runtime/ codegen/ cache/ tests/reference/"},
    {"examples/", "examples/ tests/reference/ codegen/"},
    {"tests/", "*"},
};

struct Include {
  std::size_t line = 0;
  std::string name;
  bool quoted = false;
};

std::vector<Include> includes_of(const SourceFile& file) {
  std::vector<Include> includes;
  for (std::size_t index = 0; index < file.lines.size(); ++index) {
    const std::string_view line = file.lines[index];
    if (!line.starts_with("#include")) continue;
    const std::size_t begin = line.find_first_of("\"<");
    if (begin == std::string_view::npos) continue;
    const std::size_t end = line.find_first_of("\">", begin + 1);
    includes.push_back({index + 1, std::string(line.substr(begin + 1, end - begin - 1)), line[begin] == '"'});
  }
  return includes;
}

// The project's file that an #include names, or nothing for a system header. The build makes x.h from x.h.in.
std::optional<std::string> resolve(const Include& include) {
  for (const std::string_view root : {"", "templates/", "runtime/include/"}) {
    const std::string path = fmt::format("{}{}", root, include.name);
    if (std::filesystem::exists(path) || std::filesystem::exists(path + ".in")) return path;
  }
  return std::nullopt;
}

bool allowed(const Arrow& arrow, std::string_view included) {
  if (arrow.may_include == "*") return true;
  if (included.starts_with(kPublic) && arrow.folder != "templates/") return true;
  const std::vector<std::string> prefixes = split(arrow.may_include, ' ');
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return !prefix.empty() && included.starts_with(prefix); });
}

Violations wrong_includes(const SourceFile& file) {
  Violations violations;
  const auto arrow = std::find_if(std::begin(kArrows), std::end(kArrows),
                                  [&](const Arrow& candidate) { return is_below(file, candidate.folder); });
  if (arrow == std::end(kArrows) || !has_extension(file, ".h .cpp .c .cuh")) return violations;
  for (const Include& include : includes_of(file)) {
    const std::optional<std::string> path = resolve(include);
    const auto report = [&](std::string_view what) {
      violations.push_back(fmt::format("{}:{}: {} {}", file.path, include.line, include.name, what));
    };
    if (!path.has_value()) {
      if (include.quoted) report("is not a file of the project, counted from its top folder");
      if (arrow->folder == "templates/") report("is a system header: templates compile with nothing but themselves");
    } else if (include.quoted == path->starts_with(kPublic)) {
      report("must be written <gdnjit/x.h> if it is a public header, \"room/x.h\" if not");
    } else if (!allowed(*arrow, *path)) {
      report(fmt::format("goes against the arrows: {} may include {}", arrow->folder, arrow->may_include));
    }
  }
  return violations;
}

TEST_CASE("includes follow the arrows between the rooms") { CHECK(violations_in_project(wrong_includes) == ""); }

TEST_CASE("an include against the arrows is found") {
  CHECK(wrong_includes(file_of("cache/x.cpp", "#include \"codegen/fields.h\"\n")).size() == 1);
  CHECK(wrong_includes(file_of("codegen/x.cpp", "#include \"runtime/device.h\"\n")).size() == 1);
  CHECK(wrong_includes(file_of("runtime/emulator/x.h", "#include \"cache/record.h\"\n")).size() == 1);
  CHECK(wrong_includes(file_of("runtime/include/gdnjit/x.h", "#include \"codegen/fields.h\"\n")).size() == 1);
  CHECK(wrong_includes(file_of("runtime/x.cpp", "#include \"autotune/tuner.h\"\n")).size() == 1);
  CHECK(wrong_includes(file_of("runtime/x.cpp", "#include \"codegen/fields.h\"\n")).empty());
}

TEST_CASE("a system or CUDA header in a template is found") {
  CHECK(wrong_includes(file_of("templates/gdn/x.cuh", "#include <cuda_bf16.h>\n")).size() == 1);
  CHECK(wrong_includes(file_of("templates/gdn/x.cuh", "#include <gdnjit/tensor.h>\n")).size() == 1);
  CHECK(wrong_includes(file_of("templates/gdn/x.cuh", "#include <gdnjit/dtype.h>\n")).empty());
}

TEST_CASE("an include that is not written from the top folder is found") {
  CHECK(wrong_includes(file_of("codegen/x.cpp", "#include \"fields.h\"\n")).size() == 1);
  CHECK(wrong_includes(file_of("codegen/x.cpp", "#include \"gdnjit/error.h\"\n")).size() == 1);
}

}  // namespace
}  // namespace gdnjit::structure

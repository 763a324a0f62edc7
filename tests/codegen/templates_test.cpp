#include "codegen/templates.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/codegen/nvrtc_fixture.h"
#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

std::vector<std::string> names_of(const std::vector<const TemplateFile*>& files) {
  std::vector<std::string> names;
  for (const TemplateFile* file : files) names.push_back(file->name);
  return names;
}

using Names = std::vector<std::string>;

TEST_CASE("the public headers that kernels share travel in the library") {
  const TemplateSet& templates = TemplateSet::embedded();
  REQUIRE(templates.find("gdnjit/dtype.h") != nullptr);
  CHECK(templates.find("gdnjit/dtype.h")->text.find("enum class DType") != std::string::npos);
  CHECK(templates.find("gdnjit/gdn_options.h") != nullptr);
  CHECK(templates.find("gdnjit/no_such.h") == nullptr);
  CHECK(templates.find("") == nullptr);
}

TEST_CASE("the closure holds what a source includes, directly or not, sorted and once") {
  const TemplateSet templates = templates_with({{"t/a.cuh", "#include \"t/c.cuh\"\n#include <t/b.cuh>\n"},
                                                {"t/b.cuh", "#pragma once\n#include \"t/c.cuh\"\n"},
                                                {"t/c.cuh", "int c;\n"},
                                                {"t/unused.cuh", "#include \"t/a.cuh\"\n"}});
  CHECK(names_of(templates.closure("#include \"t/a.cuh\"\n")) == Names{"t/a.cuh", "t/b.cuh", "t/c.cuh"});
  CHECK(names_of(templates.closure("  #include <t/c.cuh>\nint x;\n#include \"t/b.cuh\"")) ==
        Names{"t/b.cuh", "t/c.cuh"});
  CHECK(templates.closure("int nothing;\n").empty());
}

TEST_CASE("templates that include each other do not run in circles") {
  const TemplateSet templates =
      templates_with({{"t/a.cuh", "#include \"t/b.cuh\"\n"}, {"t/b.cuh", "#include \"t/a.cuh\"\n"}});
  CHECK(names_of(templates.closure("#include \"t/a.cuh\"\n")) == Names{"t/a.cuh", "t/b.cuh"});
}

TEST_CASE("an include that is not a template is refused by its name, at any depth") {
  const TemplateSet templates = templates_with({{"t/a.cuh", "#include <cuda_fp16.h>\n"}});
  for (const char* source : {"#include <cuda_fp16.h>\n", "#include \"t/a.cuh\"\n"}) {
    const Error error = error_of([&] { templates.closure(source); });
    CHECK(error.code() == ErrorCode::invalid_argument);
    CHECK(says(error, "'cuda_fp16.h'"));
  }
}

TEST_CASE("an override replaces the embedded file of its name and adds new ones") {
  const TemplateSet templates =
      templates_with({{"gdnjit/dtype.h", "changed\n"}, {"t/new.cuh", "new\n"}, {"t/note.txt", ""}});
  CHECK(templates.find("gdnjit/dtype.h")->text == "changed\n");
  CHECK(templates.find("t/new.cuh")->text == "new\n");
  CHECK(templates.find("t/note.txt") == nullptr);
  CHECK(templates.files().size() == TemplateSet::embedded().files().size() + 1);
}

TEST_CASE("a folder of templates that is not there is an error that names it") {
  const Error error = error_of([] { TemplateSet::with_overrides("no/such/folder"); });
  CHECK(error.code() == ErrorCode::io);
  CHECK(says(error, "no/such/folder"));
}

}  // namespace
}  // namespace gdnjit

#include "cache/opened_file.h"

#include <cerrno>
#include <cstring>

#include "cache/permissions.h"
#include "cache/schema.h"
#include "runtime/support/check.h"

namespace gdnjit::cache {
namespace {

constexpr int kBusyTimeout_ms = 10'000;

const std::filesystem::path& made_if_asked(const std::filesystem::path& file, OpenedFile::For purpose) {
  const std::filesystem::path folder = file.parent_path();
  if (purpose == OpenedFile::For::writing_or_making &&
      ((!folder.empty() && !make_private_directory(folder)) || !make_private_file(file))) {
    fail(ErrorCode::io, "cannot make the kernel cache '{}': {}", file.string(), std::strerror(errno));
  }
  const Inspection found = inspect_file(file);
  if (found.error != 0) fail(ErrorCode::io, "cannot open '{}': {}", file.string(), std::strerror(found.error));
  if (purpose != OpenedFile::For::reading && !found.trouble.empty()) fail(ErrorCode::io, "{}", found.trouble);
  return file;
}

}  // namespace

OpenedFile::OpenedFile(const std::filesystem::path& file, For purpose)
    : file_(made_if_asked(file, purpose)),
      database_(file_, purpose == For::reading ? OpenMode::read_only : OpenMode::read_write, kBusyTimeout_ms),
      store_(database_) {
  const SchemaState state = prepare_schema(database_, purpose != For::reading);
  const std::string name = file.string();
  switch (state) {
    case SchemaState::ready: break;
    case SchemaState::empty: fail(ErrorCode::io, "'{}' is empty", name);
    case SchemaState::older:
      fail(ErrorCode::io, "'{}' was written by an older gdnjit; use it as a cache once to bring it up to date", name);
    case SchemaState::newer: fail(ErrorCode::io, "'{}' was written by a newer gdnjit; update to read it", name);
    case SchemaState::foreign: fail(ErrorCode::io, "'{}' is not a kernel cache but another program's database", name);
    case SchemaState::failed: fail(ErrorCode::io, "cannot read '{}' as a kernel cache: {}", name, database_.text());
  }
  if (purpose != For::reading && !database_.writable()) fail(ErrorCode::io, "'{}' cannot be written to", name);
}

void OpenedFile::check(std::string_view doing) {
  if (!database_.ok()) fail(ErrorCode::io, "{} '{}' failed: {}", doing, file_.string(), database_.text());
}

}  // namespace gdnjit::cache

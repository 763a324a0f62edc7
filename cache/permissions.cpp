#include "cache/permissions.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace gdnjit::cache {
namespace {

Inspection inspect(const std::filesystem::path& path, bool directory) {
  Inspection result;
  const int descriptor = ::open(path.c_str(), O_PATH | O_CLOEXEC);
  struct stat status {};
  if (descriptor < 0 || ::fstat(descriptor, &status) != 0) {
    result.error = errno;
    if (descriptor >= 0) ::close(descriptor);
    return result;
  }
  ::close(descriptor);
  result.id = {status.st_dev, status.st_ino};
  const char* kind = directory ? "folder" : "file";
  const std::string name = path.string();
  if (directory ? !S_ISDIR(status.st_mode) : !S_ISREG(status.st_mode)) {
    result.trouble = fmt::format("'{}' is not a {}; move it away or name another place", name, kind);
  } else if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    result.trouble = fmt::format("the {} '{}' belongs to user {}, who could plant kernels in it; use a {} of your own",
                                 kind, name, status.st_uid, kind);
  } else if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    result.trouble = fmt::format("others may write to the {0} '{1}' (mode {2:04o}); chmod go-w '{1}'", kind, name,
                                 status.st_mode & 07777);
  }
  return result;
}

}  // namespace

Inspection inspect_directory(const std::filesystem::path& directory) { return inspect(directory, true); }

Inspection inspect_file(const std::filesystem::path& file) { return inspect(file, false); }

bool make_private_directory(const std::filesystem::path& directory) {
  if (directory.empty()) {
    errno = ENOENT;
    return false;
  }
  if (::mkdir(directory.c_str(), 0700) == 0) return true;
  if (errno == EEXIST) return true;
  const std::filesystem::path parent = directory.parent_path();
  if (errno != ENOENT || parent.empty() || parent == directory) return false;
  if (!make_private_directory(parent)) return false;
  return ::mkdir(directory.c_str(), 0700) == 0 || errno == EEXIST;
}

bool make_private_file(const std::filesystem::path& file) {
  return ::mknod(file.c_str(), S_IFREG | 0600, 0) == 0 || errno == EEXIST;
}

}  // namespace gdnjit::cache

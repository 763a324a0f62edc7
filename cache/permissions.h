// Who may write to a cache may run code on our GPU, so we load only from files and folders of our own or of root
// that nobody else can write to, and create them private: folders 0700, files 0600.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

namespace gdnjit::cache {

struct FileId {
  dev_t device = 0;
  ino_t inode = 0;
  friend bool operator==(const FileId&, const FileId&) = default;
};

struct Inspection {
  int error = 0;        // errno of opening it; ENOENT: not there
  std::string trouble;  // why it must not be used and what to do; "" if it may
  FileId id;

  bool usable() const { return error == 0 && trouble.empty(); }
};

// Looked at through one descriptor. The descriptor is O_PATH: closing another kind would drop the locks that SQLite
// holds on the same file in this process.
Inspection inspect_directory(const std::filesystem::path& directory);
Inspection inspect_file(const std::filesystem::path& file);  // a symbolic link is followed

// Makes the folder and its missing parents, 0700. False: errno says why. True if it was there.
bool make_private_directory(const std::filesystem::path& directory);
// Makes an empty file, 0600, without opening it. True if it was there.
bool make_private_file(const std::filesystem::path& file);

}  // namespace gdnjit::cache

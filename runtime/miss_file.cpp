#include "runtime/miss_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <exception>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>

namespace gdnjit {
namespace {

class File {
 public:
  explicit File(const std::filesystem::path& path)
      : descriptor_(open(path.c_str(), O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 65536> chunk;
  off_t offset = 0;
  ssize_t count = 0;
  while ((count = pread(descriptor, chunk.data(), chunk.size(), offset)) > 0) {
    text.append(chunk.data(), static_cast<std::size_t>(count));
    offset += count;
  }
  return text;
}

bool has_line(std::string_view text, std::string_view line) {
  for (std::size_t at = text.find(line); at != std::string_view::npos; at = text.find(line, at + 1)) {
    const std::size_t end = at + line.size();
    if ((at == 0 || text[at - 1] == '\n') && (end == text.size() || text[end] == '\n')) return true;
  }
  return false;
}

std::string json_line(const Miss& miss) {
  const nlohmann::ordered_json object{
      {"operator", miss.operator_name}, {"problem", miss.problem}, {"signature", miss.signature}, {"arch", miss.arch}};
  return object.dump();
}

std::string append(const std::filesystem::path& path, const Miss& miss) {
  std::error_code ignored;
  std::filesystem::create_directories(path.parent_path(), ignored);
  const File file(path);
  if (!file.is_open()) return fmt::format("{}: {}", path.string(), std::strerror(errno));
  flock(file.descriptor(), LOCK_EX);  // released by close; without it (some network folders) a duplicate may slip in
  const std::string line = json_line(miss);
  const std::string present = read_all(file.descriptor());
  if (has_line(present, line)) return "";
  // A line that a dying process left unfinished must not swallow this one.
  const std::string text = (present.empty() || present.back() == '\n' ? "" : "\n") + line + "\n";
  const ssize_t written = write(file.descriptor(), text.data(), text.size());
  if (written != static_cast<ssize_t>(text.size())) return fmt::format("{}: {}", path.string(), std::strerror(errno));
  return "";
}

}  // namespace

std::string append_miss(const std::filesystem::path& file, const Miss& miss) noexcept {
  try {
    return append(file, miss);
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace gdnjit

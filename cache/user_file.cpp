#include "cache/user_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <thread>

#include "cache/permissions.h"
#include "cache/schema.h"
#include "runtime/support/log.h"

namespace gdnjit::cache {
namespace {

// After a lock that outlasted the busy timeout, so that a stuck holder costs one wait and not one for each kernel.
constexpr auto kBackOff = std::chrono::seconds(20);
constexpr std::size_t kFilesKeptAside = 3;

// Files set aside for `file`, the oldest first: their names end in the time.
std::vector<std::filesystem::path> files_aside(const std::filesystem::path& file) {
  std::vector<std::filesystem::path> found;
  const std::string prefix = file.filename().string() + ".corrupt-";
  std::error_code error;
  for (std::filesystem::directory_iterator it(file.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && !name.ends_with("-journal")) found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::filesystem::path name_aside(const std::filesystem::path& file) {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char stamp[32];
  std::strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &utc);
  const std::string base = file.string() + ".corrupt-" + stamp;
  std::filesystem::path name = base;
  std::error_code error;
  for (int i = 2; std::filesystem::exists(name, error); ++i) name = fmt::format("{}-{}", base, i);
  return name;
}

// So that the cache stays where it is when the process changes its working folder. "" stays "".
std::filesystem::path absolute_path(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path absolute = path.empty() ? path : std::filesystem::absolute(path, error);
  return absolute.empty() ? path : absolute;
}

// One process at a time sets a file aside, so that nobody moves the fresh file of another.
class HealLock {
 public:
  explicit HealLock(const std::filesystem::path& directory) {
    descriptor_ = ::open((directory / "heal.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    for (int i = 0; i < 200 && descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  ~HealLock() {
    if (descriptor_ < 0) return;
    ::flock(descriptor_, LOCK_UN);
    ::close(descriptor_);
  }
  HealLock(const HealLock&) = delete;
  HealLock& operator=(const HealLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace

UserFile::UserFile(const std::filesystem::path& directory, int busy_timeout_ms)
    : directory_(absolute_path(directory)),
      file_(directory_.empty() ? std::filesystem::path() : directory_ / kFileName),
      busy_timeout_ms_(busy_timeout_ms),
      given_up_(directory_.empty()) {}

UserFile::~UserFile() { close(); }

void UserFile::close() {
  if (!open_) return;
  damaged_ += open_->store->damaged();
  if (opened_by_ != ::getpid()) open_->database.abandon();
  open_.reset();
}

void UserFile::reopen_in_child() { close(); }

bool UserFile::give_up(std::string why) {
  close();
  given_up_ = true;
  trouble_ = std::move(why);
  warnings_.emplace_back("cache:" + file_.string(),
                         fmt::format("compiled kernels are kept in memory only: {}", trouble_));
  return false;
}

void UserFile::back_off(std::string why) {
  locked_ = true;
  not_before_ = std::chrono::steady_clock::now() + kBackOff;
  trouble_ = std::move(why);
  warnings_.emplace_back("cache-busy:" + file_.string(), trouble_);
}

bool UserFile::open() {
  if (open_ && opened_by_ != ::getpid()) close();
  if (given_up_ || std::chrono::steady_clock::now() < not_before_) return false;
  if (open_) return true;
  bool healed = false;
  if (open_once(healed)) return true;
  return healed && open_once(healed);
}

// `healed`: the file was set aside and opening is worth another try.
bool UserFile::open_once(bool& healed) {
  healed = false;
  if (!make_private_directory(directory_)) {
    return give_up(fmt::format("cannot make the folder '{}': {}; set GDNJIT_CACHE_DIR to a folder of your own",
                               directory_.string(), std::strerror(errno)));
  }
  const Inspection folder = inspect_directory(directory_);
  if (!folder.trouble.empty()) return give_up(folder.trouble);
  if (!make_private_file(file_)) {
    return give_up(fmt::format("cannot make '{}': {}; set GDNJIT_CACHE_DIR to a folder you can write to",
                               file_.string(), std::strerror(errno)));
  }
  const Inspection before = inspect_file(file_);
  if (!before.trouble.empty()) return give_up(before.trouble);
  if (before.error != 0)
    return give_up(fmt::format("cannot open '{}': {}", file_.string(), std::strerror(before.error)));

  open_ = std::make_unique<Open>(file_, busy_timeout_ms_);
  opened_by_ = ::getpid();
  Database& database = open_->database;
  const SchemaState state = prepare_schema(database, database.writable());
  // SQLite opens by name. What it has open is what we inspected, if the name still leads to both.
  if (database.ok() && (!database.in_place() || inspect_file(file_).id != before.id)) {
    close();
    healed = true;
    return false;
  }
  switch (state) {
    case SchemaState::ready: return true;
    case SchemaState::newer:
      return give_up(
          fmt::format("'{}' was written by a newer gdnjit; update, or name another folder in "
                      "GDNJIT_CACHE_DIR",
                      file_.string()));
    case SchemaState::foreign: healed = set_aside("it is not a kernel cache"); return false;
    case SchemaState::empty:
    case SchemaState::older: return give_up(fmt::format("'{}' cannot be written to", file_.string()));
    case SchemaState::failed: break;
  }
  const std::string text = database.text();
  switch (database.trouble()) {
    case Trouble::corrupt:
    case Trouble::mismatch: healed = set_aside(text); return false;
    case Trouble::moved: healed = true; break;
    case Trouble::locked:
      back_off(
          fmt::format("'{}' is locked by another process; kernels are compiled without it meanwhile", file_.string()));
      break;
    default: return give_up(fmt::format("cannot use '{}': {}", file_.string(), text));
  }
  close();
  return false;
}

// After a failure of the work: true if it should be run again.
bool UserFile::recover(int attempt) {
  Database& database = open_->database;
  const std::string text = database.text();
  const Trouble what = database.trouble();
  database.clear();
  switch (what) {
    case Trouble::corrupt: return set_aside(text);
    case Trouble::mismatch:
      // Another version may have migrated the file under us: opening anew tells. If it did not, the tables are broken.
      if (attempt > 0) return set_aside(text);
      close();
      return true;
    case Trouble::moved: close(); return true;
    case Trouble::locked:
      back_off(
          fmt::format("'{}' is locked by another process; kernels are compiled without it meanwhile", file_.string()));
      return false;
    default:
      if (!database.in_place()) {
        close();
        return true;
      }
      trouble_ = fmt::format("cannot write to '{}': {}", file_.string(), text);
      warnings_.emplace_back("cache-write:" + file_.string(), trouble_ + "; new kernels are kept in memory only");
      return false;
  }
}

// Moves the open file out of the way. True if the way is free now.
bool UserFile::set_aside(const std::string& why) {
  const HealLock lock(directory_);
  const bool still_here = !open_ || open_->database.in_place();
  close();
  if (!still_here) return true;  // another process was faster
  const std::filesystem::path aside = name_aside(file_);
  const std::string journal = file_.string() + "-journal";
  ::rename(journal.c_str(), (aside.string() + "-journal").c_str());
  if (::rename(file_.c_str(), aside.c_str()) != 0 && errno != ENOENT) {
    return give_up(
        fmt::format("'{}' is unusable ({}) and cannot be moved away: {}", file_.string(), why, std::strerror(errno)));
  }
  ++damaged_;
  warnings_.emplace_back(
      "cache-corrupt:" + file_.string(),
      fmt::format("the kernel cache was unusable ({}) and is rebuilt; the old file is '{}'", why, aside.string()));
  const std::vector<std::filesystem::path> old = files_aside(file_);
  for (std::size_t i = 0; i + kFilesKeptAside < old.size(); ++i) {
    ::unlink(old[i].c_str());
    ::unlink((old[i].string() + "-journal").c_str());
  }
  return true;
}

bool UserFile::shared() {
  bool usable = false;
  {
    std::lock_guard lock(mutex_);
    usable = open() && open_->database.writable();
    if (usable) usable = make_private_directory(locks());
  }
  give_warnings();
  return usable;
}

std::string UserFile::trouble() const {
  std::lock_guard lock(mutex_);
  return trouble_;
}

std::int64_t UserFile::damaged() const {
  std::lock_guard lock(mutex_);
  return damaged_ + (open_ ? open_->store->damaged() : 0);
}

void UserFile::give_warnings() {
  std::vector<std::pair<std::string, std::string>> warnings;
  {
    std::lock_guard lock(mutex_);
    warnings.swap(warnings_);
  }
  for (const auto& [topic, message] : warnings) warn_once(topic, message);
}

}  // namespace gdnjit::cache

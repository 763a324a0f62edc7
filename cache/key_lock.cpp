#include "cache/key_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/support/text.h"

namespace gdnjit::cache {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kFirstPause = std::chrono::milliseconds(1);
constexpr auto kLongestPause = std::chrono::milliseconds(16);
constexpr int kRoundsPerOwnerCheck = 8;

// In clock ticks since boot: with the pid, it names one process for the whole boot. "" if there is no such process.
std::string start_time(const std::string& pid) {
  std::ifstream file("/proc/" + pid + "/stat");
  std::string text;
  std::getline(file, text);
  const std::size_t name_end = text.rfind(')');  // the name in parentheses may hold spaces
  if (name_end == std::string::npos) return "";
  const std::vector<std::string> fields = split(std::string_view(text).substr(name_end + 1), ' ');
  return fields.size() > 20 ? fields[20] : "";  // field 22 of proc(5)
}

// Where pids mean what they mean to us.
const std::string& place() {
  static const std::string text = [] {
    std::array<char, 64> name_space{};
    if (::readlink("/proc/self/ns/pid", name_space.data(), name_space.size() - 1) < 0) name_space[0] = '?';
    std::array<char, 256> host{};
    ::gethostname(host.data(), host.size() - 1);
    std::string boot;
    std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
    return fmt::format("{} {} {}", name_space.data(), boot, host.data());
  }();
  return text;
}

bool same_file(int descriptor, const std::filesystem::path& path) {
  struct stat open {
  }, named{};
  return ::fstat(descriptor, &open) == 0 && ::stat(path.c_str(), &named) == 0 && open.st_dev == named.st_dev &&
         open.st_ino == named.st_ino;
}

std::string read_owner(int descriptor) {
  std::array<char, 512> text{};
  const ssize_t size = ::pread(descriptor, text.data(), text.size() - 1, 0);
  return size > 0 ? std::string(text.data(), static_cast<std::size_t>(size)) : std::string();
}

// Held for microseconds by whoever judges or replaces the name of a dead owner. Bounded, so that a stopped process
// cannot stop others: without the guard the worst case is a second compile of one key.
class TakeoverGuard {
 public:
  explicit TakeoverGuard(const std::filesystem::path& locks) {
    descriptor_ = ::open((locks / "takeover.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    for (int i = 0; i < 100 && descriptor_ >= 0 && ::flock(descriptor_, LOCK_EX | LOCK_NB) != 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  ~TakeoverGuard() {
    if (descriptor_ < 0) return;
    ::flock(descriptor_, LOCK_UN);
    ::close(descriptor_);
  }
  TakeoverGuard(const TakeoverGuard&) = delete;
  TakeoverGuard& operator=(const TakeoverGuard&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace

std::string owner_text() {
  const std::string pid = std::to_string(::getpid());
  return fmt::format("{} {} {}", pid, start_time(pid), place());
}

bool owner_is_dead(const std::string& owner) {
  const std::size_t pid_end = owner.find(' ');
  const std::size_t start_end = pid_end == std::string::npos ? pid_end : owner.find(' ', pid_end + 1);
  if (start_end == std::string::npos || owner.substr(start_end + 1) != place()) return false;
  const std::string pid = owner.substr(0, pid_end);
  const std::string start = owner.substr(pid_end + 1, start_end - pid_end - 1);
  const long number = std::strtol(pid.c_str(), nullptr, 10);
  if (number <= 0) return false;
  if (::kill(static_cast<pid_t>(number), 0) != 0 && errno == ESRCH) return true;
  const std::string now = start_time(pid);
  return !now.empty() && !start.empty() && now != start;
}

KeyLock::KeyLock(const std::filesystem::path& locks, const Digest& key, int timeout_ms)
    : file_(locks / (key.hex() + ".lock")), owner_pid_(::getpid()) {
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  Clock::duration pause = kFirstPause;
  for (int round = 1; !held_; ++round) {
    const Attempt result = attempt();
    held_ = result == Attempt::got_it;
    if (held_) return;
    waited_ = waited_ || result == Attempt::busy;
    const bool over = result == Attempt::finished || result == Attempt::impossible || Clock::now() >= deadline;
    if (over) break;
    if (result == Attempt::again) continue;
    std::this_thread::sleep_for(std::min<Clock::duration>(pause, deadline - Clock::now()));
    pause = std::min<Clock::duration>(pause * 2, kLongestPause);
    if (round % kRoundsPerOwnerCheck == 0) take_over_if_abandoned();
  }
  close();
}

KeyLock::Attempt KeyLock::attempt() {
  // Kept open while waiting: only the old file tells how its owner ended.
  if (descriptor_ < 0) descriptor_ = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (descriptor_ < 0) return Attempt::impossible;
  const bool locked = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  if (!locked && errno == EINTR) return Attempt::again;
  if (!locked && errno != EWOULDBLOCK) return Attempt::impossible;
  if (same_file(descriptor_, file_)) return locked ? sign() : Attempt::busy;
  const bool finished = read_owner(descriptor_).empty();
  close();
  return finished ? Attempt::finished : Attempt::again;
}

// Puts our name into the file that we have locked.
KeyLock::Attempt KeyLock::sign() {
  // A name in it is that of an owner who died, and somebody may be about to remove the file for that reason.
  std::optional<TakeoverGuard> guard;
  if (!read_owner(descriptor_).empty()) guard.emplace(file_.parent_path());
  const std::string owner = owner_text();
  // If this cannot be written the lock still holds, except that nobody recognises our death behind a living child.
  const bool written = ::ftruncate(descriptor_, 0) == 0 && ::pwrite(descriptor_, owner.data(), owner.size(), 0) > 0;
  if (same_file(descriptor_, file_)) return Attempt::got_it;
  close();
  return written ? Attempt::again : Attempt::impossible;
}

// Of two waiters that find the owner dead, the second one looks again under the guard and sees the new file.
void KeyLock::take_over_if_abandoned() {
  if (descriptor_ < 0 || !owner_is_dead(read_owner(descriptor_))) return;
  const TakeoverGuard guard(file_.parent_path());
  if (same_file(descriptor_, file_) && owner_is_dead(read_owner(descriptor_))) ::unlink(file_.c_str());
}

void KeyLock::finish() {
  if (!held_ || owner_pid_ != ::getpid()) return;
  if (::ftruncate(descriptor_, 0) == 0) ::unlink(file_.c_str());
  held_ = false;
  close();
}

void KeyLock::close() {
  if (descriptor_ < 0) return;
  // Explicitly: a child forked meanwhile shares the lock, and closing alone would leave it locked. In that child the
  // lock is not ours to give up.
  if (owner_pid_ == ::getpid()) ::flock(descriptor_, LOCK_UN);
  ::close(descriptor_);
  descriptor_ = -1;
}

KeyLock::~KeyLock() {
  if (held_ && owner_pid_ == ::getpid()) ::unlink(file_.c_str());
  close();
}

}  // namespace gdnjit::cache

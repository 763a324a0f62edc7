// One compile of a key among processes: a lock file per key, held while compiling.
#pragma once

#include <filesystem>
#include <string>

#include "runtime/support/digest.h"

namespace gdnjit::cache {

// The lock is flock() on <locks>/<key>.lock, which the kernel drops when its owner dies; the file holds
//   owner := pid " " start time of pid " " pid namespace " " boot id " " host name
// so that a waiter also recognises an owner that died while a forked child keeps its descriptor open.
//
// How a lock file ends tells those who wait what to expect:
//   emptied, removed  the owner finished; its record is in the cache if it could be stored. Look there, and if it
//                     is not, compile without a lock: on a full disk the waiters must not queue up.
//   removed           the owner's compile threw, or its lock was taken over: queue up again
//   left in place     the owner died: the next one gets the lock
class KeyLock {
 public:
  // Waits up to `timeout_ms` for the present owner. Not held afterwards: the owner finished, the wait ran out, or
  // locking is impossible in that folder. Look into the cache again, then compile all the same.
  KeyLock(const std::filesystem::path& locks, const Digest& key, int timeout_ms);
  ~KeyLock();
  KeyLock(const KeyLock&) = delete;
  KeyLock& operator=(const KeyLock&) = delete;

  bool held() const { return held_; }
  // Another owner held it at some time during the wait.
  bool waited() const { return waited_; }
  // The work is done. Without it, the destructor lets the next one in line try.
  void finish();

 private:
  enum class Attempt { got_it, busy, again, finished, impossible };
  Attempt attempt();
  Attempt sign();
  void take_over_if_abandoned();
  void close();

  std::filesystem::path file_;
  int descriptor_ = -1;
  int owner_pid_ = 0;
  bool held_ = false;
  bool waited_ = false;
};

// "<pid> <start time> <pid namespace> <boot id> <host>" of this process.
std::string owner_text();
// True only if the owner certainly does not run any more: it lived in this boot and pid namespace of this host, and
// its pid is gone or now another process.
bool owner_is_dead(const std::string& owner);

}  // namespace gdnjit::cache

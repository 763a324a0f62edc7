// The user's cache file: opened when first needed, checked, healed, and done without when it cannot be had.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "cache/database.h"
#include "cache/store.h"

namespace gdnjit::cache {

inline constexpr const char* kFileName = "kernels.db";
inline constexpr const char* kLocksName = "locks";

// Thread-safe. Warnings are given once per topic, and after the lock is gone: a sink may call back into the cache.
class UserFile {
 public:
  // An empty directory: there is no file and nothing to warn about.
  UserFile(const std::filesystem::path& directory, int busy_timeout_ms);
  ~UserFile();
  UserFile(const UserFile&) = delete;
  UserFile& operator=(const UserFile&) = delete;

  // Runs work(Store&) on the open file. If the file turns out to be broken it is put right and the work is run
  // again, so the work starts from scratch each time. False: not done, in whole or in part.
  template <typename Work>
  bool use(const Work& work) {
    bool done = false;
    {
      std::lock_guard lock(mutex_);
      for (int attempt = 0; attempt < kAttempts && !done && open(); ++attempt) {
        work(*open_->store);
        done = open_->database.ok();
        if (!done && !recover(attempt)) break;
        if (done && locked_) trouble_.clear();
        if (done) locked_ = false;
      }
    }
    give_warnings();
    return done;
  }

  // True if other processes can see what is stored here, so that it is worth waiting for them.
  bool shared();
  std::filesystem::path file() const { return file_; }
  std::filesystem::path locks() const { return directory_ / kLocksName; }
  std::string trouble() const;
  std::int64_t damaged() const;  // files set aside and rows dropped

  std::mutex& mutex() const { return mutex_; }  // for fork
  void reopen_in_child();                       // the mutex is held

 private:
  // Reopen; set the file aside; work on a fresh one.
  static constexpr int kAttempts = 3;

  struct Open {
    Open(const std::filesystem::path& file, int busy_timeout_ms)
        : database(file, OpenMode::read_write, busy_timeout_ms), store(std::make_unique<Store>(database)) {}
    Database database;
    std::unique_ptr<Store> store;
  };

  bool open();
  bool open_once(bool& healed);
  bool recover(int attempt);
  bool set_aside(const std::string& why);
  bool give_up(std::string why);
  void back_off(std::string why);
  void close();
  void give_warnings();

  const std::filesystem::path directory_;
  const std::filesystem::path file_;
  const int busy_timeout_ms_;

  mutable std::mutex mutex_;
  std::unique_ptr<Open> open_;
  pid_t opened_by_ = 0;
  bool given_up_ = false;  // for the life of this object
  std::chrono::steady_clock::time_point not_before_{};
  bool locked_ = false;
  std::string trouble_;
  std::vector<std::pair<std::string, std::string>> warnings_;  // topic, message
  std::int64_t damaged_ = 0;
};

}  // namespace gdnjit::cache

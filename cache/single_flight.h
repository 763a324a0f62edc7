// One run of a function among all threads that ask for the same key at the same time.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "cache/record.h"

namespace gdnjit::cache {

// Thread-safe. No lock is held while the function runs, so it may ask for other keys.
class SingleFlight {
 public:
  using BinaryPtr = std::shared_ptr<const BinaryRecord>;

  // Runs `work`, or waits for the thread that runs it for this key and takes its result; `waited` says which. An
  // exception of `work` reaches every thread that waits, and the next call runs anew. A call with another signature
  // for a key in flight runs by itself.
  BinaryPtr run(const Digest& key, std::string_view signature, const std::function<BinaryPtr()>& work, bool& waited);

  std::mutex& mutex() { return mutex_; }  // for fork
  void forget_in_child();                 // the flights of threads that this process does not have

 private:
  struct Flight {
    std::string signature;
    std::mutex mutex;
    std::condition_variable landed;
    bool done = false;
    BinaryPtr result;
    std::exception_ptr error;
  };

  std::mutex mutex_;
  std::unordered_map<Digest, std::shared_ptr<Flight>, DigestHash> flights_;
};

}  // namespace gdnjit::cache

#include "cache/single_flight.h"

#include <vector>

namespace gdnjit::cache {

SingleFlight::BinaryPtr SingleFlight::run(const Digest& key, std::string_view signature,
                                          const std::function<BinaryPtr()>& work, bool& waited) {
  std::shared_ptr<Flight> flight;
  waited = false;
  {
    std::lock_guard lock(mutex_);
    const auto [found, added] = flights_.try_emplace(key);
    if (added) {
      found->second = std::make_shared<Flight>();
      found->second->signature = signature;
    }
    flight = found->second;
    waited = !added;
  }

  if (waited && flight->signature != signature) {
    waited = false;
    return work();
  }
  if (waited) {
    std::unique_lock lock(flight->mutex);
    flight->landed.wait(lock, [&] { return flight->done; });
    if (flight->error) std::rethrow_exception(flight->error);
    return flight->result;
  }

  BinaryPtr result;
  std::exception_ptr error;
  try {
    result = work();
  } catch (...) {
    error = std::current_exception();
  }
  {
    // Before the waiters wake: a call after this one starts a flight of its own.
    std::lock_guard lock(mutex_);
    const auto found = flights_.find(key);
    if (found != flights_.end() && found->second == flight) flights_.erase(found);
  }
  {
    std::lock_guard lock(flight->mutex);
    flight->result = result;
    flight->error = error;
    flight->done = true;
  }
  flight->landed.notify_all();
  if (error) std::rethrow_exception(error);
  return result;
}

void SingleFlight::forget_in_child() {
  // Kept alive for good: destroying a condition variable that threads of the parent waited on would hang.
  static auto* forgotten = new std::vector<std::shared_ptr<Flight>>;
  for (auto& [key, flight] : flights_) forgotten->push_back(flight);
  flights_.clear();
}

}  // namespace gdnjit::cache

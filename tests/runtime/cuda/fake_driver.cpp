#include "tests/runtime/cuda/fake_driver.h"

#include <cstring>
#include <utility>

namespace gdnjit::cuda {
namespace {

std::byte primary_context_bytes[1];
std::byte foreign_context_bytes[1];

}  // namespace

thread_local Context FakeDriver::current_ = nullptr;

FakeDriver& FakeDriver::instance() {
  static FakeDriver fake;
  return fake;
}

FakeDriver::FakeDriver() : table_(make_table()) { reset(); }

void FakeDriver::reset() {
  const std::lock_guard guard(mutex_);
  device_count = 1;
  driver_version = 13000;
  device_name = "NVIDIA H200";
  attributes = {{kMultiprocessorCount, 132},
                {kMemoryClockRate, 3201000},
                {kGlobalMemoryBusWidth, 6144},
                {kL2CacheSize, 62914560},
                {kMaxThreadsPerMultiprocessor, 2048},
                {kComputeCapabilityMajor, 9},
                {kComputeCapabilityMinor, 0},
                {kMaxSharedMemoryPerMultiprocessor, 233472},
                {kMaxRegistersPerMultiprocessor, 65536},
                {kMaxSharedMemoryPerBlockOptin, 232448},
                {kMaxBlocksPerMultiprocessor, 32}};
  missing_symbols.clear();
  parameter_start.reset();
  kernel_name = "fake_kernel";
  static_shared_bytes = 1024;
  max_dynamic_shared_bytes = 49152;
  failure_ = {};
  failed_ = false;
  sticky_ = kSuccess;
  calls_.clear();
  objects_.clear();
  capturing_.clear();
  pending_.clear();
  misuses_.clear();
  launches_.clear();
  tensor_maps_.clear();
  event_times_.clear();
  current_ = nullptr;
}

void FakeDriver::fail(const std::string& symbol, int nth, Result error, bool sticky) {
  const std::lock_guard guard(mutex_);
  failure_ = {symbol, nth, error, sticky};
  failed_ = false;
}

Result FakeDriver::enter(const char* symbol) {
  const std::lock_guard guard(mutex_);
  ++calls_[symbol];
  const bool about_errors = std::strncmp(symbol, "cuGetError", 10) == 0;
  if (sticky_ != kSuccess && !about_errors) return sticky_;
  if (failure_.symbol != symbol || failure_.remaining == 0 || --failure_.remaining > 0) return kSuccess;
  failed_ = true;
  if (failure_.sticky) sticky_ = failure_.error;
  return failure_.error;
}

Result FakeDriver::enter_in_context(const char* symbol) {
  const Result result = enter(symbol);
  if (result != kSuccess || current_ == primary_context()) return result;
  if (failed_) return kInvalidContext;  // the injected failure may be the reason
  return misuse(std::string(symbol) + ": the context is not current", kInvalidContext);
}

void FakeDriver::later(StreamHandle stream, std::function<void()> work) {
  const std::lock_guard guard(mutex_);
  pending_[stream].push_back(std::move(work));
}

void FakeDriver::run_pending(StreamHandle stream) {
  const std::lock_guard guard(mutex_);
  for (const auto& work : pending_[stream]) work();
  pending_.erase(stream);
}

Result FakeDriver::misuse(const std::string& what, Result result) {
  const std::lock_guard guard(mutex_);
  misuses_.push_back(what);
  return result;
}

const void* FakeDriver::make_object(const char* kind) {
  std::vector<std::byte> storage(1);
  const std::byte* const object = storage.data();
  objects_[kind].emplace(object, std::move(storage));
  return object;
}

bool FakeDriver::destroy(const char* kind, const void* object) { return objects_[kind].erase(object) == 1; }

bool FakeDriver::is_live(const char* kind, const void* object) const {
  const std::lock_guard guard(mutex_);
  const auto objects = objects_.find(kind);
  return objects != objects_.end() && objects->second.contains(object);
}

std::map<std::string, int> FakeDriver::calls() const {
  const std::lock_guard guard(mutex_);
  return calls_;
}

int FakeDriver::call_count() const {
  int total = 0;
  for (const auto& [symbol, count] : calls()) total += count;
  return total;
}

std::string FakeDriver::live_objects() const {
  const std::lock_guard guard(mutex_);
  std::string text;
  for (const auto& [kind, objects] : objects_) {
    if (!objects.empty()) text += (text.empty() ? "" : ", ") + std::to_string(objects.size()) + " " + kind;
  }
  return text;
}

std::vector<std::string> FakeDriver::misuses() const {
  const std::lock_guard guard(mutex_);
  std::vector<std::string> all = misuses_;
  if (!capturing_.empty()) all.push_back("a stream was left capturing");
  return all;
}

std::vector<FakeTensorMap> FakeDriver::tensor_maps() const {
  const std::lock_guard lock(mutex_);
  return tensor_maps_;
}

std::vector<FakeLaunch> FakeDriver::launches() const {
  const std::lock_guard guard(mutex_);
  return launches_;
}

Context FakeDriver::primary_context() { return reinterpret_cast<Context>(primary_context_bytes); }
Context FakeDriver::foreign_context() { return reinterpret_cast<Context>(foreign_context_bytes); }
void FakeDriver::set_current(Context context) { current_ = context; }
Context FakeDriver::current() { return current_; }

}  // namespace gdnjit::cuda

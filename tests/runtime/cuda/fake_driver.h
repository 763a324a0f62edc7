// A CUDA driver in memory: it keeps the books a real one keeps, and fails where a test says so. One per process, as the
// real one, because the table holds plain functions. Thread-safe. Device memory is host memory; copies happen when
// their stream is waited for; kernels do nothing.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/cuda/driver_api.h"

namespace gdnjit::cuda {

inline constexpr Result kUnknownError = 999;
inline constexpr Result kInvalidContext = 201;
inline constexpr Result kInvalidHandle = 400;

struct FakeLaunch {
  std::string kernel;
  unsigned grid[3];
  unsigned block[3];
  unsigned shared_bytes;
  StreamHandle stream;
  std::vector<std::byte> parameters;
  std::vector<LaunchAttribute> attributes;
};

struct FakeTensorMap {
  int type;
  std::uint32_t rank;
  void* address;
  std::vector<std::uint64_t> dims, strides;
  std::vector<std::uint32_t> box, element_strides;
  int interleave, swizzle, promotion, fill;
};

class FakeDriver {
 public:
  static FakeDriver& instance();
  // Back to a healthy machine with one H200 and no objects, and no context current on this thread.
  void reset();

  const DriverTable& table() const { return table_; }
  // Stands for dlsym. Symbols in `missing_symbols` are not there.
  static void* find_symbol(const char* symbol);

  // The `nth` call from now of the function `symbol` returns `error` instead of working. If `sticky`, every later call
  // of any function does too. Functions that destroy do their work even so, as far as the books are concerned.
  void fail(const std::string& symbol, int nth, Result error, bool sticky = false);
  bool failure_happened() const { return failed_; }

  std::map<std::string, int> calls() const;
  int call_count() const;
  // Objects not yet destroyed, as "2 streams, 1 library"; "" if there are none.
  std::string live_objects() const;
  // Calls that a real driver would not forgive: unknown handles, no current context, a capture left open.
  std::vector<std::string> misuses() const;
  std::vector<FakeLaunch> launches() const;
  // As encoded; the n-th map's bytes all hold n, from 1.
  std::vector<FakeTensorMap> tensor_maps() const;

  // Makes a context that is not ours current on this thread, and tells which is.
  static Context foreign_context();
  static void set_current(Context context);
  static Context current();

  // The machine; tests change it between reset() and use.
  int device_count = 1;
  int driver_version = 13000;
  std::string device_name = "NVIDIA H200";
  std::map<int, int> attributes;
  std::set<std::string> missing_symbols;
  std::optional<std::size_t> parameter_start;  // of the kernel's first parameter; nothing: it has none
  std::string kernel_name = "fake_kernel";     // the only kernel in every binary
  int static_shared_bytes = 1024;
  int max_dynamic_shared_bytes = 49152;  // as set by the device

 private:
  friend struct FakeFunctions;
  FakeDriver();
  static DriverTable make_table();
  static Context primary_context();

  struct Failure {
    std::string symbol;
    int remaining = 0;
    Result error = kSuccess;
    bool sticky = false;
  };

  Result enter(const char* symbol);             // counts the call; the injected failure or success
  Result enter_in_context(const char* symbol);  // and checks that our context is current
  Result misuse(const std::string& what, Result result);
  void later(StreamHandle stream, std::function<void()> work);  // at the stream's next synchronisation
  void run_pending(StreamHandle stream);
  const void* make_object(const char* kind);
  template <typename Raw>
  Raw make(const char* kind) {
    return reinterpret_cast<Raw>(const_cast<void*>(make_object(kind)));
  }
  bool destroy(const char* kind, const void* object);
  bool is_live(const char* kind, const void* object) const;

  static thread_local Context current_;
  mutable std::recursive_mutex mutex_;
  DriverTable table_;
  Failure failure_;
  bool failed_ = false;
  Result sticky_ = kSuccess;
  std::map<std::string, int> calls_;
  std::map<std::string, std::map<const void*, std::vector<std::byte>>> objects_;  // by kind: handle -> its bytes
  std::set<const void*> capturing_;
  std::map<StreamHandle, std::vector<std::function<void()>>> pending_;
  std::vector<std::string> misuses_;
  std::vector<FakeLaunch> launches_;
  std::vector<FakeTensorMap> tensor_maps_;
  std::map<const void*, int> event_times_;  // milliseconds; -1 before the event is recorded
  int clock_ = 0;
};

}  // namespace gdnjit::cuda

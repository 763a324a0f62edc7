// Owners of driver objects: one type each, non-copyable, and destructors that never throw.
#pragma once

#include <utility>

#include "runtime/cuda/driver_api.h"

namespace gdnjit::cuda {

// Makes `context` current on this thread. If another one was, it is put back at the end, so that a caller who works
// with several GPUs finds the thread as it was; a thread without a context keeps ours, which makes the next call cheap.
class ContextScope {
 public:
  ContextScope(const DriverTable& driver, Context context) noexcept : driver_(driver) {
    result_ = driver_.ctx_get_current(&previous_);
    if (result_ != kSuccess || previous_ == context) return;
    result_ = driver_.ctx_set_current(context);
    restore_ = result_ == kSuccess && previous_ != nullptr;
  }
  ~ContextScope() {
    if (restore_) driver_.ctx_set_current(previous_);
  }
  ContextScope(const ContextScope&) = delete;
  ContextScope& operator=(const ContextScope&) = delete;

  Result result() const { return result_; }

 private:
  const DriverTable& driver_;
  Context previous_ = nullptr;
  Result result_ = kSuccess;
  bool restore_ = false;
};

// The primary context, which every library in the process shares.
class PrimaryContext {
 public:
  PrimaryContext(const DriverTable& driver, DeviceOrdinal device) noexcept : driver_(driver), device_(device) {
    result_ = driver_.primary_ctx_retain(&context_, device_);
  }
  ~PrimaryContext() {
    if (result_ == kSuccess) driver_.primary_ctx_release(device_);
  }
  PrimaryContext(const PrimaryContext&) = delete;
  PrimaryContext& operator=(const PrimaryContext&) = delete;

  Result result() const { return result_; }  // of the constructor
  Context get() const { return context_; }

 private:
  const DriverTable& driver_;
  DeviceOrdinal device_;
  Context context_ = nullptr;
  Result result_ = kSuccess;
};

// Owns a Raw that the table's function `destroy` ends, with its context current.
template <typename Raw, Result (*DriverTable::*destroy)(Raw)>
class Handle {
 public:
  Handle(const DriverTable& driver, Context context) : driver_(&driver), context_(context) {}
  ~Handle() {
    if (raw_ == nullptr) return;
    const ContextScope scope(*driver_, context_);
    (driver_->*destroy)(raw_);
  }
  Handle(Handle&& other) noexcept
      : driver_(other.driver_), context_(other.context_), raw_(std::exchange(other.raw_, nullptr)) {}
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  Raw get() const { return raw_; }
  Raw* out() { return &raw_; }  // for the driver function that makes the object. REQUIRES: empty

 private:
  const DriverTable* driver_;
  Context context_;
  Raw raw_ = nullptr;
};

using EventHandle = Handle<EventRaw, &DriverTable::event_destroy>;
using GraphHandle = Handle<GraphRaw, &DriverTable::graph_destroy>;
using GraphExecHandle = Handle<GraphExecRaw, &DriverTable::graph_exec_destroy>;
using LibraryHandle = Handle<LibraryRaw, &DriverTable::library_unload>;

}  // namespace gdnjit::cuda

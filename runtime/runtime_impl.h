// What a Runtime owns. The tuner, the tools and the tests reach through it; users do not see it.
#pragma once

#include <gdnjit/runtime.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "cache/kernel_cache.h"
#include "codegen/compiler.h"
#include "codegen/templates.h"
#include "runtime/device.h"

namespace gdnjit {

class Capture;    // runtime/capture.h
class PlanCache;  // runtime/plan_cache.h

class Runtime::Impl {
 public:
  explicit Impl(const Options& options);
  // For tests and workers: a given device and compiler in place of those that `options` name. Without a compiler NVRTC
  // is searched as usual.
  Impl(const Options& options, std::unique_ptr<Device> device, std::unique_ptr<Compiler> compiler);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  const Options& options() const { return options_; }
  Device& device() const { return *device_; }
  cache::KernelCache& cache() const { return *cache_; }
  const TemplateSet& templates() const { return *templates_; }
  // Opens NVRTC on first use. Throws Error(nvrtc_missing), which says where it was looked for and how to get it.
  Compiler& compiler();
  // The toolchain's identity without opening NVRTC when the cache remembers it; "" if there is no NVRTC.
  std::string toolchain();
  // The GPU's number as Options::device and DLPack count it; 0 on the emulator.
  int device_ordinal() const { return device_ordinal_; }
  PlanCache& plans() const { return *plans_; }
  Capture* capture() const { return capture_.get(); }  // nullptr: calls are not captured

  // The tuner registers itself here so that policy `tune_on_miss` can call it without an arrow from runtime to
  // autotune. Unset: tune_on_miss acts as cached. Set it before the first plan.
  using TuneHook = std::function<void(Impl&, const Operator&, const FieldMap& problem)>;
  void set_tune_hook(TuneHook hook) { tune_hook_ = std::move(hook); }
  const TuneHook& tune_hook() const { return tune_hook_; }
  // Held while a plan tunes: two searches would disturb each other's times.
  std::mutex& tuning_mutex() { return tuning_mutex_; }

 private:
  Options options_;
  int device_ordinal_ = 0;
  std::unique_ptr<Device> device_;
  std::unique_ptr<cache::KernelCache> cache_;
  std::unique_ptr<const TemplateSet> templates_;
  std::unique_ptr<Compiler> compiler_;
  std::string toolchain_;      // memo of toolchain()
  bool no_nvrtc_ = false;      // toolchain() has searched in vain; compiler() searches again
  std::mutex compiler_mutex_;  // of compiler_, toolchain_ and no_nvrtc_
  std::mutex tuning_mutex_;
  std::unique_ptr<Capture> capture_;
  std::unique_ptr<PlanCache> plans_;
  TuneHook tune_hook_;
};

}  // namespace gdnjit

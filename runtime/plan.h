// A plan for any operator: the generic form behind gdn::StepPlan, used by the tuner, the tools and the C interface.
#pragma once

#include <gdnjit/runtime.h>

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "cache/kernel_cache.h"
#include "codegen/compiler.h"
#include "codegen/operator.h"
#include "runtime/device.h"

namespace gdnjit {

class Capture;  // runtime/capture.h

// A limit of one call, so that run() needs no memory of its own; Call has the others.
inline constexpr std::size_t kMaxTensors = 32;

// Called behind each launch of a call with the kernel's index; what the device counted is at hand then.
using LaunchObserver = std::function<void(std::size_t kernel)>;

// An Instance with its loaded kernels on a device. Immutable and thread-safe.
class OperatorPlan {
 public:
  // `capture`: where calls are written, if at all; it must outlive the plan, and so must `op`.
  OperatorPlan(Device& device, const Operator& op, std::shared_ptr<const Instance> instance,
               std::vector<std::shared_ptr<const Kernel>> kernels, std::vector<TensorSpec> tensors, PlanInfo info,
               Capture* capture);

  // `tensors` in the order of Operator::tensors(problem). Checks, packs and launches the kernels one after another;
  // allocates nothing. B = 0 does nothing. Throws invalid_argument before any device work.
  void run(std::span<const TensorView> tensors, Stream stream, const LaunchObserver* observer = nullptr) const;

  const PlanInfo& info() const { return info_; }
  const Instance& instance() const { return *instance_; }
  Device& device() const { return *device_; }
  const std::vector<TensorSpec>& tensors() const { return tensors_; }

 private:
  void launch(const Call& call, std::span<const TensorView> tensors, Stream stream,
              const LaunchObserver* observer) const;
  void launch_kernels(const Call& call, Stream stream, std::span<const BufferRange> buffers,
                      const LaunchObserver* observer) const;

  Device* device_;
  const Operator* operator_;
  Capture* capture_;
  std::shared_ptr<const Instance> instance_;
  std::vector<std::shared_ptr<const Kernel>> kernels_;  // of Instance::kernels()
  std::vector<TensorSpec> tensors_;
  PlanInfo info_;
};

// The whole path: problem -> signatures -> sources -> binaries -> cache -> loaded kernels.
// With `tiles` the look-up of tuning records is skipped (the tuner's and `verify`'s way in).
std::shared_ptr<const OperatorPlan> make_plan(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                              const std::optional<FieldMap>& tiles = std::nullopt);

// make_plan() through the plan cache: equal problems give the same plan, which lives as long as the runtime.
std::shared_ptr<const OperatorPlan> find_or_make_plan(Runtime::Impl& runtime, const Operator& op,
                                                      const FieldMap& problem);

// Within a NoTuning scope plans made by this thread never tune, whatever the policy: gdn::step() under graph capture.
class NoTuning {
 public:
  NoTuning();
  ~NoTuning();
  NoTuning(const NoTuning&) = delete;
  NoTuning& operator=(const NoTuning&) = delete;
};

}  // namespace gdnjit

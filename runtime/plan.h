// A plan for any operator: the generic form behind gdn::StepPlan, used by the tuner, the tools and the C interface.
#pragma once

#include <gdnjit/runtime.h>

#include <cstddef>
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

// Limits of one call, so that run() needs no memory of its own. CUDA takes 4 KB of parameters everywhere.
inline constexpr std::size_t kMaxTensors = 32;
inline constexpr std::size_t kMaxParameterBytes = 4096;

// An Instance with its loaded kernel on a device. Immutable and thread-safe.
class OperatorPlan {
 public:
  // `capture`: where calls are written, if at all; it must outlive the plan, and so must `op`.
  OperatorPlan(Device& device, const Operator& op, std::shared_ptr<const Instance> instance,
               std::shared_ptr<const Kernel> kernel, std::vector<TensorSpec> tensors, PlanInfo info, Capture* capture);

  // `tensors` in the order of Operator::tensors(problem). Checks, packs and launches; allocates nothing. B = 0 does
  // nothing. Throws invalid_argument before any device work.
  void run(std::span<const TensorView> tensors, Stream stream) const;

  const PlanInfo& info() const { return info_; }
  const Instance& instance() const { return *instance_; }
  Device& device() const { return *device_; }
  const std::vector<TensorSpec>& tensors() const { return tensors_; }

 private:
  void launch(std::span<const TensorView> tensors, const LaunchGeometry& geometry,
              std::span<const std::byte> parameters, Stream stream) const;

  Device* device_;
  const Operator* operator_;
  Capture* capture_;
  std::shared_ptr<const Instance> instance_;
  std::shared_ptr<const Kernel> kernel_;
  std::vector<TensorSpec> tensors_;
  PlanInfo info_;
};

// The whole path: problem -> signature -> source -> binary -> cache -> loaded kernel.
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

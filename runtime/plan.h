// A plan for any operator: the generic form behind gdn::StepPlan, used by the tuner and the tools.
#pragma once

#include <gdnjit/runtime.h>

#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "cache/kernel_cache.h"
#include "codegen/compiler.h"
#include "codegen/operator.h"
#include "runtime/device.h"

namespace gdnjit {

// An Instance with its loaded kernel on a device. Immutable and thread-safe.
class OperatorPlan {
 public:
  OperatorPlan(Device& device, std::shared_ptr<const Instance> instance, std::unique_ptr<Kernel> kernel,
               std::vector<TensorSpec> tensors, PlanInfo info);

  // `tensors` in the order of Operator::tensors(problem).
  void run(std::span<const TensorView> tensors, Stream stream) const;

  const PlanInfo& info() const { return info_; }
  const Instance& instance() const { return *instance_; }
  Device& device() const { return *device_; }

 private:
  Device* device_;
  std::shared_ptr<const Instance> instance_;
  std::unique_ptr<Kernel> kernel_;
  std::vector<TensorSpec> tensors_;
  PlanInfo info_;
};

// The whole path: problem -> signature -> source -> binary -> cache -> loaded kernel.
// With `tiles` the look-up of tuning records is skipped (the tuner's and `verify`'s way in).
std::shared_ptr<const OperatorPlan> make_plan(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                              const std::optional<FieldMap>& tiles = std::nullopt);

}  // namespace gdnjit

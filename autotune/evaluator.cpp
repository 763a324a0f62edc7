#include "autotune/evaluator.h"

#include <algorithm>
#include <utility>

#include "autotune/model.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

using cache::TuningStatus;

constexpr std::uint64_t kSeed = 20'240'611;

// What a check may move on this device. The emulator executes a few megabytes a second and core; a GPU is held up
// by the reference on the host.
std::int64_t check_bytes(const DeviceInfo& device) {
  return device.kind == DeviceKind::emulator ? std::int64_t{8} << 20 : std::int64_t{256} << 20;
}

// A candidate's own fault as a status; the rest is rethrown by the caller.
std::optional<TuningStatus> status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::unsupported:
    case ErrorCode::compile_failed: return TuningStatus::rejected;
    case ErrorCode::device_failed: return TuningStatus::crashed;
    default: return std::nullopt;
  }
}

// The time of a call: its kernels run one after another.
double modelled_us(const PlanInfo& info, const std::vector<LaunchGeometry>& geometries,
                   const std::vector<KernelCounts>& counts, const DeviceTraits& device) {
  double sum = 0;
  for (const KernelCounts& count : counts) {
    const KernelInfo& kernel = info.kernels[count.kernel];
    sum += model({.counters = count.counters,
                  .geometry = geometries[count.kernel],
                  .registers = kernel.registers,
                  .shared_bytes = kernel.shared_bytes,
                  .spill_bytes = kernel.spill_bytes,
                  .device = device})
               .time_us;
  }
  return sum;
}

}  // namespace

std::int64_t batch_of(const FieldMap& problem) {
  const std::string_view field = batch_field(problem);
  const auto text = find_field(problem, field);
  std::int64_t batch = 1;
  if (text) parse_field(field, *text, batch);
  return batch;
}

FieldMap check_problem(const Operator& op, const FieldMap& full, const FieldMap& tiles, const DeviceInfo& device) {
  const std::int64_t batch = batch_of(full);
  FieldMap small = full;
  const std::string_view field = batch_field(full);
  set_field(small, field, "1");
  const Footprint one = op.footprint(small);
  const std::int64_t bytes = std::max<std::int64_t>(1, one.bytes_read + one.bytes_written);
  const std::int64_t fitting = std::max<std::int64_t>(2, check_bytes(device) / bytes);  // 2: strides between sequences
  if (fitting >= batch) return full;
  set_field(small, field, std::to_string(fitting));
  small = op.complete(small);
  const Target target{device.traits.arch};
  const auto small_instance = op.instantiate(small, tiles, target), full_instance = op.instantiate(full, tiles, target);
  const auto small_kernels = small_instance->kernels(), full_kernels = full_instance->kernels();
  const bool same =
      std::equal(small_kernels.begin(), small_kernels.end(), full_kernels.begin(), full_kernels.end(),
                 [](const KernelSpec& left, const KernelSpec& right) { return left.signature == right.signature; });
  return same ? small : full;
}

Checked LocalEvaluator::check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) {
  try {
    return judge(op, problem, tiles);
  } catch (const Error& error) {
    const auto status = status_of(error.code());
    if (!status) throw;
    Checked checked{.status = *status, .reason = error.what()};
    checked.device_lost = *status == TuningStatus::crashed && !device_works();
    return checked;
  }
}

Checked LocalEvaluator::judge(const Operator& op, const FieldMap& problem, const FieldMap& tiles) {
  const DeviceInfo& device = runtime_.device().info();
  const FieldMap small = check_problem(op, problem, tiles, device);
  const auto plan = make_plan(runtime_, op, small, tiles);
  const CheckResult& seen = observe(op, small, *plan);

  Checked checked{.error = seen.worst_rms()};
  if (!seen.passed()) {
    checked.status = TuningStatus::wrong;
    checked.reason = seen.text();
  } else if (!seen.counts.empty()) {
    const auto instance = op.instantiate(problem, tiles, Target{device.traits.arch});
    checked.modelled_us = modelled_us(plan->info(), instance->geometries(), seen.counts, device.traits);
  }
  return checked;
}

const CheckResult& LocalEvaluator::observe(const Operator& op, const FieldMap& problem, const OperatorPlan& plan) {
  std::string name = fields_text(problem);
  for (const KernelInfo& kernel : plan.info().kernels) name += "|" + kernel.signature;
  const auto found = observations_.find(name);
  if (found != observations_.end()) return found->second;
  return observations_.emplace(name, autotune::check(plan, workload(op, problem))).first->second;
}

const reference::Workload& LocalEvaluator::workload(const Operator& op, const FieldMap& problem) {
  const std::string name = fmt::format("{} {}", op.name(), fields_text(problem));
  if (workload_ == nullptr || workload_of_ != name) {
    workload_.reset();  // before the next: large ones need not fit twice
    workload_ = make_workload_(op.name(), problem, reference::Inputs::typical, kSeed);
    workload_of_ = name;
  }
  return *workload_;
}

bool LocalEvaluator::device_works() const {
  try {
    runtime_.device().synchronize(nullptr);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::vector<Timed> LocalEvaluator::time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                                        const TimingOptions& options) {
  std::vector<std::shared_ptr<const OperatorPlan>> plans;
  for (const FieldMap& candidate : tiles) plans.push_back(make_plan(runtime_, op, problem, candidate));
  const auto samples = time_plans(plans, workload(op, problem), options, running_);
  std::vector<Timed> timed;
  for (const std::vector<double>& own : samples) timed.push_back({.samples_us = own});
  return timed;
}

}  // namespace gdnjit::autotune

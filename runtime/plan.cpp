#include "runtime/plan.h"

#include <array>
#include <mutex>
#include <utility>

#include "runtime/buffer_ranges.h"
#include "runtime/build.h"
#include "runtime/capture.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"
#include "runtime/support/log.h"
#include "runtime/tile_lookup.h"

namespace gdnjit {
namespace {

thread_local int no_tuning_depth = 0;

// Policy tune_on_miss. A tuning that fails costs the gain, not the plan.
void tune(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem) {
  if (!runtime.tune_hook()) {
    warn_once("no tuner", "policy tune_on_miss acts as cached: this program has no tuner (gdn-tune has)");
    return;
  }
  try {
    runtime.tune_hook()(runtime, op, problem);
  } catch (const Error& error) {
    warn(fmt::format("tuning {} failed, the default tiles are used: {}", op.name(), error.what()));
  }
}

TileChoice choose_tiles_by_policy(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem) {
  const Policy policy = runtime.options().policy;
  const auto look_up = [&] {
    return choose_tiles(runtime.cache(), runtime.device().info(), op, problem, policy != Policy::heuristic);
  };
  TileChoice choice = look_up();
  if (policy != Policy::tune_on_miss || choice.from == TilesFrom::exact || no_tuning_depth > 0) return choice;
  const std::lock_guard one_at_a_time(runtime.tuning_mutex());
  choice = look_up();  // another thread may have tuned it while this one waited
  if (choice.from == TilesFrom::exact) return choice;
  tune(runtime, op, problem);
  return look_up();
}

}  // namespace

std::shared_ptr<const OperatorPlan> make_plan(Runtime::Impl& runtime, const Operator& op, const FieldMap& partial,
                                              const std::optional<FieldMap>& tiles) {
  const FieldMap problem = op.complete(partial);
  Device& device = runtime.device();
  const TileChoice choice =
      tiles ? TileChoice{*tiles, TilesFrom::given, op.instantiate(problem, *tiles, Target{device.info().traits.arch})}
            : choose_tiles_by_policy(runtime, op, problem);
  const KernelSpec& spec = choice.instance->spec();
  const Built built = build_kernel(runtime, op, problem, spec);
  const cache::BinaryRecord& binary = *built.binary;
  std::shared_ptr<const Kernel> kernel = runtime.plans().load_once(
      binary.key, [&] { return device.load({.entry = binary.entry, .ptx = binary.ptx, .cubin = binary.cubin}); });
  return std::make_shared<OperatorPlan>(
      device, op, choice.instance, std::move(kernel), op.tensors(problem),
      PlanInfo{
          .operator_name = std::string(op.name()),
          .problem = fields_text(problem),
          .signature = spec.signature,
          .key = binary.key.hex(),
          .tiles = fields_text(choice.tiles),
          .tiles_from = choice.from,
          .compiled = built.compiled,
          .registers = binary.registers,
          .spill_bytes = binary.spill_store_bytes + binary.spill_load_bytes,
          .shared_bytes = binary.static_shared_bytes + static_cast<int>(choice.instance->geometry(1).shared_bytes)},
      runtime.capture());
}

std::shared_ptr<const OperatorPlan> find_or_make_plan(Runtime::Impl& runtime, const Operator& op,
                                                      const FieldMap& problem) {
  const std::string text = fmt::format("{} {}", op.name(), fields_text(op.complete(problem)));
  if (auto found = runtime.plans().find(text)) return found;
  return runtime.plans().insert(text, make_plan(runtime, op, problem));
}

OperatorPlan::OperatorPlan(Device& device, const Operator& op, std::shared_ptr<const Instance> instance,
                           std::shared_ptr<const Kernel> kernel, std::vector<TensorSpec> tensors, PlanInfo info,
                           Capture* capture)
    : device_(&device),
      operator_(&op),
      capture_(capture),
      instance_(std::move(instance)),
      kernel_(std::move(kernel)),
      tensors_(std::move(tensors)),
      info_(std::move(info)) {
  GDNJIT_CHECK(tensors_.size() <= kMaxTensors, "{} has {} tensors", info_.operator_name, tensors_.size());
  GDNJIT_CHECK(instance_->parameter_bytes() <= kMaxParameterBytes, "{} has {} bytes of parameters", info_.operator_name,
               instance_->parameter_bytes());
}

void OperatorPlan::run(std::span<const TensorView> tensors, Stream stream) const {
  require(tensors.size() == tensors_.size(), "{} tensors given: {} takes {}", tensors.size(), info_.operator_name,
          tensors_.size());
  alignas(16) std::array<std::byte, kMaxParameterBytes> storage;
  const std::span<std::byte> parameters(storage.data(), instance_->parameter_bytes());
  const std::int64_t batch = instance_->pack(tensors, parameters);
  const LaunchGeometry geometry = instance_->geometry(batch);
  if (geometry.grid[0] == 0 || geometry.grid[1] == 0 || geometry.grid[2] == 0) return;
  if (capture_ == nullptr) return launch(tensors, geometry, parameters, stream);
  auto captured = capture_->begin(*device_, *operator_, info_, tensors_, tensors, stream);
  try {
    launch(tensors, geometry, parameters, stream);
  } catch (const Error& error) {
    capture_->finish_failed(std::move(captured), error.what());
    throw;
  }
  capture_->finish(std::move(captured));
}

void OperatorPlan::launch(std::span<const TensorView> tensors, const LaunchGeometry& geometry,
                          std::span<const std::byte> parameters, Stream stream) const {
  if (device_->info().kind == DeviceKind::emulator) {
    std::array<BufferRange, kMaxTensors> ranges;
    const std::size_t count = buffer_ranges(tensors, tensors_, ranges);
    device_->launch(*kernel_, geometry, parameters, stream, std::span(ranges.data(), count));
  } else {
    device_->launch(*kernel_, geometry, parameters, stream, {});
  }
}

NoTuning::NoTuning() { ++no_tuning_depth; }
NoTuning::~NoTuning() { --no_tuning_depth; }

}  // namespace gdnjit

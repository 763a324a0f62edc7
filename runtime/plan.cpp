#include "runtime/plan.h"

#include <algorithm>
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

KernelInfo kernel_info(const Built& built, const LaunchGeometry& geometry) {
  const cache::BinaryRecord& binary = *built.binary;
  return {.entry = binary.entry,
          .signature = binary.signature,
          .key = binary.key.hex(),
          .compiled = built.compiled,
          .registers = binary.registers,
          .spill_bytes = binary.spill_store_bytes + binary.spill_load_bytes,
          .shared_bytes = binary.static_shared_bytes + static_cast<int>(geometry.shared_bytes)};
}

bool is_idle(const Call& call) {
  const std::span<const Launch> launches = call.launches();
  return std::all_of(launches.begin(), launches.end(), [](const Launch& launch) { return launch.geometry.empty(); });
}

}  // namespace

std::shared_ptr<const OperatorPlan> make_plan(Runtime::Impl& runtime, const Operator& op, const FieldMap& partial,
                                              const std::optional<FieldMap>& tiles) {
  const FieldMap problem = op.complete(partial);
  Device& device = runtime.device();
  const TileChoice choice =
      tiles ? TileChoice{*tiles, TilesFrom::given, op.instantiate(problem, *tiles, Target{device.info().traits.arch})}
            : choose_tiles_by_policy(runtime, op, problem);
  const std::span<const KernelSpec> specs = choice.instance->kernels();
  const std::vector<Built> built = build_kernels(runtime, op, problem, specs);
  const std::vector<LaunchGeometry> geometries = choice.instance->geometries();
  PlanInfo info{.operator_name = std::string(op.name()),
                .problem = fields_text(problem),
                .tiles = fields_text(choice.tiles),
                .tiles_from = choice.from,
                .kernels = {}};
  std::vector<std::shared_ptr<const Kernel>> kernels;
  for (std::size_t index = 0; index < specs.size(); ++index) {
    const cache::BinaryRecord& binary = *built[index].binary;
    kernels.push_back(runtime.plans().load_once(
        binary.key, [&] { return device.load({.entry = binary.entry, .ptx = binary.ptx, .cubin = binary.cubin}); }));
    info.kernels.push_back(kernel_info(built[index], geometries[index]));
  }
  return std::make_shared<OperatorPlan>(device, op, choice.instance, std::move(kernels), op.tensors(problem),
                                        std::move(info), runtime.capture());
}

std::shared_ptr<const OperatorPlan> find_or_make_plan(Runtime::Impl& runtime, const Operator& op,
                                                      const FieldMap& problem) {
  const std::string text = fmt::format("{} {}", op.name(), fields_text(op.complete(problem)));
  if (auto found = runtime.plans().find(text)) return found;
  return runtime.plans().insert(text, make_plan(runtime, op, problem));
}

OperatorPlan::OperatorPlan(Device& device, const Operator& op, std::shared_ptr<const Instance> instance,
                           std::vector<std::shared_ptr<const Kernel>> kernels, std::vector<TensorSpec> tensors,
                           PlanInfo info, Capture* capture)
    : device_(&device),
      operator_(&op),
      capture_(capture),
      instance_(std::move(instance)),
      kernels_(std::move(kernels)),
      tensors_(std::move(tensors)),
      info_(std::move(info)) {
  GDNJIT_CHECK(tensors_.size() <= kMaxTensors, "{} has {} tensors", info_.operator_name, tensors_.size());
  GDNJIT_CHECK(!kernels_.empty() && kernels_.size() <= Call::kMaxKernels, "{} has {} kernels", info_.operator_name,
               kernels_.size());
}

void OperatorPlan::run(std::span<const TensorView> tensors, Stream stream, const LaunchObserver* observer) const {
  require(tensors.size() == tensors_.size(), "{} tensors given: {} takes {}", tensors.size(), info_.operator_name,
          tensors_.size());
  Call call;
  instance_->pack(tensors, *device_, call);
  if (capture_ == nullptr || is_idle(call)) return launch(call, tensors, stream, observer);
  auto captured = capture_->begin(*device_, *operator_, info_, tensors_, tensors, stream);
  try {
    launch(call, tensors, stream, observer);
  } catch (const Error& error) {
    capture_->finish_failed(std::move(captured), error.what());
    throw;
  }
  capture_->finish(std::move(captured));
}

void OperatorPlan::launch(const Call& call, std::span<const TensorView> tensors, Stream stream,
                          const LaunchObserver* observer) const {
  if (device_->info().kind != DeviceKind::emulator) {
    launch_kernels(call, stream, {}, observer);
    return;
  }
  std::array<BufferRange, kMaxTensors> ranges;
  const std::span buffers = std::span(ranges).first(buffer_ranges(tensors, tensors_, ranges));
  for (const BufferRange& buffer : buffers) {
    if (buffer.role == TensorRole::scratch) device_->discard(buffer.begin, buffer.bytes, stream);
  }
  launch_kernels(call, stream, buffers, observer);
}

void OperatorPlan::launch_kernels(const Call& call, Stream stream, std::span<const BufferRange> buffers,
                                  const LaunchObserver* observer) const {
  const std::span<const Launch> launches = call.launches();
  GDNJIT_CHECK(launches.empty() || launches.size() == kernels_.size(), "{} launches of {} kernels", launches.size(),
               kernels_.size());
  for (std::size_t index = 0; index < launches.size(); ++index) {
    const auto& [geometry, parameters] = launches[index];
    if (geometry.empty()) continue;
    device_->launch(*kernels_[index], geometry, parameters, stream, buffers);
    if (observer != nullptr) (*observer)(index);
  }
}

NoTuning::NoTuning() { ++no_tuning_depth; }
NoTuning::~NoTuning() { --no_tuning_depth; }

}  // namespace gdnjit

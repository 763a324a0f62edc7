#include <gdnjit/c_api.h>
#include <gdnjit/runtime.h>

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "codegen/gdn/chunk_names.h"
#include "codegen/registry.h"
#include "runtime/dlpack.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

using gdnjit::ErrorCode;

static_assert(GDNJIT_OK == static_cast<int>(ErrorCode::ok));
static_assert(GDNJIT_INVALID_ARGUMENT == static_cast<int>(ErrorCode::invalid_argument));
static_assert(GDNJIT_UNSUPPORTED == static_cast<int>(ErrorCode::unsupported));
static_assert(GDNJIT_NVRTC_MISSING == static_cast<int>(ErrorCode::nvrtc_missing));
static_assert(GDNJIT_COMPILE_FAILED == static_cast<int>(ErrorCode::compile_failed));
static_assert(GDNJIT_DEVICE_UNAVAILABLE == static_cast<int>(ErrorCode::device_unavailable));
static_assert(GDNJIT_DEVICE_FAILED == static_cast<int>(ErrorCode::device_failed));
static_assert(GDNJIT_OUT_OF_MEMORY == static_cast<int>(ErrorCode::out_of_memory));
static_assert(GDNJIT_STRICT_MISS == static_cast<int>(ErrorCode::strict_miss));
static_assert(GDNJIT_IO == static_cast<int>(ErrorCode::io));
static_assert(GDNJIT_MISMATCH == static_cast<int>(ErrorCode::mismatch));
static_assert(GDNJIT_INTERNAL == static_cast<int>(ErrorCode::internal));

struct gdnjit_runtime {
  std::shared_ptr<gdnjit::Runtime> runtime;
  std::string device_name;
  DLDevice device;
};

using Texts = std::map<std::string, std::string, std::less<>>;

struct gdnjit_plan {
  std::shared_ptr<gdnjit::Runtime> runtime;  // garbage collectors destroy in any order; declared first, so it goes last
  std::shared_ptr<const gdnjit::OperatorPlan> plan;
  DLDevice device;
  Texts info;
  std::vector<Texts> kernels;
};

namespace {

thread_local std::string last_error;

int failed(ErrorCode code, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();  // no memory for the message; the code still tells
  }
  return static_cast<int>(code);
}

// Runs `work`, and turns what it throws into a code and this thread's message.
template <typename Work>
int guarded(Work&& work) noexcept {
  try {
    work();
    return GDNJIT_OK;
  } catch (const gdnjit::Error& error) {
    return failed(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return failed(ErrorCode::out_of_memory, "out of host memory");
  } catch (const std::exception& error) {
    return failed(ErrorCode::internal, error.what());
  } catch (...) {
    return failed(ErrorCode::internal, "an unknown exception was thrown");
  }
}

void require_not_null(const void* pointer, std::string_view name) {
  gdnjit::require(pointer != nullptr, "{}: must not be NULL", name);
}

Texts texts_of(const gdnjit::PlanInfo& info) {
  return {{"operator", info.operator_name},
          {"problem", info.problem},
          {"tiles", info.tiles},
          {"tiles_from", std::string(gdnjit::tiles_from_text(info.tiles_from))},
          {"compiled", info.compiled() ? "true" : "false"}};
}

Texts texts_of(const gdnjit::KernelInfo& kernel) {
  return {{"entry", kernel.entry},
          {"signature", kernel.signature},
          {"key", kernel.key},
          {"compiled", kernel.compiled ? "true" : "false"},
          {"registers", fmt::format("{}", kernel.registers)},
          {"spill_bytes", fmt::format("{}", kernel.spill_bytes)},
          {"shared_bytes", fmt::format("{}", kernel.shared_bytes)}};
}

const char* find_text(const Texts& texts, const char* name) {
  const auto found = texts.find(std::string_view(name));
  return found == texts.end() ? nullptr : found->second.c_str();
}

gdnjit_plan* create_plan(gdnjit_runtime& runtime, const char* operator_name, const gdnjit::FieldMap& problem) {
  auto plan = gdnjit::find_or_make_plan(runtime.runtime->impl(), gdnjit::find_operator(operator_name), problem);
  Texts info = texts_of(plan->info());
  std::vector<Texts> kernels;
  for (const gdnjit::KernelInfo& kernel : plan->info().kernels) kernels.push_back(texts_of(kernel));
  return new gdnjit_plan{runtime.runtime, std::move(plan), runtime.device, std::move(info), std::move(kernels)};
}

}  // namespace

extern "C" {

const char* gdnjit_version(void) { return GDNJIT_VERSION_TEXT; }

const char* gdnjit_last_error(void) { return last_error.c_str(); }

int gdnjit_runtime_create(const char* options, gdnjit_runtime** runtime) {
  return guarded([&] {
    require_not_null(runtime, "runtime");
    *runtime = nullptr;
    gdnjit::Options settings = gdnjit::Options::from_environment();
    if (options != nullptr) settings.set_all(options);
    auto made = std::make_shared<gdnjit::Runtime>(settings);
    std::string name = made->device_name();
    const DLDevice device = gdnjit::dlpack_device(made->impl().device().info(), made->impl().device_ordinal());
    *runtime = new gdnjit_runtime{std::move(made), std::move(name), device};
  });
}

void gdnjit_runtime_destroy(gdnjit_runtime* runtime) { delete runtime; }

const char* gdnjit_runtime_device_name(const gdnjit_runtime* runtime) {
  return runtime == nullptr ? nullptr : runtime->device_name.c_str();
}

DLDevice gdnjit_runtime_device(const gdnjit_runtime* runtime) {
  return runtime == nullptr ? DLDevice{kDLCPU, 0} : runtime->device;
}

int gdnjit_allocate(gdnjit_runtime* runtime, size_t bytes, void** memory) {
  return guarded([&] {
    require_not_null(runtime, "runtime");
    require_not_null(memory, "memory");
    *memory = nullptr;
    *memory = runtime->runtime->allocate(bytes);
  });
}

void gdnjit_release(gdnjit_runtime* runtime, void* memory) {
  if (runtime != nullptr && memory != nullptr) runtime->runtime->release(memory);
}

int gdnjit_copy_in(gdnjit_runtime* runtime, void* device, const void* host, size_t bytes, void* stream) {
  return guarded([&] {
    require_not_null(runtime, "runtime");
    runtime->runtime->copy_in(device, host, bytes, stream);
  });
}

int gdnjit_copy_out(gdnjit_runtime* runtime, void* host, const void* device, size_t bytes, void* stream) {
  return guarded([&] {
    require_not_null(runtime, "runtime");
    runtime->runtime->copy_out(host, device, bytes, stream);
  });
}

int gdnjit_synchronize(gdnjit_runtime* runtime, void* stream) {
  return guarded([&] {
    require_not_null(runtime, "runtime");
    runtime->runtime->synchronize(stream);
  });
}

int gdnjit_plan_create(gdnjit_runtime* runtime, const char* operator_name, const char* problem, gdnjit_plan** plan) {
  return guarded([&] {
    require_not_null(plan, "plan");
    *plan = nullptr;
    require_not_null(runtime, "runtime");
    require_not_null(operator_name, "operator_name");
    require_not_null(problem, "problem");
    *plan = create_plan(*runtime, operator_name, gdnjit::parse_fields(problem));
  });
}

int gdnjit_plan_create_from_fields(gdnjit_runtime* runtime, const char* operator_name, const char* const* names,
                                   const char* const* values, int count, gdnjit_plan** plan) {
  return guarded([&] {
    require_not_null(plan, "plan");
    *plan = nullptr;
    require_not_null(runtime, "runtime");
    require_not_null(operator_name, "operator_name");
    gdnjit::require(count >= 0, "count={}: must not be negative", count);
    gdnjit::FieldMap problem;
    for (int index = 0; index < count; ++index) {
      require_not_null(names, "names");
      require_not_null(values, "values");
      require_not_null(names[index], fmt::format("names[{}]", index));
      require_not_null(values[index], fmt::format("values[{}]", index));
      problem.emplace_back(names[index], values[index]);
    }
    *plan = create_plan(*runtime, operator_name, problem);
  });
}

void gdnjit_plan_destroy(gdnjit_plan* plan) { delete plan; }

int gdnjit_plan_tensor_count(const gdnjit_plan* plan) {
  return plan == nullptr ? 0 : static_cast<int>(plan->plan->tensors().size());
}

const char* gdnjit_plan_tensor_name(const gdnjit_plan* plan, int index) {
  if (plan == nullptr || index < 0 || index >= gdnjit_plan_tensor_count(plan)) return nullptr;
  return plan->plan->tensors()[static_cast<std::size_t>(index)].name.c_str();
}

int gdnjit_plan_tensor_index(const gdnjit_plan* plan, const char* name) {
  if (plan == nullptr || name == nullptr) return -1;
  const auto& tensors = plan->plan->tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(), [&](const auto& spec) { return spec.name == name; });
  return found == tensors.end() ? -1 : static_cast<int>(found - tensors.begin());
}

const char* gdnjit_plan_info(const gdnjit_plan* plan, const char* name) {
  return plan == nullptr || name == nullptr ? nullptr : find_text(plan->info, name);
}

int gdnjit_plan_kernel_count(const gdnjit_plan* plan) {
  return plan == nullptr ? 0 : static_cast<int>(plan->kernels.size());
}

const char* gdnjit_plan_kernel_info(const gdnjit_plan* plan, int index, const char* name) {
  if (plan == nullptr || name == nullptr || index < 0 || index >= gdnjit_plan_kernel_count(plan)) return nullptr;
  return find_text(plan->kernels[static_cast<std::size_t>(index)], name);
}

int gdnjit_chunk_workspace_bytes(const char* problem, int64_t sequences, int64_t tokens, size_t* bytes) {
  return guarded([&] {
    require_not_null(problem, "problem");
    require_not_null(bytes, "bytes");
    const auto layer = gdnjit::from_fields<gdnjit::gdn::ChunkProblem>(gdnjit::parse_fields(problem));
    *bytes = static_cast<size_t>(gdnjit::gdn::workspace_bytes(layer, sequences, tokens));
  });
}

int gdnjit_plan_run(const gdnjit_plan* plan, const DLTensor* const* tensors, int count, void* stream) {
  return guarded([&] {
    require_not_null(plan, "plan");
    const auto& specs = plan->plan->tensors();
    gdnjit::require(count == static_cast<int>(specs.size()), "count={}: {} takes {} tensors", count,
                    plan->plan->info().operator_name, specs.size());
    require_not_null(tensors, "tensors");
    std::array<gdnjit::TensorView, gdnjit::kMaxTensors> views;
    for (std::size_t index = 0; index < specs.size(); ++index) {
      views[index] = gdnjit::view_of(tensors[index], specs[index].name, plan->device);
    }
    plan->plan->run(std::span(views.data(), specs.size()), stream);
  });
}

}  // extern "C"

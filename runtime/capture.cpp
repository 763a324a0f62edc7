#include "runtime/capture.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <iterator>
#include <utility>

#include "codegen/fields.h"
#include "runtime/dense_copy.h"
#include "runtime/support/check.h"
#include "runtime/support/log.h"

namespace gdnjit {
namespace {

std::string joined(std::span<const std::int64_t> numbers) { return fmt::format("{}", fmt::join(numbers, " ")); }

// A null view stands for an empty tensor; its memory is not looked at.
std::int64_t elements_of(const TensorView& view) { return view.data == nullptr ? 0 : view.elements(); }

std::int64_t bytes_of(const TensorSpec& spec) {
  std::int64_t bytes = dtype_bytes(spec.dtype);
  for (const std::int64_t extent : spec.shape) bytes *= extent;
  return bytes;
}

bool is_dense(const TensorView& view) {
  std::int64_t expected = 1;
  for (int axis = view.rank - 1; axis >= 0; --axis) {
    const auto a = static_cast<std::size_t>(axis);
    if (view.shape[a] != 1 && view.strides[a] != expected) return false;
    expected *= view.shape[a];
  }
  return true;
}

std::int64_t load_index(DType dtype, const std::byte* data, std::size_t at) {
  if (dtype == DType::i64) {
    std::int64_t value = 0;
    std::memcpy(&value, data + at * sizeof(value), sizeof(value));
    return value;
  }
  std::int32_t value = 0;
  std::memcpy(&value, data + at * sizeof(value), sizeof(value));
  return value;
}

void store_index(DType dtype, std::byte* data, std::size_t at, std::int64_t value) {
  const auto narrow = static_cast<std::int32_t>(value);
  if (dtype == DType::i64) {
    std::memcpy(data + at * sizeof(value), &value, sizeof(value));
  } else {
    std::memcpy(data + at * sizeof(narrow), &narrow, sizeof(narrow));
  }
}

std::size_t index_count(const CapturedCall::Tensor& indices) {
  return indices.before.size() / static_cast<std::size_t>(dtype_bytes(indices.spec.dtype));
}

// The rows of `pool` that the call's slots name. Row 0 is always among them and stays 0: it may be the null slot.
std::vector<std::int64_t> named_rows(const CapturedCall& call, const CapturedCall::Tensor& pool) {
  std::vector<std::int64_t> rows{0};
  for (const CapturedCall::Tensor& indices : call.tensors) {
    if (indices.spec.indexes != pool.spec.name) continue;
    for (std::size_t i = 0; i < index_count(indices); ++i) {
      const std::int64_t row = load_index(indices.spec.dtype, indices.before.data(), i);
      if (row > 0 && row < pool.view.shape[0]) rows.push_back(row);
    }
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

// Slots as the stored pool counts them. Negative ones mark padding and stay; one beyond the pool stays beyond it.
void renumber(CapturedCall::Tensor& indices, const CapturedCall::Tensor& pool) {
  const auto kept = static_cast<std::int64_t>(pool.rows.size());
  for (std::size_t i = 0; i < index_count(indices); ++i) {
    const std::int64_t row = load_index(indices.spec.dtype, indices.before.data(), i);
    if (row <= 0) continue;
    const auto place = std::lower_bound(pool.rows.begin(), pool.rows.end(), row);
    const std::int64_t beyond = row - pool.view.shape[0];
    const std::int64_t renumbered = beyond >= 0 ? kept + beyond : std::distance(pool.rows.begin(), place);
    store_index(indices.spec.dtype, indices.before.data(), i, renumbered);
  }
}

std::vector<std::byte> copy_of(const CapturedCall& call, const CapturedCall::Tensor& tensor) {
  if (elements_of(tensor.view) == 0) return {};
  if (tensor.rows.empty()) return dense_copy(*call.device, tensor.view, call.stream);
  TensorView row = tensor.view;
  row.shape[0] = 1;
  std::vector<std::byte> bytes;
  for (const std::int64_t index : tensor.rows) {
    row.data = static_cast<std::byte*>(tensor.view.data) + index * tensor.view.strides[0] * dtype_bytes(row.dtype);
    const std::vector<std::byte> one = dense_copy(*call.device, row, call.stream);
    bytes.insert(bytes.end(), one.begin(), one.end());
  }
  return bytes;
}

// Pools whose rows belong to those of another keep the same ones.
void keep_rows_of_pools(CapturedCall& call) {
  for (CapturedCall::Tensor& tensor : call.tensors) {
    for (const CapturedCall::Tensor& pool : call.tensors) {
      if (pool.spec.name != tensor.spec.rows_of || pool.rows.empty() || elements_of(tensor.view) == 0) continue;
      tensor.rows = pool.rows;
      tensor.spec.shape[0] = pool.spec.shape[0];
      call.metadata["rows." + tensor.spec.name] = joined(tensor.rows);
    }
  }
}

// The tensors of a call without their contents, but for those that name a pool's rows.
void describe_tensors(std::span<const TensorSpec> specs, std::span<const TensorView> views, CapturedCall& call) {
  for (std::size_t i = 0; i < views.size(); ++i) {
    CapturedCall::Tensor& tensor = call.tensors.emplace_back();
    tensor.spec = specs[i];
    tensor.view = views[i];
    tensor.spec.shape.assign(views[i].shape.begin(), views[i].shape.begin() + views[i].rank);
    if (!is_dense(views[i]) && specs[i].role != TensorRole::scratch) {
      call.metadata["strides." + specs[i].name] =
          joined(std::span(views[i].strides).first(static_cast<std::size_t>(views[i].rank)));
    }
    if (!tensor.spec.indexes.empty()) tensor.before = copy_of(call, tensor);
  }
  for (CapturedCall::Tensor& pool : call.tensors) {
    const auto names_it = [&](const auto& indices) { return indices.spec.indexes == pool.spec.name; };
    if (std::none_of(call.tensors.begin(), call.tensors.end(), names_it) || elements_of(pool.view) == 0) continue;
    pool.rows = named_rows(call, pool);
    pool.spec.shape[0] = static_cast<std::int64_t>(pool.rows.size());
    call.metadata["rows." + pool.spec.name] = joined(pool.rows);
    for (CapturedCall::Tensor& indices : call.tensors) {
      if (names_it(indices)) renumber(indices, pool);
    }
  }
  keep_rows_of_pools(call);
}

void copy_inputs(CapturedCall& call) {
  for (CapturedCall::Tensor& tensor : call.tensors) {
    const bool done = !tensor.spec.indexes.empty();
    if (!done && is_read(tensor.spec.role)) tensor.before = copy_of(call, tensor);
  }
}

void copy_outputs(CapturedCall& call) {
  for (CapturedCall::Tensor& tensor : call.tensors) {
    if (is_written(tensor.spec.role)) tensor.after = copy_of(call, tensor);
  }
}

std::int64_t file_bytes(const CapturedCall& call) {
  std::int64_t bytes = 0;
  for (const CapturedCall::Tensor& tensor : call.tensors) {
    bytes += ((is_read(tensor.spec.role) ? 1 : 0) + (is_written(tensor.spec.role) ? 1 : 0)) * bytes_of(tensor.spec);
  }
  return bytes;
}

void warn_about(std::string_view topic, const std::string& message) noexcept {
  try {
    warn_once(fmt::format("capture: {}", topic), message);
  } catch (const std::exception&) {
    // No memory for the warning; the call itself goes on.
  }
}

}  // namespace

Capture::Capture(const Options& options)
    : directory_(options.capture_directory),
      limit_bytes_(options.capture_limit_bytes),
      limit_files_(options.capture_files),
      stamp_(fmt::format("{:08x}", std::chrono::duration_cast<std::chrono::seconds>(
                                       std::chrono::system_clock::now().time_since_epoch())
                                       .count())) {}

void Capture::end(const std::string& why) noexcept {
  if (closed_.exchange(true)) return;
  try {
    warn(fmt::format("no more calls are captured into '{}': {}", directory_.string(), why));
  } catch (const std::exception&) {
    // As above.
  }
}

bool Capture::reserve(const CapturedCall& call) {
  const std::int64_t bytes = file_bytes(call);
  const std::lock_guard lock(mutex_);
  if (bytes > limit_bytes_) {
    warn_about("size", fmt::format("a call of {} is not captured: its {} MB are beyond capture_limit_mb={}",
                                   call.operator_name, bytes >> 20, limit_bytes_ >> 20));
    return false;
  }
  if (files_ >= limit_files_ || bytes > limit_bytes_ - bytes_) {
    end(files_ >= limit_files_ ? fmt::format("capture_files={} are written", limit_files_)
                               : fmt::format("capture_limit_mb={} is reached", limit_bytes_ >> 20));
    return false;
  }
  ++files_;
  bytes_ += bytes;
  return true;
}

std::unique_ptr<CapturedCall> Capture::begin(Device& device, const Operator& op, const PlanInfo& info,
                                             std::span<const TensorSpec> specs, std::span<const TensorView> tensors,
                                             Stream stream) noexcept {
  if (closed_) return nullptr;
  try {
    if (device.capturing(stream)) {
      warn_about("graph",
                 fmt::format("a call of {} is not captured into '{}': its stream is captured into a graph, and "
                             "copying its tensors would have to wait for it",
                             op.name(), directory_.string()));
      return nullptr;
    }
    auto call = std::make_unique<CapturedCall>();
    call->device = &device;
    call->stream = stream;
    call->operator_name = op.name();
    call->metadata = {{"format", fmt::format("{} {}", capture_format::kName, capture_format::kVersion)},
                      {"operator", std::string(op.name())},
                      {"problem", fields_text(op.describe_call(parse_fields(info.problem), tensors).problem)},
                      {"tiles", info.tiles},
                      {"device", device.info().kind == DeviceKind::emulator
                                     ? device.info().name
                                     : fmt::format("{} ({})", device.info().name, device.info().traits.arch)},
                      {"gdnjit", GDNJIT_VERSION_TEXT}};
    describe_tensors(specs, tensors, *call);
    if (!reserve(*call)) return nullptr;
    copy_inputs(*call);
    return call;
  } catch (const std::exception& error) {
    end(error.what());
    return nullptr;
  }
}

void Capture::finish(std::unique_ptr<CapturedCall> call) noexcept {
  if (!call) return;
  try {
    try {
      copy_outputs(*call);
    } catch (const Error& error) {
      // Work on a GPU fails when somebody waits for it. What the call read is worth keeping all the more.
      call->metadata["failed"] = error.what();
    }
    write(*call);
  } catch (const std::exception& error) {
    end(error.what());
  }
}

void Capture::finish_failed(std::unique_ptr<CapturedCall> call, std::string_view message) noexcept {
  if (!call) return;
  try {
    call->metadata["failed"] = message;
    write(*call);
  } catch (const std::exception& error) {
    end(error.what());
  }
}

std::filesystem::path Capture::next_name(const CapturedCall& call) {
  const std::lock_guard lock(mutex_);
  return directory_ / fmt::format("{}-{}-{:06}-{}.safetensors", stamp_, ::getpid(), ++names_, call.operator_name);
}

void Capture::write(const CapturedCall& call) {
  const bool ran = !call.metadata.contains("failed");
  std::vector<SafetensorsTensor> tensors;
  const auto add = [&](std::string name, const TensorSpec& spec, std::span<const std::byte> bytes) {
    tensors.push_back({std::move(name), std::string(safetensors_dtype(spec.dtype)), spec.shape, bytes});
  };
  for (const auto& [spec, view, rows, before, after] : call.tensors) {
    if (is_read(spec.role)) add(spec.name, spec, before);
    if (spec.role == TensorRole::output && ran) add(spec.name, spec, after);
    if (spec.role == TensorRole::in_out && ran) add(std::string(capture_format::kAfter) + spec.name, spec, after);
  }
  // The widest elements first, so that every tensor begins at a multiple of its element's size.
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& left, const auto& right) {
    return dtype_bytes(*dtype_of_safetensors(left.dtype)) > dtype_bytes(*dtype_of_safetensors(right.dtype));
  });
  std::filesystem::create_directories(directory_);
  // A name is taken already where process numbers repeat: containers that share the folder.
  while (!write_safetensors(next_name(call), call.metadata, tensors)) {
  }
}

}  // namespace gdnjit

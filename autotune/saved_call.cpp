#include "autotune/saved_call.h"

#include <algorithm>
#include <limits>
#include <set>
#include <string_view>
#include <utility>

#include "codegen/registry.h"
#include "runtime/capture.h"
#include "runtime/safetensors.h"
#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit::autotune {
namespace {

// More than any device has; a shape beyond it is a mistake, and its product may not fit a number.
constexpr std::int64_t kMostBytes = 1LL << 42;

std::string metadata_of(const Safetensors& file, const std::string& name) {
  const auto found = file.metadata.find(name);
  return found == file.metadata.end() ? "" : found->second;
}

std::string name_before(const TensorSpec& spec) { return spec.name; }
std::string name_after(const TensorSpec& spec) {
  return spec.role == TensorRole::in_out ? std::string(capture_format::kAfter) + spec.name : spec.name;
}

// "gdnjit.capture 1", or nothing.
void check_format(const std::string& format) {
  if (format.empty()) return;
  const std::vector<std::string> words = split(format, ' ');
  require(words.size() == 2 && words[0] == capture_format::kName, "format '{}': expected '{} {}'", format,
          capture_format::kName, capture_format::kVersion);
  int version = 0;
  require(detail::parse_value(words[1], version) && version >= 1, "format '{}': bad version", format);
  if (version > capture_format::kVersion) {
    fail(ErrorCode::unsupported, "format '{}': this gdn-tune reads versions up to {}", format,
         capture_format::kVersion);
  }
}

std::string shape_text(const std::vector<std::int64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

class Reader {
 public:
  explicit Reader(const Safetensors& file) : file_(file) {}

  SavedCall read() {
    check_format(metadata_of(file_, "format"));
    const std::string name = metadata_of(file_, "operator");
    require(!name.empty(), "its metadata have no 'operator', such as gdn.step");
    SavedCall saved;
    saved.op = &find_operator(name);
    const FieldMap problem = saved.op->complete(parse_fields(metadata_of(file_, "problem")));
    refuse_unknown(saved.op->tensors(problem));
    saved.call = saved.op->describe_call(problem, views(saved.op->tensors(problem)));
    for (const TensorSpec& spec : saved.call.tensors) read_tensor(spec, saved);
    if (const std::string tiles = metadata_of(file_, "tiles"); !tiles.empty()) saved.tiles = parse_fields(tiles);
    saved.device = metadata_of(file_, "device");
    saved.version = metadata_of(file_, "gdnjit");
    saved.failed = metadata_of(file_, "failed");
    return saved;
  }

 private:
  void refuse_unknown(const std::vector<TensorSpec>& specs) const {
    std::set<std::string> known;
    for (const TensorSpec& spec : specs) {
      if (is_read(spec.role)) known.insert(name_before(spec));
      if (is_written(spec.role)) known.insert(name_after(spec));
    }
    for (const SafetensorsTensor& tensor : file_.tensors) {
      const std::vector<std::string> names(known.begin(), known.end());
      require(known.contains(tensor.name), "{} with this problem has no tensor '{}'{}", metadata_of(file_, "operator"),
              tensor.name, suggestion(tensor.name, names));
    }
  }

  // Shapes as the file has them; those of tensors that are only written stay empty.
  std::vector<TensorView> views(const std::vector<TensorSpec>& specs) const {
    std::vector<TensorView> views;
    for (const TensorSpec& spec : specs) {
      TensorView& view = views.emplace_back();
      if (!is_read(spec.role)) continue;
      const SafetensorsTensor* tensor = file_.find(name_before(spec));
      require(tensor != nullptr, "tensor '{}' is missing: {} with this problem reads it", spec.name,
              metadata_of(file_, "operator"));
      require(tensor->shape.size() <= kMaxRank, "{}: has rank {}", spec.name, tensor->shape.size());
      for (const std::int64_t extent : tensor->shape) {
        require(extent <= kMostBytes, "{}: shape {} is more than a device holds", spec.name, shape_text(tensor->shape));
      }
      view.dtype = spec.dtype;
      view.rank = static_cast<int>(tensor->shape.size());
      std::copy(tensor->shape.begin(), tensor->shape.end(), view.shape.begin());
    }
    return views;
  }

  std::vector<std::byte> bytes_of(const SafetensorsTensor& tensor, const TensorSpec& spec) const {
    require(tensor.dtype == safetensors_dtype(spec.dtype), "{}: has dtype {}, the problem asks for {}", tensor.name,
            tensor.dtype, safetensors_dtype(spec.dtype));
    require(tensor.shape == spec.shape, "{}: has shape {}, the problem asks for {}", tensor.name,
            shape_text(tensor.shape), shape_text(spec.shape));
    return {tensor.bytes.begin(), tensor.bytes.end()};
  }

  void read_tensor(const TensorSpec& spec, SavedCall& saved) const {
    std::int64_t bytes = dtype_bytes(spec.dtype);
    for (const std::int64_t extent : spec.shape) {
      require(extent == 0 || bytes <= kMostBytes / extent, "{}: shape {} is more than a device holds", spec.name,
              shape_text(spec.shape));
      bytes *= extent;
    }
    saved.before.emplace_back();
    if (is_read(spec.role)) saved.before.back() = bytes_of(*file_.find(name_before(spec)), spec);
    saved.after.push_back({spec, {}});
    if (!is_written(spec.role)) return;
    if (const SafetensorsTensor* after = file_.find(name_after(spec)))
      saved.after.back().bytes = bytes_of(*after, spec);
  }

  const Safetensors& file_;
};

}  // namespace

bool SavedCall::has_outputs() const {
  return std::any_of(after.begin(), after.end(), [](const auto& tensor) { return !tensor.bytes.empty(); });
}

SavedCall read_call(const std::filesystem::path& file) {
  const std::vector<std::byte> content = read_file(file);
  const Safetensors parsed = parse_safetensors(content, file.string());
  try {
    return Reader(parsed).read();
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", file.string(), error.what()));
  }
}

}  // namespace gdnjit::autotune

#include "runtime/safetensors.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "runtime/support/check.h"

namespace gdnjit {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kLengthBytes = 8;
constexpr std::string_view kMetadata = "__metadata__";

// Every dtype of the format and its size in bits.
constexpr std::array<std::pair<std::string_view, std::uint64_t>, 20> kDtypeBits{
    {{"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8}, {"U8", 8},   {"I8", 8},    {"F8_E5M2", 8},
     {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"I16", 16},    {"U16", 16}, {"F16", 16}, {"BF16", 16}, {"I32", 32},
     {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64}, {"I64", 64}, {"U64", 64}}};

constexpr std::array<std::pair<std::string_view, DType>, 6> kOurs{{{"F32", DType::f32},
                                                                   {"BF16", DType::bf16},
                                                                   {"F16", DType::f16},
                                                                   {"I32", DType::i32},
                                                                   {"I64", DType::i64},
                                                                   {"U8", DType::u8}}};

// Parses one file; every failure names it.
class Parser {
 public:
  Parser(std::span<const std::byte> content, std::string_view origin) : content_(content), origin_(origin) {}

  Safetensors parse() {
    const Json header = read_header();
    Safetensors file;
    for (const auto& [name, entry] : header.items()) {
      if (name == kMetadata) {
        read_metadata(entry, file.metadata);
      } else {
        file.tensors.push_back(read_tensor(name, entry));
      }
    }
    check_layout(file.tensors);
    return file;
  }

 private:
  template <typename... Args>
  void expect(bool holds, fmt::format_string<Args...> format, Args&&... args) const {
    if (holds) return;
    fail(ErrorCode::io, "{}: not a safetensors file: {}", origin_, fmt::format(format, std::forward<Args>(args)...));
  }

  Json read_header() {
    expect(content_.size() >= kLengthBytes, "{} bytes are no header", content_.size());
    std::uint64_t length = 0;
    for (std::size_t i = kLengthBytes; i-- > 0;) length = length << 8 | std::to_integer<std::uint64_t>(content_[i]);
    expect(length <= content_.size() - kLengthBytes, "a header of {} bytes in a file of {}", length, content_.size());
    expect(length <= kMaxSafetensorsHeader, "a header of {} bytes, more than {}", length, kMaxSafetensorsHeader);
    const char* text = reinterpret_cast<const char*>(content_.data()) + kLengthBytes;
    data_ = content_.subspan(kLengthBytes + static_cast<std::size_t>(length));
    expect(length > 0 && text[0] == '{', "the header does not begin with '{{'");

    std::vector<std::set<std::string>> names;  // by depth
    std::string twice;
    const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
      if (event == Json::parse_event_t::object_start) {
        names.resize(static_cast<std::size_t>(depth) + 2);
        names.back().clear();
      } else if (event == Json::parse_event_t::key) {
        const bool fresh = names[static_cast<std::size_t>(depth)].insert(value.get<std::string>()).second;
        if (!fresh) twice = value.get<std::string>();
      }
      return true;
    };
    Json header = Json::parse(text, text + length, watch, false);
    expect(header.is_object(), "the header is not a JSON object");
    expect(twice.empty(), "the name '{}' occurs twice", twice);
    return header;
  }

  void read_metadata(const Json& entry, SafetensorsMetadata& metadata) const {
    expect(entry.is_object(), "{} is not an object", kMetadata);
    for (const auto& [name, value] : entry.items()) {
      expect(value.is_string(), "{}.{} is not a text", kMetadata, name);
      metadata[name] = value.get<std::string>();
    }
  }

  std::vector<std::uint64_t> read_numbers(const std::string& name, const Json& entry, const char* member) const {
    const auto found = entry.find(member);
    expect(found != entry.end() && found->is_array(), "{}: {} is not an array", name, member);
    std::vector<std::uint64_t> numbers;
    for (const Json& number : *found) {
      expect(number.is_number_unsigned(), "{}: {} holds {}", name, member, number.type_name());
      numbers.push_back(number.get<std::uint64_t>());
    }
    return numbers;
  }

  SafetensorsTensor read_tensor(const std::string& name, const Json& entry) const {
    expect(entry.is_object(), "{}: is not an object", name);
    const auto dtype = entry.find("dtype");
    expect(dtype != entry.end() && dtype->is_string(), "{}: dtype is not a text", name);
    SafetensorsTensor tensor{.name = name, .dtype = dtype->get<std::string>()};
    const auto known = std::find_if(kDtypeBits.begin(), kDtypeBits.end(),
                                    [&](const auto& candidate) { return candidate.first == tensor.dtype; });
    expect(known != kDtypeBits.end(), "{}: unknown dtype '{}'", name, tensor.dtype);

    // A zero extent makes the product 0, whatever comes after it.
    std::uint64_t bits = known->second;
    const std::vector<std::uint64_t> shape = read_numbers(name, entry, "shape");
    const bool empty = std::find(shape.begin(), shape.end(), 0U) != shape.end();
    for (const std::uint64_t extent : shape) {
      expect(extent <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()), "{}: an extent of {}",
             name, extent);
      expect(empty || bits <= std::numeric_limits<std::uint64_t>::max() / extent, "{}: its shape has too many elements",
             name);
      bits = empty ? 0 : bits * extent;
      tensor.shape.push_back(static_cast<std::int64_t>(extent));
    }
    const std::vector<std::uint64_t> offsets = read_numbers(name, entry, "data_offsets");
    expect(offsets.size() == 2 && offsets[0] <= offsets[1], "{}: data_offsets are not a begin and an end", name);
    expect(offsets[1] <= data_.size(), "{}: its data end at {} of {} bytes", name, offsets[1], data_.size());
    const std::uint64_t bytes = offsets[1] - offsets[0];
    expect(bits % 8 == 0 && bits / 8 == bytes, "{}: shape and dtype need {} bits, its data have {} bytes", name, bits,
           bytes);
    tensor.bytes = data_.subspan(static_cast<std::size_t>(offsets[0]), static_cast<std::size_t>(bytes));
    return tensor;
  }

  // Sorts by place; every byte of the data belongs to exactly one tensor.
  void check_layout(std::vector<SafetensorsTensor>& tensors) const {
    const auto begin_of = [&](const SafetensorsTensor& tensor) { return tensor.bytes.data() - data_.data(); };
    std::stable_sort(tensors.begin(), tensors.end(), [&](const auto& left, const auto& right) {
      return std::pair(begin_of(left), left.bytes.size()) < std::pair(begin_of(right), right.bytes.size());
    });
    std::ptrdiff_t next = 0;
    for (const SafetensorsTensor& tensor : tensors) {
      expect(begin_of(tensor) == next, "{}: its data begin at {}, those before it end at {}", tensor.name,
             begin_of(tensor), next);
      next += static_cast<std::ptrdiff_t>(tensor.bytes.size());
    }
    expect(static_cast<std::size_t>(next) == data_.size(), "{} bytes at its end belong to no tensor",
           data_.size() - static_cast<std::size_t>(next));
  }

  std::span<const std::byte> content_;
  std::span<const std::byte> data_;
  std::string_view origin_;
};

// A file that is removed again unless keep_as() succeeds.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& beside) : name_(beside.string() + ".XXXXXX") {
    descriptor_ = ::mkostemp(name_.data(), O_CLOEXEC);
    if (descriptor_ < 0) fail_with("creating");
  }
  ~TemporaryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!kept_) ::unlink(name_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(descriptor_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_with("writing");
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    }
  }

  // False if `file` is there already. Where the file system cannot promise that, it is looked for just before.
  bool keep_as(const std::filesystem::path& file) {
    const int closed = ::close(descriptor_);
    descriptor_ = -1;
    if (closed != 0) fail_with("writing");
    int renamed = ::renameat2(AT_FDCWD, name_.c_str(), AT_FDCWD, file.c_str(), RENAME_NOREPLACE);
    if (renamed != 0 && (errno == EINVAL || errno == ENOSYS)) {
      if (::access(file.c_str(), F_OK) == 0) return false;
      renamed = ::rename(name_.c_str(), file.c_str());
    }
    if (renamed != 0 && errno == EEXIST) return false;
    if (renamed != 0) fail_with("renaming");
    kept_ = true;
    return true;
  }

 private:
  [[noreturn]] void fail_with(std::string_view doing) const {
    fail(ErrorCode::io, "{} {}: {}", doing, name_, std::strerror(errno));
  }

  std::string name_;
  int descriptor_ = -1;
  bool kept_ = false;
};

}  // namespace

const SafetensorsTensor* Safetensors::find(std::string_view name) const {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const auto& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

Safetensors parse_safetensors(std::span<const std::byte> content, std::string_view origin) {
  return Parser(content, origin).parse();
}

std::vector<std::byte> read_file(const std::filesystem::path& file) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(file, error);
  if (error) fail(ErrorCode::io, "reading {}: {}", file.string(), error.message());
  std::ifstream stream(file, std::ios::binary);
  std::vector<std::byte> content(static_cast<std::size_t>(size));
  if (!stream.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(size))) {
    fail(ErrorCode::io, "reading {}: cannot be read", file.string());
  }
  return content;
}

std::string safetensors_header(const SafetensorsMetadata& metadata, std::span<const SafetensorsTensor> tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  std::size_t offset = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    header[tensor.name] = {
        {"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length(kLengthBytes, '\0');
  for (std::size_t i = 0; i < kLengthBytes; ++i) length[i] = static_cast<char>(text.size() >> 8 * i & 0xff);
  return length + text;
}

bool write_safetensors(const std::filesystem::path& file, const SafetensorsMetadata& metadata,
                       std::span<const SafetensorsTensor> tensors) {
  TemporaryFile temporary(file);
  const std::string header = safetensors_header(metadata, tensors);
  temporary.write(std::as_bytes(std::span(header)));
  for (const SafetensorsTensor& tensor : tensors) temporary.write(tensor.bytes);
  return temporary.keep_as(file);
}

std::string_view safetensors_dtype(DType dtype) {
  for (const auto& [name, ours] : kOurs) {
    if (ours == dtype) return name;
  }
  GDNJIT_CHECK(false, "dtype {} has no name in safetensors", static_cast<int>(dtype));
}

std::optional<DType> dtype_of_safetensors(std::string_view name) {
  for (const auto& [known, ours] : kOurs) {
    if (known == name) return ours;
  }
  return std::nullopt;
}

}  // namespace gdnjit

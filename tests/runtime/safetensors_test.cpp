#include "runtime/safetensors.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <array>
#include <cstring>
#include <limits>
#include <random>

#include "tests/runtime/fakes.h"
#include "tests/runtime/file_size_limit.h"
#include "tests/support/error_of.h"

using namespace gdnjit;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

// A file by hand: the header's length, the header, and as many data bytes as asked for.
std::string file_of(const std::string& header, std::size_t data_bytes, std::int64_t claimed = -1) {
  std::string file(8, '\0');
  const auto length = claimed < 0 ? header.size() : static_cast<std::uint64_t>(claimed);
  for (std::size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> 8 * i & 0xff);
  file += header;
  for (std::size_t i = 0; i < data_bytes; ++i) file += static_cast<char>(i);
  return file;
}

const std::string kTwoTensors = R"({"__metadata__": {"format": "pt", "note": "ü"},)"
                                R"( "b": {"dtype": "F32", "shape": [2, 1], "data_offsets": [6, 14]},)"
                                R"( "a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]},)"
                                R"( "none": {"dtype": "I64", "shape": [0, 5], "data_offsets": [14, 14]},)"
                                R"( "one": {"dtype": "U8", "shape": [], "data_offsets": [14, 15]}}   )";

std::string refusal(const std::string& header, std::size_t data_bytes, std::int64_t claimed = -1) {
  const std::string file = file_of(header, data_bytes, claimed);
  const Error error = error_of([&] { parse_safetensors(bytes_of(file), "x.safetensors"); });
  CHECK(error.code() == ErrorCode::io);
  CHECK(std::string(error.what()).starts_with("x.safetensors: not a safetensors file: "));
  return error.what();
}

// One tensor with these members, over four bytes of data.
std::string refused(const std::string& members) { return refusal("{\"t\": {" + members + "}}", 4); }

}  // namespace

TEST_CASE("a file of another program is read: metadata, tensors in the order of their bytes, empty ones and scalars") {
  const std::string file = file_of(kTwoTensors, 15);
  const Safetensors read = parse_safetensors(bytes_of(file), "x");
  CHECK(read.metadata == SafetensorsMetadata{{"format", "pt"}, {"note", "ü"}});
  REQUIRE(read.tensors.size() == 4);
  CHECK(read.tensors[0].name == "a");
  CHECK(read.tensors[1].name == "b");
  CHECK(read.tensors[1].shape == std::vector<std::int64_t>{2, 1});
  CHECK(read.tensors[1].bytes.size() == 8);
  CHECK(std::to_integer<int>(read.tensors[1].bytes[0]) == 6);
  CHECK(read.find("none")->bytes.empty());
  CHECK(read.find("one")->shape.empty());
  CHECK(read.find("two") == nullptr);
}

TEST_CASE("a file cut at any byte is refused") {
  const std::string file = file_of(kTwoTensors, 15);
  for (std::size_t length = 0; length < file.size(); ++length) {
    CAPTURE(length);
    const Error error = error_of([&] { parse_safetensors(bytes_of(file).first(length), "x"); });
    CHECK(error.code() == ErrorCode::io);
  }
  CHECK_THROWS_AS(parse_safetensors(bytes_of(file + "!"), "x"), Error);
}

TEST_CASE("bytes changed at random are read or refused, and never more than the file is touched") {
  std::mt19937 random(1);
  const std::string whole = file_of(kTwoTensors, 15);
  int read = 0, refused_files = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string file = whole;
    for (std::uint32_t changes = 1 + random() % 3; changes > 0; --changes) {
      file[random() % file.size()] =
          random() % 2 == 0 ? static_cast<char>('0' + random() % 10) : static_cast<char>(random() % 256);
    }
    const Error error = error_of([&] {
      for (const SafetensorsTensor& tensor : parse_safetensors(bytes_of(file), "x").tensors) {
        const auto begin = reinterpret_cast<const char*>(tensor.bytes.data()) - file.data();
        CHECK(begin >= 8);
        CHECK(begin + static_cast<std::ptrdiff_t>(tensor.bytes.size()) <= static_cast<std::ptrdiff_t>(file.size()));
      }
    });
    ++(error.code() == ErrorCode::ok ? read : refused_files);
  }
  CHECK(read > 100);
  CHECK(refused_files > 1000);
}

TEST_CASE("headers that claim too much are refused") {
  CHECK(refusal("{}", 0, 3).find("a header of 3 bytes in a file of 10") != std::string::npos);
  CHECK(refusal("{}", 0, std::numeric_limits<std::int64_t>::max()).find("in a file of 10") != std::string::npos);
  CHECK(refusal(std::string(kMaxSafetensorsHeader + 1, ' '), 0).find("more than") != std::string::npos);
  CHECK(refusal("", 4).find("does not begin") != std::string::npos);
  CHECK(refusal(" {}", 0).find("does not begin") != std::string::npos);
  CHECK(refusal("{\"t\": 1", 0).find("not a JSON object") != std::string::npos);
  CHECK(refusal("{\"\xff\": 1}", 0).find("not a JSON object") != std::string::npos);
  CHECK(
      refusal("{\"t\": " + std::string(100000, '[') + std::string(100000, ']') + "}", 0).find("t: is not an object") !=
      std::string::npos);
  CHECK(refusal(R"({"t": {}, "t": {}})", 0).find("'t' occurs twice") != std::string::npos);
  CHECK(refusal(R"({"__metadata__": {"n": 1}})", 0).find("__metadata__.n is not a text") != std::string::npos);
}

TEST_CASE("offsets, shapes and dtypes that do not fit are refused") {
  const std::string shape = R"("dtype": "F32", "shape": [1], )";
  CHECK(refused(shape + R"("data_offsets": [0, 8])").find("its data end at 8 of 4 bytes") != std::string::npos);
  CHECK(refused(shape + R"("data_offsets": [4, 0])").find("not a begin and an end") != std::string::npos);
  CHECK(refused(shape + R"("data_offsets": [0])").find("not a begin and an end") != std::string::npos);
  CHECK(refused(shape + R"("data_offsets": [-4, 4])").find("data_offsets holds number") != std::string::npos);
  CHECK(refused(shape + R"("data_offsets": [18446744073709551612, 18446744073709551615])").find("data end at") !=
        std::string::npos);
  CHECK(refused(shape + R"("data_offsets": [0, 1e400])").find("not a JSON object") != std::string::npos);
  CHECK(refused(R"("dtype": "F32", "shape": [1])").find("data_offsets is not an array") != std::string::npos);
  CHECK(refused(shape + R"("data_offsets": [1, 3])").find("need 32 bits, its data have 2 bytes") != std::string::npos);
  CHECK(refused(R"("dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4])")
            .find("too many elements") != std::string::npos);
  CHECK(refused(R"("dtype": "F32", "shape": [9223372036854775808, 0], "data_offsets": [0, 0])")
            .find("an extent of 9223372036854775808") != std::string::npos);
  CHECK(refused(R"("dtype": "F4", "shape": [1], "data_offsets": [0, 1])").find("need 4 bits") != std::string::npos);
  CHECK(refused(R"("dtype": "G32", "shape": [1], "data_offsets": [0, 4])").find("unknown dtype") != std::string::npos);
  CHECK(refused(R"("shape": [1], "data_offsets": [0, 4])").find("dtype is not a text") != std::string::npos);
}

TEST_CASE("holes, overlaps and bytes of nobody are refused") {
  const auto two = [](int begin, int end) {
    return fmt::format(R"({{"t": {{"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}},)"
                       R"( "u": {{"dtype": "U8", "shape": [{}], "data_offsets": [{}, {}]}}}})",
                       end - begin, begin, end);
  };
  CHECK(refusal(two(5, 8), 8).find("u: its data begin at 5, those before it end at 4") != std::string::npos);
  CHECK(refusal(two(2, 8), 8).find("u: its data begin at 2, those before it end at 4") != std::string::npos);
  CHECK(refusal(two(0, 4), 4).find("its data begin at 0, those before it end at 4") != std::string::npos);
  CHECK(refusal(two(4, 6), 8).find("2 bytes at its end belong to no tensor") != std::string::npos);
}

TEST_CASE("what is written is read again, and an existing file stays as it is") {
  fakes::TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "a.safetensors";
  const std::array<float, 3> numbers{1.5F, -2.0F, 0.25F};
  const std::array<std::int64_t, 2> slots{7, -1};
  const std::vector<SafetensorsTensor> tensors{{"slots", "I64", {2}, std::as_bytes(std::span(slots))},
                                               {"x", "F32", {1, 3}, std::as_bytes(std::span(numbers))},
                                               {"empty", "BF16", {0, 4}, {}}};
  CHECK(write_safetensors(file, {{"operator", "a \"quoted\" one"}}, tensors));
  const std::vector<std::byte> content = read_file(file);
  const Safetensors read = parse_safetensors(content, file.string());
  CHECK(read.metadata.at("operator") == "a \"quoted\" one");
  REQUIRE(read.find("x") != nullptr);
  CHECK(std::memcmp(read.find("x")->bytes.data(), numbers.data(), sizeof(numbers)) == 0);
  CHECK((read.find("slots")->bytes.data() - content.data()) % 8 == 0);
  CHECK(read.find("empty")->shape == std::vector<std::int64_t>{0, 4});

  CHECK_FALSE(write_safetensors(file, {}, {}));
  CHECK(read_file(file) == content);
  const auto entries = std::filesystem::directory_iterator(folder.path());
  CHECK(std::distance(begin(entries), end(entries)) == 1);
}

TEST_CASE("a file that cannot be written or read is an error that names it") {
  fakes::TemporaryFolder folder;
  const Error unwritable = error_of([&] { write_safetensors(folder.path() / "gone" / "a.safetensors", {}, {}); });
  CHECK(unwritable.code() == ErrorCode::io);
  CHECK(says(unwritable, "gone/a.safetensors"));
  CHECK(says(error_of([&] { read_file(folder.path() / "none"); }), "none: No such file"));
  CHECK(error_of([&] { read_file(folder.path()); }).code() == ErrorCode::io);
}

TEST_CASE("a write that fails half way leaves nothing behind") {
  fakes::TemporaryFolder folder;
  const std::vector<std::byte> data(100000);
  const std::vector<SafetensorsTensor> tensors{{"x", "U8", {100000}, data}};
  const FileSizeLimit limit(50000);  // stands for a full disk
  const Error error = error_of([&] { write_safetensors(folder.path() / "a.safetensors", {}, tensors); });
  CHECK(error.code() == ErrorCode::io);
  CHECK(says(error, "writing "));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("every dtype of a tensor has a name") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::i32, DType::i64}) {
    CHECK(dtype_of_safetensors(safetensors_dtype(dtype)) == dtype);
  }
  CHECK(dtype_of_safetensors("F64") == std::nullopt);
}

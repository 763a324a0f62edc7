// Weights of other programs: small tensors written out word by word, and what they are worth.
#include <doctest/doctest.h>
#include <gdnjit/moe_convert.h>

#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "runtime/half_float.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::moe;
using tests::thrown;

namespace {

using Words = std::vector<std::uint32_t>;
using Numbers = std::vector<float>;
using Bytes = std::vector<std::uint8_t>;

TensorView words(Words& data, std::initializer_list<std::int64_t> shape) {
  return TensorView::dense(data.data(), DType::i32, shape);
}
TensorView floats(Numbers& data, std::initializer_list<std::int64_t> shape) {
  return TensorView::dense(data.data(), DType::f32, shape);
}
TensorView bytes(Bytes& data, std::initializer_list<std::int64_t> shape) {
  return TensorView::dense(data.data(), DType::u8, shape);
}

std::vector<std::uint8_t> plain(const std::vector<std::byte>& data) {
  std::vector<std::uint8_t> result;
  for (const std::byte byte : data) result.push_back(std::to_integer<std::uint8_t>(byte));
  return result;
}

// Eight rows of eight columns in two groups.
struct Gptq {
  Words qweight{0x76543210, 0xfedcba98, 0x00000000, 0xffffffff, 0x01234567, 0x88888888, 0xf0f0f0f0, 0x12481248};
  Words qzeros{0x77777777, 0x76543210};  // v1: zeros of 8; 1, 2, .. 8
  Numbers scales{1, 0.5F, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 0.25F};
  Words g_idx{0, 0, 0, 0, 1, 1, 1, 1};
  GptqTensors tensors() {
    return {words(qweight, {1, 8}), words(qzeros, {2, 1}), floats(scales, {2, 8}), words(g_idx, {8})};
  }
};
const Numbers kGptqWeights{
    -8, -7, -6, -5,  6,   8,  10,    12,     // q = k
    0,  .5, 1,  1.5, 20,  22, 24,    26,     // q = 8 + k
    -8, -8, -8, -8,  -6,  -6, -6,    -6,     // q = 0
    7,  7,  7,  7,   22,  22, 22,    22,     // q = 15
    -1, -2, -3, -4,  -4,  -6, -8,    -10,    // q = 7 - k
    0,  0,  0,  0,   4,   4,  4,     4,      // q = 8
    -8, 7,  -8, 7,   -14, 16, -14,   16,     // q = 0, 15
    0,  -4, -6, -7,  0,   -1, -1.5F, -1.75F  // q = 8, 4, 2, 1
};

// 8 rows and 64 columns of q = (k + 5 (k / 16) + 3 n) % 16, with four inner tiles: [1, 1, 32, 2].
const Words kTinygemmWords{
    0xe691d580, 0x803b7f2a, 0x08b3f7a2, 0xa25d914c, 0x2ad519c4, 0xc47fb36e, 0x4cf73be6, 0xe691d580,
    0x19c408b3, 0xb36ea25d, 0x3be62ad5, 0xd580c47f, 0x5d084cf7, 0xf7a2e691, 0x7f2a6e19, 0x19c408b3,
    0x4cf73be6, 0xe691d580, 0x6e195d08, 0x08b3f7a2, 0x803b7f2a, 0x2ad519c4, 0xa25d914c, 0x4cf73be6,
    0x7f2a6e19, 0x19c408b3, 0x914c803b, 0x3be62ad5, 0xb36ea25d, 0x5d084cf7, 0xd580c47f, 0x7f2a6e19,
    0xa25d914c, 0x4cf73be6, 0xc47fb36e, 0x6e195d08, 0xe691d580, 0x803b7f2a, 0x08b3f7a2, 0xa25d914c,
    0xd580c47f, 0x7f2a6e19, 0xf7a2e691, 0x914c803b, 0x19c408b3, 0xb36ea25d, 0x3be62ad5, 0xd580c47f,
    0x08b3f7a2, 0xa25d914c, 0x2ad519c4, 0xc47fb36e, 0x4cf73be6, 0xe691d580, 0x6e195d08, 0x08b3f7a2,
    0x3be62ad5, 0xd580c47f, 0x5d084cf7, 0xf7a2e691, 0x7f2a6e19, 0x19c408b3, 0x914c803b, 0x3be62ad5};

}  // namespace

TEST_CASE("GPTQ: eight rows in a word, and zeros less one in version 1") {
  Gptq fixture;
  const Int4Matrix matrix = int4_from_gptq(fixture.tensors(), 4, GptqFormat::v1);
  CHECK(matrix.rows == 8);
  CHECK(matrix.columns == 8);
  CHECK(matrix.zero_point == ZeroPoint::packed);
  CHECK(dequantized(matrix) == kGptqWeights);
  CHECK(Bytes(matrix.weights.begin(), matrix.weights.begin() + 8) ==
        Bytes{0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe});
  CHECK(plain(matrix.zeros) == Bytes{0x88, 0x21, 0x88, 0x43, 0x88, 0x65, 0x88, 0x87});

  Gptq second;
  second.qzeros = {0x88888888, 0x87654321};
  GptqTensors tensors = second.tensors();
  tensors.g_idx = {};
  CHECK(dequantized(int4_from_gptq(tensors, 4, GptqFormat::v2)) == kGptqWeights);
  tensors.qzeros = {};
  const Int4Matrix symmetric = int4_from_gptq(tensors, 4, GptqFormat::v1);
  CHECK(symmetric.zero_point == ZeroPoint::eight);
  CHECK(dequantized(symmetric)[15] == 14);  // (15 - 8) 2
}

TEST_CASE("GPTQ: act order and overflowed zeros are refused") {
  Gptq fixture;
  fixture.g_idx[2] = 1;
  CHECK(thrown([&] { int4_from_gptq(fixture.tensors(), 4, GptqFormat::v1); }) ==
        "g_idx[2]=1: act order is not supported, groups must be runs of group_size=4 columns (here 0)");
  Gptq overflowed;
  overflowed.qzeros[1] = 0x7f543210;
  CHECK(thrown([&] {
          int4_from_gptq(overflowed.tensors(), 4, GptqFormat::v1);
        }).starts_with("qzeros: group 1, column 6 holds 15: in format v1 that is a zero point of 16, or one of 0"));
  CHECK(dequantized(int4_from_gptq(overflowed.tensors(), 4, GptqFormat::v2))[6 * 8 + 4] == -30);  // (0 - 15) 2
}

TEST_CASE("AWQ: eight columns in a word, the even ones first") {
  Words qweight{0x75316420, 0x8ace9bdf};  // q = n; q = 15 - n
  Words qzeros{0x42423131};               // 1, 2, 3, 4, 1, 2, 3, 4
  Numbers scales{1, 1, 1, 1, 2, 2, 2, 2};
  const AwqTensors tensors{words(qweight, {2, 1}), words(qzeros, {1, 1}), floats(scales, {1, 8})};
  const Int4Matrix matrix = int4_from_awq(tensors, 0);
  CHECK(matrix.group_size == 2);
  CHECK(dequantized(matrix) == Numbers{-1, 14, -1, 12, -1, 10, -1, 8, 6, 20, 6, 16, 6, 12, 6, 8});
  CHECK(matrix.weights == Bytes{0xf0, 0xe1, 0xd2, 0xc3, 0xb4, 0xa5, 0x96, 0x87});
  CHECK(plain(matrix.zeros) == Bytes{0x21, 0x43, 0x21, 0x43});
}

TEST_CASE("compressed-tensors: padded words, a short last group, with zero points and without") {
  Words packed{0x76543210, 0x98, 0xffffffff, 0xff};
  std::vector<std::uint16_t> scale{0x3f80, 0x4000, 0x3f00, 0x3f80, 0x3f80, 0x4080};  // bf16: 1, 2, 0.5; 1, 1, 4
  Words zeros{0xf8, 0x10, 0xc4};
  CompressedTensors tensors{.weight_packed = words(packed, {2, 2}),
                            .weight_scale = TensorView::dense(scale.data(), DType::bf16, {2, 3})};
  const Int4Matrix symmetric = int4_from_compressed_tensors(tensors, 10, 4);
  CHECK(symmetric.zero_point == ZeroPoint::eight);
  CHECK(symmetric.scale_dtype == DType::bf16);
  CHECK(std::memcmp(symmetric.scales.data(), scale.data(), 12) == 0);
  CHECK(dequantized(symmetric) == Numbers{-8, -7, -6, -5, -8, -6, -4, -2, 0, 0.5F, 7, 7, 7, 7, 7, 7, 7, 7, 28, 28});
  tensors.weight_zero_point = words(zeros, {1, 3});
  CHECK(dequantized(int4_from_compressed_tensors(tensors, 10, 4)) ==
        Numbers{-8, -7, -6, -5, 8, 10, 12, 14, 2, 2.5F, 0, 0, 0, 0, 14, 14, 14, 14, 12, 12});
}

TEST_CASE("compressed-tensors of 8 bits: 128 added, no zero points") {
  Words packed{0x81807f00, 0x000000ff};  // -128, -1, 0, 1; 127
  Numbers scale{0.5F};
  CompressedTensors tensors{.weight_packed = words(packed, {1, 2}), .weight_scale = floats(scale, {1, 1})};
  const Int8Matrix matrix = int8_from_compressed_tensors(tensors, 5, 0);
  CHECK(matrix.weights == std::vector<std::int8_t>{-128, -1, 0, 1, 127});
  CHECK(dequantized(matrix) == Numbers{-64, -0.5F, 0, 0.5F, 63.5F});
  tensors.weight_zero_point = words(packed, {1, 2});
  CHECK(thrown([&] { int8_from_compressed_tensors(tensors, 5, 0); }) ==
        "weight_zero_point: weights of 8 bits must be symmetric");
}

TEST_CASE("tinygemm: words of a lane's share of two tiles") {
  Words weight = kTinygemmWords;
  Numbers scaling;  // two groups of 32 columns: scale n + 1, zero n / 2; scale 2, zero -1
  for (int n = 0; n < 8; ++n) scaling.insert(scaling.end(), {static_cast<float>(n + 1), static_cast<float>(n) / 2});
  for (int n = 0; n < 8; ++n) scaling.insert(scaling.end(), {2, -1});
  const Int4Matrix matrix = int4_from_tinygemm({words(weight, {1, 1, 32, 2}), floats(scaling, {2, 8, 2})}, 32);
  CHECK(matrix.zero_point == ZeroPoint::real);
  const Numbers weights = dequantized(matrix);
  // Row 0 counts from 0 in its first 16 columns, from 5 in the next.
  CHECK(Numbers(weights.begin(), weights.begin() + 20) ==
        Numbers{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, -3, -2, -1, 0});
  for (int n = 0; n < 8; ++n) {
    for (int k = 0; k < 64; ++k) {
      const int q = (k + 5 * (k / 16) + 3 * n) % 16;
      const float scale = k < 32 ? static_cast<float>(n + 1) : 2.0F;
      const float zero = k < 32 ? static_cast<float>(n) / 2 : -1.0F;
      CAPTURE(n);
      CAPTURE(k);
      CHECK(weights[static_cast<std::size_t>(n * 64 + k)] == static_cast<float>(q - 8) * scale + zero);
    }
  }
}

TEST_CASE("tinygemm: tiles of rows and of columns follow one another") {
  Words weight;
  for (const std::uint32_t changed : {0U, 0x11111111U, 0x22222222U, 0x33333333U}) {
    for (const std::uint32_t word : kTinygemmWords) weight.push_back(word ^ changed);
  }
  Numbers scaling;
  for (int n = 0; n < 16; ++n) scaling.insert(scaling.end(), {1, 0});
  const Numbers weights =
      dequantized(int4_from_tinygemm({words(weight, {2, 2, 32, 2}), floats(scaling, {1, 16, 2})}, 0));
  bool right = true;
  for (int n = 0; n < 16; ++n) {
    for (int k = 0; k < 128; ++k) {
      const int q = (k % 64 + 5 * (k % 64 / 16) + 3 * (n % 8)) % 16 ^ (n / 8 * 2 + k / 64);
      right = right && weights[static_cast<std::size_t>(n * 128 + k)] == static_cast<float>(q - 8);
    }
  }
  CHECK(right);
}

TEST_CASE("HQQ: the first half of the groups in the high nibbles, zeros that are no whole numbers") {
  Bytes w_q{0x08, 0x19, 0x2a, 0x3b, 0x4c, 0x5d, 0x6e, 0x7f};  // groups 0 and 2, then 1 and 3
  Numbers scale{1, 0.5F, 2, 1}, zero{1.5F, 4.25F, 8, 15};
  const HqqTensors tensors{bytes(w_q, {2, 4}), floats(scale, {4, 1}), floats(zero, {4, 1})};
  const Numbers expected{-1.5F, -0.5F, 0.5F, 1.5F, -0.125F, 0.375F, 0.875F, 1.375F, 0, 2, 4, 6, -3, -2, -1, 0};
  const Int4Matrix matrix = int4_from_hqq(tensors, 8);
  CHECK(matrix.rows == 2);
  CHECK(matrix.scale_dtype == DType::f32);
  CHECK(dequantized(matrix) == expected);
  CHECK(dequantized(int4_from_hqq(tensors, 8, DType::f16)) == expected);  // these numbers need no rounding
  CHECK(thrown([&] { int4_from_hqq(tensors, 10); }) == "w_q: groups of 4 columns must divide K=10 (axis = 1)");
  CHECK(thrown([&] { int4_from_hqq(tensors, 12); }) == "w_q: 4 groups are not whole rows of K=12 columns");
}

TEST_CASE("bytes with 128 added") {
  Bytes weights{0, 127, 128, 129, 255, 130};
  Numbers scales{1, 0.5F, 2, 4};
  const Int8Matrix matrix = int8_from_uint8(bytes(weights, {2, 3}), floats(scales, {2, 2}), 2);
  CHECK(matrix.weights == std::vector<std::int8_t>{-128, -1, 0, 1, 127, 2});
  CHECK(dequantized(matrix) == Numbers{-128, -1, 0, 2, 254, 8});
}

TEST_CASE("zeros of 8 are dropped from all matrices of a layer or from none") {
  Gptq even, uneven;
  even.qzeros = {0x88888888, 0x88888888};
  std::vector<Int4Matrix> matrices{int4_from_gptq(even.tensors(), 4, GptqFormat::v2),
                                   int4_from_gptq(uneven.tensors(), 4, GptqFormat::v2)};
  CHECK_FALSE(drop_zeros_of_eight(matrices));
  CHECK(matrices[0].zero_point == ZeroPoint::packed);
  const Numbers before = dequantized(matrices[0]);
  CHECK(drop_zeros_of_eight(std::span(matrices).first(1)));
  CHECK(matrices[0].zero_point == ZeroPoint::eight);
  CHECK(matrices[0].zeros.empty());
  CHECK(dequantized(matrices[0]) == before);
}

TEST_CASE("tensors of a wrong shape or dtype are named") {
  Gptq fixture;
  const auto spoiled = [&](const std::function<void(GptqTensors&)>& spoil, int group_size = 4) {
    GptqTensors tensors = fixture.tensors();
    spoil(tensors);
    return thrown([&] { int4_from_gptq(tensors, group_size, GptqFormat::v1); });
  };
  CHECK(spoiled([](GptqTensors& t) { t.qweight.rank = 1; }) == "qweight: has rank 1, must be 2");
  CHECK(spoiled([](GptqTensors& t) { t.qweight.dtype = DType::u8; }) == "qweight: has dtype u8, the problem says i32");
  CHECK(spoiled([](GptqTensors& t) { t.scales.shape[0] = 1; }) == "scales: dimension 0 is 1, must be 2");
  CHECK(spoiled([](GptqTensors& t) { t.scales.dtype = DType::i32; }) == "scales=i32: must be f32, bf16 or f16");
  CHECK(spoiled([](GptqTensors& t) { t.qzeros.shape[1] = 2; }) == "qzeros: dimension 1 is 2, must be 1");
  CHECK(spoiled([](GptqTensors& t) { t.qweight.strides[0] = 9, t.qweight.shape[0] = 2; }, 8).starts_with("qweight: "));
  CHECK(spoiled([](GptqTensors&) {}, 3) == "scales: dimension 0 is 2, must be 3");
  CHECK(spoiled([](GptqTensors&) {}, -1) == "group_size=-1: must not be negative (0 is the whole row)");
}

TEST_CASE("scales of 16 bits convert exactly, and round to nearest even") {
  bool same = true;
  for (std::uint32_t pattern = 0; pattern < 65536; ++pattern) {
    const auto bits = static_cast<std::uint16_t>(pattern);
    const auto equal = [](double left, double right) {
      return left == right || (std::isnan(left) && std::isnan(right));
    };
    same = same && equal(load_float(DType::f16, &bits, 0), reference::f16_value(bits)) &&
           equal(load_float(DType::bf16, &bits, 0), reference::bf16_value(bits));
    const float exact = load_float(DType::f16, &bits, 0);
    for (const float value : {exact, std::nextafter(exact, 1e9F), exact * 1.0004883F, exact * 0.33F}) {
      std::uint16_t half = 0, brain = 0;
      store_float(DType::f16, &half, 0, value);
      store_float(DType::bf16, &brain, 0, value);
      same =
          same && (std::isnan(value) || (half == reference::f16_bits(value) && brain == reference::bf16_bits(value)));
    }
  }
  CHECK(same);
}

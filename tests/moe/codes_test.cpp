// Every code of every format, in every place of a row, is the number that it stands for: products with inputs that are
// a power of two in one place and 0 elsewhere are that number, bit for bit, whatever the power. Codes of scales too.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/moe/grouped_check.h"
#include "tests/reference/moe_weights.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

constexpr int kColumns = 64;  // of w2, and tokens: token i has its number in column i
constexpr int kRows = 256;
constexpr const char* kMatvecTiles = "path=matvec row_tiles=1 warps_n=4 warps_k=1 column_tiles=1 stages=2";

// A call of moe.down with one expert of kRows x kColumns whose scales are 1, and the number of token i `input(i)`.
struct Call {
  FieldMap problem;
  HostCall tensors;

  template <typename Input>
  Call(const std::string& weights, const char* io, Input input)
      : problem(find_operator("moe.down")
                    .complete(parse_fields(fmt::format("M={} D={} I={} E=1 k=1 output=f32 io={} h={} weights={}",
                                                       kColumns, kRows, kColumns, io, io, weights)))),
        tensors(reference::make_workload("moe.down", problem, reference::Inputs::typical, 1)->tensors()) {
    fill("h", 0.0);
    fill("topk_ids", 0.0);
    fill("topk_weights", 1.0);
    for (int token = 0; token < kColumns; ++token) store("h", token * kColumns + token, input(token));
    if (weights == "mxfp4" || weights == "nvfp4") {
      std::ranges::fill(bytes("w2_scale"), std::byte{static_cast<unsigned char>(weights == "mxfp4" ? 127 : 0x38)});
    } else {
      fill("w2_scale", 1.0);
    }
    if (tensors.has("w2_global_scale")) fill("w2_global_scale", 1.0);
  }

  std::vector<std::byte>& bytes(std::string_view name) { return tensors[name].bytes; }
  void store(std::string_view name, std::int64_t index, double value) {
    reference::store_element(tensors[name].spec.dtype, bytes(name).data(), index, value);
  }
  void fill(std::string_view name, double value) {
    const auto count = static_cast<std::int64_t>(bytes(name).size()) / dtype_bytes(tensors[name].spec.dtype);
    for (std::int64_t i = 0; i < count; ++i) store(name, i, value);
  }

  // Bytes of a tensor with a row for each of w2: byte c of a column lies in row c - 37 column.
  void fill_codes(std::string_view name) {
    std::vector<std::byte>& codes = bytes(name);
    const std::size_t row_bytes = codes.size() / kRows;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = std::byte{static_cast<unsigned char>(i / row_bytes + i % row_bytes * 37)};
    }
  }

  void run(const char* tiles) {
    const auto runtime = emulator_runtime("sm_90a");
    make_plan(*runtime, find_operator("moe.down"), problem, tiles_text(tiles))->run(tensors.views(), nullptr);
  }
  double y(int token, int row) { return reference::load_element(DType::f32, bytes("y").data(), token * kRows + row); }
  // Row `row` of w2, decoded.
  std::vector<double> row_of(int row) {
    const auto experts = from_fields<moe::ExpertsProblem>(problem);
    reference::StoredWeights stored{.data = &tensors["w2"], .scale = &tensors["w2_scale"]};
    if (tensors.has("w2_global_scale")) stored.global_scale = &tensors["w2_global_scale"];
    std::vector<double> values(kColumns);
    reference::decode_row(experts, moe::down_shape(experts, false), stored, 0, row, values);
    return values;
  }
};

struct Mistakes {
  int count = 0;
  std::string first;
  void compare(int token, int row, double got, double expected) {
    if (got == expected || (std::isnan(got) && std::isnan(expected))) return;
    if (count++ == 0) first = fmt::format("row {} column {}: {}, not {}", row, token, got, expected);
  }
  std::string text() const { return count == 0 ? "" : fmt::format("{} wrong, {}", count, first); }
};

std::string check_weights(const std::string& weights, const char* io, const char* tiles) {
  // Powers around 1 that reach about as far as the dtype allows.
  const int step = std::string_view(io) == "f16" ? 7 : 50;
  const auto input = [&](int token) { return std::ldexp(1.0, (token % 5 - 2) * step); };
  Call call(weights, io, input);
  call.fill_codes("w2");
  call.run(tiles);
  Mistakes mistakes;
  for (int row = 0; row < kRows; ++row) {
    const std::vector<double> values = call.row_of(row);
    for (int token = 0; token < kColumns; ++token) {
      double expected = values[static_cast<std::size_t>(token)];
      if (std::isnan(expected)) {  // the two codes of NaN of e4m3: docs/kernels/moe_matvec.md
        const std::byte code = call.bytes("w2")[static_cast<std::size_t>(row * kColumns + token)];
        expected = code == std::byte{0x7f} ? 480.0 : -480.0;
      }
      mistakes.compare(token, row, call.y(token, row), expected * input(token));
    }
  }
  return mistakes.text();
}

std::string check_scales(const std::string& weights, const char* tiles) {
  Call call(weights, "bf16", [](int) { return 1.0; });
  std::ranges::fill(call.bytes("w2"), std::byte{0x22});  // 1 and 1
  call.fill_codes("w2_scale");
  call.run(tiles);
  Mistakes mistakes;
  for (int row = 0; row < kRows; ++row) {
    const std::vector<double> values = call.row_of(row);
    // 0 times NaN is NaN: one such group spoils its row.
    const bool spoilt = std::ranges::any_of(values, [](double value) { return std::isnan(value); });
    for (int token = 0; token < kColumns; ++token) {
      mistakes.compare(token, row, call.y(token, row), spoilt ? std::nan("") : values[static_cast<std::size_t>(token)]);
    }
  }
  return mistakes.text();
}

}  // namespace

TEST_CASE("every code is its number in both classes, to the bit, for inputs of every size") {
  for (const char* weights : {"mxfp4", "nvfp4", "fp8_block", "int4", "int8"}) {
    for (const char* io : {"bf16", "f16", "f32"}) {
      for (const char* tiles : {kMatvecTiles, kTiles}) {
        CAPTURE(weights);
        CAPTURE(io);
        CAPTURE(tiles);
        CHECK(check_weights(weights, io, tiles) == "");
      }
    }
  }
}

TEST_CASE("every code of a scale is its number, NaN among them") {
  for (const char* weights : {"mxfp4", "nvfp4"}) {
    for (const char* tiles : {kMatvecTiles, kTiles}) {
      CAPTURE(weights);
      CAPTURE(tiles);
      CHECK(check_scales(weights, tiles) == "");
    }
  }
}

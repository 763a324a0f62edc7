// Every code of every format, in every place of a row, is the number that it stands for: products with inputs that are
// a power of two in one place and 0 elsewhere are that number, bit for bit, whatever the power.
#include <doctest/doctest.h>

#include <cmath>

#include "tests/moe/grouped_check.h"
#include "tests/reference/moe_weights.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

constexpr int kColumns = 64;  // of w2, and tokens: token i has its number in column i
constexpr int kRows = 256;

// Powers around 1 that reach as far as a number of the dtype allows.
double input(DType dtype, int token) { return std::ldexp(1.0, (token % 5 - 2) * (dtype == DType::f16 ? 7 : 50)); }

void fill_scales(HostCall& call, std::string_view weights) {
  std::vector<std::byte>& scales = call["w2_scale"].bytes;
  if (weights == "mxfp4" || weights == "nvfp4") {
    std::fill(scales.begin(), scales.end(), std::byte{static_cast<unsigned char>(weights == "mxfp4" ? 127 : 0x38)});
  } else {
    const DType dtype = call["w2_scale"].spec.dtype;
    for (std::size_t i = 0; i < scales.size() / static_cast<std::size_t>(dtype_bytes(dtype)); ++i)
      reference::store_element(dtype, scales.data(), static_cast<std::int64_t>(i), 1.0);
  }
  if (call.has("w2_global_scale")) reference::store_element(DType::f32, call["w2_global_scale"].bytes.data(), 0, 1.0);
}

// Code c of a column lies in row c - 37 column, so that every column and every byte sees all of them.
void fill_codes(HostCall& call) {
  std::vector<std::byte>& codes = call["w2"].bytes;
  const std::size_t row_bytes = codes.size() / kRows;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    codes[i] = std::byte{static_cast<unsigned char>(i / row_bytes + i % row_bytes * 37)};
  }
}

// What the two codes of NaN of e4m3 read as: docs/kernels/moe_matvec.md.
double nan_code_value(HostCall& call, int row, int column) {
  const auto code = static_cast<std::uint8_t>(call["w2"].bytes[static_cast<std::size_t>(row * kColumns + column)]);
  return code == 0x7f ? 480.0 : -480.0;
}

// How many of y are not what the codes stand for, with the first of them.
std::string wrong_numbers(HostCall& call, const FieldMap& problem, DType io) {
  const auto experts = from_fields<moe::ExpertsProblem>(problem);
  reference::StoredWeights stored{.data = &call["w2"], .scale = &call["w2_scale"]};
  if (call.has("w2_global_scale")) stored.global_scale = &call["w2_global_scale"];
  int wrong = 0;
  std::string first;
  for (int row = 0; row < kRows; ++row) {
    std::vector<double> values(kColumns);
    reference::decode_row(experts, moe::down_shape(experts, false), stored, 0, row, values);
    for (int token = 0; token < kColumns; ++token) {
      double expected = values[static_cast<std::size_t>(token)];
      if (std::isnan(expected)) expected = nan_code_value(call, row, token);
      expected *= input(io, token);
      const double got = reference::load_element(DType::f32, call["y"].bytes.data(), token * kRows + row);
      if (got == expected) continue;
      if (wrong++ == 0) first = fmt::format("row {} column {}: {}, not {}", row, token, got, expected);
    }
  }
  return wrong == 0 ? "" : fmt::format("{} wrong, {}", wrong, first);
}

std::string check_codes(const std::string& weights, const char* io_name, const FieldMap& tiles) {
  const auto runtime = emulator_runtime("sm_90a");
  const Operator& down = find_operator("moe.down");
  const FieldMap problem = down.complete(
      parse_fields(fmt::format("M={} D={} I={} E=1 k=1 output=f32 io={} h={} weights={}", kColumns, kRows, kColumns,
                               io_name, io_name, weights)));
  const auto io = from_fields<moe::ExpertsProblem>(problem).io_dtype;
  HostCall call(reference::make_workload("moe.down", problem, reference::Inputs::typical, 1)->tensors());
  fill_codes(call);
  fill_scales(call, weights);
  for (int token = 0; token < kColumns; ++token) {
    for (int column = 0; column < kColumns; ++column) {
      reference::store_element(io, call["h"].bytes.data(), token * kColumns + column,
                               column == token ? input(io, token) : 0.0);
    }
    reference::store_element(DType::i32, call["topk_ids"].bytes.data(), token, 0);
    reference::store_element(DType::f32, call["topk_weights"].bytes.data(), token, 1.0);
  }
  make_plan(*runtime, down, problem, tiles)->run(call.views(), nullptr);
  return wrong_numbers(call, problem, io);
}

}  // namespace

TEST_CASE("every code is its number in both classes, to the bit, for inputs of every size") {
  const auto matvec = tiles_text("path=matvec row_tiles=1 warps_n=4 warps_k=1 column_tiles=1 stages=2");
  for (const char* weights : {"mxfp4", "nvfp4", "fp8_block", "int4", "int8"}) {
    for (const char* io : {"bf16", "f16", "f32"}) {
      CAPTURE(weights);
      CAPTURE(io);
      CHECK(check_codes(weights, io, matvec) == "");
      CHECK(check_codes(weights, io, tiles_text(kTiles)) == "");
    }
  }
}

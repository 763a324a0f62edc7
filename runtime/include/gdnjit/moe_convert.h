// Quantised weights of other programs as the kernels of gdnjit take them, on the host.
//
// One call converts one matrix, w[n, k] with N rows and K columns, K the dimension that is summed over; an expert
// tensor [E,N,..] is the matrices of its experts one after another. Sources are dense TensorViews of host memory; every
// shape, dtype and value is checked, and invalid_argument names tensor, value and rule. Nothing is rounded but where it
// says so. group_size is along K, the last group may be short, and 0 is the whole row; groups = ceil(K / group_size).
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>
#include <gdnjit/tensor.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace gdnjit::moe {

// WeightFormat::int4, one expert.
struct Int4Matrix {
  std::int64_t rows = 0, columns = 0;  // N, K
  int group_size = 0;
  DType scale_dtype = DType::f32;
  ZeroPoint zero_point = ZeroPoint::eight;
  std::vector<std::uint8_t> weights;  // [N, ceil(K / 2)], the even column in the low nibble
  std::vector<std::byte> scales;      // [N, groups] of scale_dtype
  std::vector<std::byte> zeros;       // packed: u8 [N / 2, groups], the even row in the low nibble; real: as the scales
};

// WeightFormat::int8, one expert.
struct Int8Matrix {
  std::int64_t rows = 0, columns = 0;
  int group_size = 0;
  DType scale_dtype = DType::f32;
  std::vector<std::int8_t> weights;  // [N,K]
  std::vector<std::byte> scales;     // [N, groups] of scale_dtype
};

// What zero points GPTQ files hold: v1 the zero less one, v2 the zero ("checkpoint_format" of the quantisation config).
enum class GptqFormat : unsigned char { v1, v2 };

// GPTQ, 4 bits: w = (q - zero) scale.
//   qweight i32 [K / 8, N]       eight rows of a column in a word, the first in the lowest nibble
//   qzeros  i32 [groups, N / 8]  eight columns in a word, the first in the lowest nibble; none: 8 everywhere
//   scales  [groups, N]
//   g_idx   i32 [K]              may be left out; act order (g_idx[k] other than k / group_size) is refused, since
//                                groups are runs of K here
// A v1 zero stored as 15 is refused: it is an overflow of the packing, which programs read differently.
struct GptqTensors {
  TensorView qweight{}, qzeros{}, scales{}, g_idx{};
};
Int4Matrix int4_from_gptq(const GptqTensors& tensors, int group_size, GptqFormat format);

// AWQ, the layout of its matrix products ("gemm"): w = (q - zero) scale.
//   qweight i32 [K, N / 8]       eight columns in a word, from the lowest nibble on 0, 2, 4, 6, 1, 3, 5, 7
//   qzeros  i32 [groups, N / 8]  in the same order
//   scales  [groups, N]
struct AwqTensors {
  TensorView qweight{}, qzeros{}, scales{};
};
Int4Matrix int4_from_awq(const AwqTensors& tensors, int group_size);

// compressed-tensors, "pack-quantized": w = (q - zero) scale with signed q, stored with 8 (128) added.
//   weight_packed i32 [N, ceil(K / 8)], 8 bits [N, ceil(K / 4)]: the first column in the lowest bits
//   weight_scale  [N, groups]
//   weight_zero_point i32 [ceil(N / 8), groups]: eight rows in a word; none if symmetric. Of 8 bits refused: int8 has
//   no
//                 zeros here
struct CompressedTensors {
  TensorView weight_packed{}, weight_scale{}, weight_zero_point{};
};
Int4Matrix int4_from_compressed_tensors(const CompressedTensors& tensors, std::int64_t columns, int group_size);
Int8Matrix int8_from_compressed_tensors(const CompressedTensors& tensors, std::int64_t columns, int group_size);

// tinygemm (PyTorch's int4pack): w = (q - 8) scale + zero.
//   weight i32 [N / 8, K / (16 T), 32, T / 2] with T inner tiles of K, 2, 4 or 8: a word is the share of lane t in two
//          16-wide tiles of a row 8 i + t / 4; with b = 2 (t % 4) its nibbles from the lowest on are, in columns of the
//          two tiles, b, b + 8, b + 16, b + 24 and then the column behind each
//   scales_and_zeros [groups, N, 2]
struct TinygemmTensors {
  TensorView weight{}, scales_and_zeros{};
};
Int4Matrix int4_from_tinygemm(const TinygemmTensors& tensors, int group_size);

// HQQ, 4 bits along K (axis = 1): w = (q - zero) scale with a zero that is no whole number.
//   w_q   u8 [R / 2, group_size], R = N K / group_size rows of a group each: row r in the high nibble, row R / 2 + r in
//         the low one
//   scale, zero [R, 1]
// The zero here is (8 - zero) scale, rounded to `scale_dtype` as is the scale; fp32 keeps them.
struct HqqTensors {
  TensorView w_q{}, scale{}, zero{};
};
Int4Matrix int4_from_hqq(const HqqTensors& tensors, std::int64_t columns, DType scale_dtype = DType::f32);

// Bytes with 128 added: weights u8 [N,K], scales [N, groups].
Int8Matrix int8_from_uint8(const TensorView& weights, const TensorView& scales, int group_size);

// Where every zero of all matrices is 8 they become ZeroPoint::eight, and the kernels read none; true if so. The
// matrices of a layer share one problem, so they are asked together.
bool drop_zeros_of_eight(std::span<Int4Matrix> matrices);

// The weights in fp32, [N,K], as the kernels compute them.
std::vector<float> dequantized(const Int4Matrix& matrix);
std::vector<float> dequantized(const Int8Matrix& matrix);

}  // namespace gdnjit::moe

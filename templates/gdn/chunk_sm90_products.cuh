// The products of the sm_90a scan of gdn.chunk, by one warpgroup: 64 rows of S^T, W^T, D^T or o^T as A operand in
// registers, a tile in shared memory as B. None waits; see device/wgmma.cuh for the order they are issued in.
//
// Between a wgmma and the wait for it ptxas must see straight code: loops and conditions around waits, products of
// partial accumulators, or registers read in a branch make it serialise every product of the kernel (its warnings C7510
// to C7520 say so; `gdn-tune explain` shows them in the log).
#pragma once

#include "device/wgmma_bf16.cuh"
#include "device/wgmma_f16.cuh"
#include "gdn/chunk_fragments.cuh"
#include "gdn/chunk_sm90_config.cuh"

namespace gdnjit::gdn {

template <ChunkConfig c>
struct ChunkSm90Products {
  static constexpr ChunkSm90Plan kPlan{c};
  enum : int {
    kK = c.padded_k(),
    kSteps = kK / 16,      // k-steps of products over K
    kStateTiles = kK / 8,  // of 8 keys
    kState = kK / 2,       // accumulators of S^T
  };
  static constexpr device::Element kElement = device::element_of(c.operand_dtype());
  static constexpr device::Swizzle kSwizzle = kPlan.row_bytes == 128  ? device::Swizzle::bytes128
                                              : kPlan.row_bytes == 64 ? device::Swizzle::bytes64
                                                                      : device::Swizzle::bytes32;

  template <int kN, device::Major kMajor = device::Major::k>
  static __device__ __forceinline__ void product(float (&d)[kN / 2], const unsigned (&a)[4], device::MatrixDescriptor b,
                                                 bool accumulate) {
    if constexpr (kElement == device::Element::bf16) {
      device::wgmma_bf16<kN, kMajor>(d, a, b, accumulate);
    } else {
      device::wgmma_f16<kN, kMajor>(d, a, b, accumulate);
    }
  }

  // d (+)= S^T x^T over the k-steps kFirst .. kEnd - 1 of K; `tile` holds x [token, K].
  template <int kFirst, int kEnd>
  static __device__ __forceinline__ void state_product(float (&d)[32], const unsigned (&s)[kSteps][4], unsigned tile) {
#pragma unroll
    for (int step = kFirst; step < kEnd; ++step) {
      const int box = 16 * step / kPlan.box_columns, bytes = 16 * step % kPlan.box_columns * 2;
      const auto b = device::advance(device::k_major_descriptor<kSwizzle>(tile + box * kPlan.box_bytes), bytes);
      product<64>(d, s[step], b, step != 0);
    }
  }

  // d += x^T m^T with m a square: strips of 16 columns, kPlan.strip_bytes each, zeros above the diagonal. (The lower
  // part alone would spare 3 / 8 of the work, but takes accumulators that begin within those of others.)
  static __device__ __forceinline__ void square_product(float (&d)[32], const unsigned (&x)[4][4], unsigned square) {
#pragma unroll
    for (int strip = 0; strip < 4; ++strip) {
      const auto b = device::matrix_descriptor<device::Swizzle::none>(square + strip * kPlan.strip_bytes, 128, 256);
      product<64>(d, x[strip], b, true);
    }
  }

  // S^T += x^T k, with k [token, K].
  static __device__ __forceinline__ void update_product(float (&s)[kState], const unsigned (&x)[4][4], unsigned tile) {
#pragma unroll
    for (int step = 0; step < 4; ++step) {
      const auto b =
          device::matrix_descriptor<kSwizzle>(tile + 16 * step * kPlan.row_bytes, kPlan.box_bytes, 8 * kPlan.row_bytes);
      product<kK, device::Major::mn>(s, x[step], b, true);
    }
  }

  // Accumulators as the A operand of a product over their columns.
  template <int kTiles>
  static __device__ __forceinline__ void pack_operand(const float (&d)[4 * kTiles], unsigned (&a)[kTiles / 2][4]) {
#pragma unroll
    for (int step = 0; step < kTiles / 2; ++step) ChunkFragments<c>::operand(d, step, a[step]);
  }

  // Factors of the thread's columns 8 i + 2 (lane % 4) and the next, at a shared address. Read ahead of the wait for
  // what they scale: loads take as long as an instruction of the tensor cores.
  template <int kTiles>
  static __device__ __forceinline__ void load_factors(unsigned row, int lane, float2 (&pairs)[kTiles]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];"
                   : "=f"(pairs[tile].x), "=f"(pairs[tile].y)
                   : "r"(row + 4 * (8 * tile + lane % 4 * 2)));
    }
  }
  template <int kTiles>
  static __device__ __forceinline__ void scale_columns(const float2 (&factors)[kTiles], float (&d)[4 * kTiles]) {
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      d[2 * i] *= factors[i / 2].x;
      d[2 * i + 1] *= factors[i / 2].y;
    }
  }
  // Zeros in the columns from `valid` on.
  static __device__ __forceinline__ void clear_columns(int valid, int lane, float (&d)[32]) {
#pragma unroll
    for (int i = 0; i < 32; ++i) {
      if (8 * (i / 4) + lane % 4 * 2 + i % 2 >= valid) d[i] = 0.0f;
    }
  }

  // S^T times the decay of a chunk whose factors lie at a shared address.
  static __device__ __forceinline__ void decay_state(unsigned factor_rows, int lane, float (&s)[kState]) {
    if constexpr (c.per_channel()) {
      float2 decays[kStateTiles];
      load_factors(factor_rows + ChunkFactors::kDecay, lane, decays);
      scale_columns(decays, s);
    } else {
      float decay;
      asm volatile("ld.shared.f32 %0, [%1];" : "=f"(decay) : "r"(factor_rows + ChunkFactors::kDecay));
#pragma unroll
      for (int i = 0; i < kState; ++i) s[i] *= decay;
    }
  }

  // W^T from (k S)^T in place: w = v - sf w, with v^T as 16-bit words in the accumulators' order.
  static __device__ __forceinline__ void subtract_from_values(const unsigned (&v)[4][4], const float2 (&factors)[8],
                                                              float (&w)[32]) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const unsigned word[1] = {v[i / 4][i % 4]};
      float values[2];
      device::unpack<c.operand_dtype(), 2>(word, values);
      w[2 * i] = fmaf(-factors[i / 2].x, w[2 * i], values[0]);
      w[2 * i + 1] = fmaf(-factors[i / 2].y, w[2 * i + 1], values[1]);
    }
  }

  // o^T, rounded, in the accumulators' order.
  static __device__ __forceinline__ void pack_output(const float (&o)[32], unsigned (&words)[4][4]) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const float values[2] = {o[2 * i], o[2 * i + 1]};
      unsigned word[1];
      device::pack<c.output_dtype>(values, word);
      words[i / 4][i % 4] = word[0];
    }
  }
};

}  // namespace gdnjit::gdn

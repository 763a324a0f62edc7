// Functions that issue wgmma for one type of elements and every width, without the wall of 64 instructions: the
// operands of an instruction are its accumulators %0, %1, ... and, behind them, what each row below numbers.
//
// Included once for each type (so without #pragma once), with these defined, and undefined at the end:
//   GDNJIT_WGMMA_NAME          of the functions
//   GDNJIT_WGMMA_ELEMENT       Element::bf16
//   GDNJIT_WGMMA_TYPES         "k16.f32.bf16.bf16"
//   GDNJIT_WGMMA_SUM           float or int
//   GDNJIT_WGMMA_CONSTRAINT    of an accumulator: "f" or "r"
//   GDNJIT_WGMMA_SHARED(s, ta, tb), GDNJIT_WGMMA_REGISTERS(s, tb): the text behind scale-d, for A in shared memory
//     and in registers; s is the operand with the sign of A, ta and tb those with the transposes
#include "device/wgmma.cuh"

namespace gdnjit::device {

#define GDNJIT_WGMMA_D8 "%0, %1, %2, %3"
#define GDNJIT_WGMMA_D16 GDNJIT_WGMMA_D8 ", %4, %5, %6, %7"
#define GDNJIT_WGMMA_D24 GDNJIT_WGMMA_D16 ", %8, %9, %10, %11"
#define GDNJIT_WGMMA_D32 GDNJIT_WGMMA_D24 ", %12, %13, %14, %15"
#define GDNJIT_WGMMA_D40 GDNJIT_WGMMA_D32 ", %16, %17, %18, %19"
#define GDNJIT_WGMMA_D48 GDNJIT_WGMMA_D40 ", %20, %21, %22, %23"
#define GDNJIT_WGMMA_D56 GDNJIT_WGMMA_D48 ", %24, %25, %26, %27"
#define GDNJIT_WGMMA_D64 GDNJIT_WGMMA_D56 ", %28, %29, %30, %31"
#define GDNJIT_WGMMA_D72 GDNJIT_WGMMA_D64 ", %32, %33, %34, %35"
#define GDNJIT_WGMMA_D80 GDNJIT_WGMMA_D72 ", %36, %37, %38, %39"
#define GDNJIT_WGMMA_D88 GDNJIT_WGMMA_D80 ", %40, %41, %42, %43"
#define GDNJIT_WGMMA_D96 GDNJIT_WGMMA_D88 ", %44, %45, %46, %47"
#define GDNJIT_WGMMA_D104 GDNJIT_WGMMA_D96 ", %48, %49, %50, %51"
#define GDNJIT_WGMMA_D112 GDNJIT_WGMMA_D104 ", %52, %53, %54, %55"
#define GDNJIT_WGMMA_D120 GDNJIT_WGMMA_D112 ", %56, %57, %58, %59"
#define GDNJIT_WGMMA_D128 GDNJIT_WGMMA_D120 ", %60, %61, %62, %63"
#define GDNJIT_WGMMA_D136 GDNJIT_WGMMA_D128 ", %64, %65, %66, %67"
#define GDNJIT_WGMMA_D144 GDNJIT_WGMMA_D136 ", %68, %69, %70, %71"
#define GDNJIT_WGMMA_D152 GDNJIT_WGMMA_D144 ", %72, %73, %74, %75"
#define GDNJIT_WGMMA_D160 GDNJIT_WGMMA_D152 ", %76, %77, %78, %79"
#define GDNJIT_WGMMA_D168 GDNJIT_WGMMA_D160 ", %80, %81, %82, %83"
#define GDNJIT_WGMMA_D176 GDNJIT_WGMMA_D168 ", %84, %85, %86, %87"
#define GDNJIT_WGMMA_D184 GDNJIT_WGMMA_D176 ", %88, %89, %90, %91"
#define GDNJIT_WGMMA_D192 GDNJIT_WGMMA_D184 ", %92, %93, %94, %95"
#define GDNJIT_WGMMA_D200 GDNJIT_WGMMA_D192 ", %96, %97, %98, %99"
#define GDNJIT_WGMMA_D208 GDNJIT_WGMMA_D200 ", %100, %101, %102, %103"
#define GDNJIT_WGMMA_D216 GDNJIT_WGMMA_D208 ", %104, %105, %106, %107"
#define GDNJIT_WGMMA_D224 GDNJIT_WGMMA_D216 ", %108, %109, %110, %111"
#define GDNJIT_WGMMA_D232 GDNJIT_WGMMA_D224 ", %112, %113, %114, %115"
#define GDNJIT_WGMMA_D240 GDNJIT_WGMMA_D232 ", %116, %117, %118, %119"
#define GDNJIT_WGMMA_D248 GDNJIT_WGMMA_D240 ", %120, %121, %122, %123"
#define GDNJIT_WGMMA_D256 GDNJIT_WGMMA_D248 ", %124, %125, %126, %127"

#define GDNJIT_WGMMA_4(i)                                                                                          \
  "+" GDNJIT_WGMMA_CONSTRAINT(d[i]), "+" GDNJIT_WGMMA_CONSTRAINT(d[i + 1]), "+" GDNJIT_WGMMA_CONSTRAINT(d[i + 2]), \
      "+" GDNJIT_WGMMA_CONSTRAINT(d[i + 3])
#define GDNJIT_WGMMA_OUT8 GDNJIT_WGMMA_4(0)
#define GDNJIT_WGMMA_OUT16 GDNJIT_WGMMA_OUT8, GDNJIT_WGMMA_4(4)
#define GDNJIT_WGMMA_OUT24 GDNJIT_WGMMA_OUT16, GDNJIT_WGMMA_4(8)
#define GDNJIT_WGMMA_OUT32 GDNJIT_WGMMA_OUT24, GDNJIT_WGMMA_4(12)
#define GDNJIT_WGMMA_OUT40 GDNJIT_WGMMA_OUT32, GDNJIT_WGMMA_4(16)
#define GDNJIT_WGMMA_OUT48 GDNJIT_WGMMA_OUT40, GDNJIT_WGMMA_4(20)
#define GDNJIT_WGMMA_OUT56 GDNJIT_WGMMA_OUT48, GDNJIT_WGMMA_4(24)
#define GDNJIT_WGMMA_OUT64 GDNJIT_WGMMA_OUT56, GDNJIT_WGMMA_4(28)
#define GDNJIT_WGMMA_OUT72 GDNJIT_WGMMA_OUT64, GDNJIT_WGMMA_4(32)
#define GDNJIT_WGMMA_OUT80 GDNJIT_WGMMA_OUT72, GDNJIT_WGMMA_4(36)
#define GDNJIT_WGMMA_OUT88 GDNJIT_WGMMA_OUT80, GDNJIT_WGMMA_4(40)
#define GDNJIT_WGMMA_OUT96 GDNJIT_WGMMA_OUT88, GDNJIT_WGMMA_4(44)
#define GDNJIT_WGMMA_OUT104 GDNJIT_WGMMA_OUT96, GDNJIT_WGMMA_4(48)
#define GDNJIT_WGMMA_OUT112 GDNJIT_WGMMA_OUT104, GDNJIT_WGMMA_4(52)
#define GDNJIT_WGMMA_OUT120 GDNJIT_WGMMA_OUT112, GDNJIT_WGMMA_4(56)
#define GDNJIT_WGMMA_OUT128 GDNJIT_WGMMA_OUT120, GDNJIT_WGMMA_4(60)
#define GDNJIT_WGMMA_OUT136 GDNJIT_WGMMA_OUT128, GDNJIT_WGMMA_4(64)
#define GDNJIT_WGMMA_OUT144 GDNJIT_WGMMA_OUT136, GDNJIT_WGMMA_4(68)
#define GDNJIT_WGMMA_OUT152 GDNJIT_WGMMA_OUT144, GDNJIT_WGMMA_4(72)
#define GDNJIT_WGMMA_OUT160 GDNJIT_WGMMA_OUT152, GDNJIT_WGMMA_4(76)
#define GDNJIT_WGMMA_OUT168 GDNJIT_WGMMA_OUT160, GDNJIT_WGMMA_4(80)
#define GDNJIT_WGMMA_OUT176 GDNJIT_WGMMA_OUT168, GDNJIT_WGMMA_4(84)
#define GDNJIT_WGMMA_OUT184 GDNJIT_WGMMA_OUT176, GDNJIT_WGMMA_4(88)
#define GDNJIT_WGMMA_OUT192 GDNJIT_WGMMA_OUT184, GDNJIT_WGMMA_4(92)
#define GDNJIT_WGMMA_OUT200 GDNJIT_WGMMA_OUT192, GDNJIT_WGMMA_4(96)
#define GDNJIT_WGMMA_OUT208 GDNJIT_WGMMA_OUT200, GDNJIT_WGMMA_4(100)
#define GDNJIT_WGMMA_OUT216 GDNJIT_WGMMA_OUT208, GDNJIT_WGMMA_4(104)
#define GDNJIT_WGMMA_OUT224 GDNJIT_WGMMA_OUT216, GDNJIT_WGMMA_4(108)
#define GDNJIT_WGMMA_OUT232 GDNJIT_WGMMA_OUT224, GDNJIT_WGMMA_4(112)
#define GDNJIT_WGMMA_OUT240 GDNJIT_WGMMA_OUT232, GDNJIT_WGMMA_4(116)
#define GDNJIT_WGMMA_OUT248 GDNJIT_WGMMA_OUT240, GDNJIT_WGMMA_4(120)
#define GDNJIT_WGMMA_OUT256 GDNJIT_WGMMA_OUT248, GDNJIT_WGMMA_4(124)

#define GDNJIT_WGMMA_START(n, accumulate)                                                                          \
  "{\n.reg .pred p;\nsetp.ne.b32 p, %" #accumulate ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n GDNJIT_WGMMA_TYPES \
  " {" GDNJIT_WGMMA_D##n "}, "

// Every width: its row, and the numbers of the operands behind its accumulators.
#define GDNJIT_WGMMA_ROWS                                       \
  GDNJIT_WGMMA_ROW(8, 4, 5, 6, 7, 8, 9, 10, 11)                 \
  GDNJIT_WGMMA_ROW(16, 8, 9, 10, 11, 12, 13, 14, 15)            \
  GDNJIT_WGMMA_ROW(24, 12, 13, 14, 15, 16, 17, 18, 19)          \
  GDNJIT_WGMMA_ROW(32, 16, 17, 18, 19, 20, 21, 22, 23)          \
  GDNJIT_WGMMA_ROW(40, 20, 21, 22, 23, 24, 25, 26, 27)          \
  GDNJIT_WGMMA_ROW(48, 24, 25, 26, 27, 28, 29, 30, 31)          \
  GDNJIT_WGMMA_ROW(56, 28, 29, 30, 31, 32, 33, 34, 35)          \
  GDNJIT_WGMMA_ROW(64, 32, 33, 34, 35, 36, 37, 38, 39)          \
  GDNJIT_WGMMA_ROW(72, 36, 37, 38, 39, 40, 41, 42, 43)          \
  GDNJIT_WGMMA_ROW(80, 40, 41, 42, 43, 44, 45, 46, 47)          \
  GDNJIT_WGMMA_ROW(88, 44, 45, 46, 47, 48, 49, 50, 51)          \
  GDNJIT_WGMMA_ROW(96, 48, 49, 50, 51, 52, 53, 54, 55)          \
  GDNJIT_WGMMA_ROW(104, 52, 53, 54, 55, 56, 57, 58, 59)         \
  GDNJIT_WGMMA_ROW(112, 56, 57, 58, 59, 60, 61, 62, 63)         \
  GDNJIT_WGMMA_ROW(120, 60, 61, 62, 63, 64, 65, 66, 67)         \
  GDNJIT_WGMMA_ROW(128, 64, 65, 66, 67, 68, 69, 70, 71)         \
  GDNJIT_WGMMA_ROW(136, 68, 69, 70, 71, 72, 73, 74, 75)         \
  GDNJIT_WGMMA_ROW(144, 72, 73, 74, 75, 76, 77, 78, 79)         \
  GDNJIT_WGMMA_ROW(152, 76, 77, 78, 79, 80, 81, 82, 83)         \
  GDNJIT_WGMMA_ROW(160, 80, 81, 82, 83, 84, 85, 86, 87)         \
  GDNJIT_WGMMA_ROW(168, 84, 85, 86, 87, 88, 89, 90, 91)         \
  GDNJIT_WGMMA_ROW(176, 88, 89, 90, 91, 92, 93, 94, 95)         \
  GDNJIT_WGMMA_ROW(184, 92, 93, 94, 95, 96, 97, 98, 99)         \
  GDNJIT_WGMMA_ROW(192, 96, 97, 98, 99, 100, 101, 102, 103)     \
  GDNJIT_WGMMA_ROW(200, 100, 101, 102, 103, 104, 105, 106, 107) \
  GDNJIT_WGMMA_ROW(208, 104, 105, 106, 107, 108, 109, 110, 111) \
  GDNJIT_WGMMA_ROW(216, 108, 109, 110, 111, 112, 113, 114, 115) \
  GDNJIT_WGMMA_ROW(224, 112, 113, 114, 115, 116, 117, 118, 119) \
  GDNJIT_WGMMA_ROW(232, 116, 117, 118, 119, 120, 121, 122, 123) \
  GDNJIT_WGMMA_ROW(240, 120, 121, 122, 123, 124, 125, 126, 127) \
  GDNJIT_WGMMA_ROW(248, 124, 125, 126, 127, 128, 129, 130, 131) \
  GDNJIT_WGMMA_ROW(256, 128, 129, 130, 131, 132, 133, 134, 135)

// Both operands in shared memory: D = kSign A B, plus D if `accumulate`.
#define GDNJIT_WGMMA_ROW(n, a, b, accumulated, sign, ta, tb, i6, i7)                                               \
  if constexpr (kN == n) {                                                                                         \
    asm volatile(GDNJIT_WGMMA_START(n, accumulated) "%" #a ", %" #b ", p" GDNJIT_WGMMA_SHARED(sign, ta, tb) ";\n}" \
                 : GDNJIT_WGMMA_OUT##n                                                                             \
                 : "l"(matrix_a), "l"(matrix_b), "r"(add), "n"(kSign), "n"(static_cast<int>(kMajorA)),             \
                   "n"(static_cast<int>(kMajorB))                                                                  \
                 : "memory");                                                                                      \
  }
template <int kN, Major kMajorA = Major::k, Major kMajorB = Major::k, int kSign = 1>
__device__ __forceinline__ void GDNJIT_WGMMA_NAME(GDNJIT_WGMMA_SUM (&d)[kN / 2], MatrixDescriptor matrix_a,
                                                  MatrixDescriptor matrix_b, bool accumulate) {
  static_assert(wgmma_exists(GDNJIT_WGMMA_ELEMENT, kN, kMajorA, kMajorB, kSign));
  const int add = accumulate;
  GDNJIT_WGMMA_ROWS
}
#undef GDNJIT_WGMMA_ROW

// A in registers.
#define GDNJIT_WGMMA_ROW(n, a0, a1, a2, a3, b, accumulated, sign, tb)                                \
  if constexpr (kN == n) {                                                                           \
    asm volatile(GDNJIT_WGMMA_START(n, accumulated) "{%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b \
                                                    ", p" GDNJIT_WGMMA_REGISTERS(sign, tb) ";\n}"    \
                 : GDNJIT_WGMMA_OUT##n                                                               \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(matrix_b), "r"(add), "n"(kSign),  \
                   "n"(static_cast<int>(kMajorB))                                                    \
                 : "memory");                                                                        \
  }
template <int kN, Major kMajorB = Major::k, int kSign = 1>
__device__ __forceinline__ void GDNJIT_WGMMA_NAME(GDNJIT_WGMMA_SUM (&d)[kN / 2], const unsigned (&a)[4],
                                                  MatrixDescriptor matrix_b, bool accumulate) {
  static_assert(wgmma_exists(GDNJIT_WGMMA_ELEMENT, kN, Major::k, kMajorB, kSign));
  const int add = accumulate;
  GDNJIT_WGMMA_ROWS
}
#undef GDNJIT_WGMMA_ROW

#undef GDNJIT_WGMMA_ROWS
#undef GDNJIT_WGMMA_D8
#undef GDNJIT_WGMMA_OUT8
#undef GDNJIT_WGMMA_D16
#undef GDNJIT_WGMMA_OUT16
#undef GDNJIT_WGMMA_D24
#undef GDNJIT_WGMMA_OUT24
#undef GDNJIT_WGMMA_D32
#undef GDNJIT_WGMMA_OUT32
#undef GDNJIT_WGMMA_D40
#undef GDNJIT_WGMMA_OUT40
#undef GDNJIT_WGMMA_D48
#undef GDNJIT_WGMMA_OUT48
#undef GDNJIT_WGMMA_D56
#undef GDNJIT_WGMMA_OUT56
#undef GDNJIT_WGMMA_D64
#undef GDNJIT_WGMMA_OUT64
#undef GDNJIT_WGMMA_D72
#undef GDNJIT_WGMMA_OUT72
#undef GDNJIT_WGMMA_D80
#undef GDNJIT_WGMMA_OUT80
#undef GDNJIT_WGMMA_D88
#undef GDNJIT_WGMMA_OUT88
#undef GDNJIT_WGMMA_D96
#undef GDNJIT_WGMMA_OUT96
#undef GDNJIT_WGMMA_D104
#undef GDNJIT_WGMMA_OUT104
#undef GDNJIT_WGMMA_D112
#undef GDNJIT_WGMMA_OUT112
#undef GDNJIT_WGMMA_D120
#undef GDNJIT_WGMMA_OUT120
#undef GDNJIT_WGMMA_D128
#undef GDNJIT_WGMMA_OUT128
#undef GDNJIT_WGMMA_D136
#undef GDNJIT_WGMMA_OUT136
#undef GDNJIT_WGMMA_D144
#undef GDNJIT_WGMMA_OUT144
#undef GDNJIT_WGMMA_D152
#undef GDNJIT_WGMMA_OUT152
#undef GDNJIT_WGMMA_D160
#undef GDNJIT_WGMMA_OUT160
#undef GDNJIT_WGMMA_D168
#undef GDNJIT_WGMMA_OUT168
#undef GDNJIT_WGMMA_D176
#undef GDNJIT_WGMMA_OUT176
#undef GDNJIT_WGMMA_D184
#undef GDNJIT_WGMMA_OUT184
#undef GDNJIT_WGMMA_D192
#undef GDNJIT_WGMMA_OUT192
#undef GDNJIT_WGMMA_D200
#undef GDNJIT_WGMMA_OUT200
#undef GDNJIT_WGMMA_D208
#undef GDNJIT_WGMMA_OUT208
#undef GDNJIT_WGMMA_D216
#undef GDNJIT_WGMMA_OUT216
#undef GDNJIT_WGMMA_D224
#undef GDNJIT_WGMMA_OUT224
#undef GDNJIT_WGMMA_D232
#undef GDNJIT_WGMMA_OUT232
#undef GDNJIT_WGMMA_D240
#undef GDNJIT_WGMMA_OUT240
#undef GDNJIT_WGMMA_D248
#undef GDNJIT_WGMMA_OUT248
#undef GDNJIT_WGMMA_D256
#undef GDNJIT_WGMMA_OUT256
#undef GDNJIT_WGMMA_4
#undef GDNJIT_WGMMA_START
#undef GDNJIT_WGMMA_NAME
#undef GDNJIT_WGMMA_ELEMENT
#undef GDNJIT_WGMMA_TYPES
#undef GDNJIT_WGMMA_SUM
#undef GDNJIT_WGMMA_CONSTRAINT
#undef GDNJIT_WGMMA_SHARED
#undef GDNJIT_WGMMA_REGISTERS

}  // namespace gdnjit::device

// fp32 to e4m3, sm_89 and later.
#pragma once

namespace gdnjit::device {

// Rounds four numbers to nearest even, the first in the lowest byte. Numbers beyond 448 become 448, NaN stays NaN.
__device__ __forceinline__ unsigned pack_e4m3(float a, float b, float c, float d) {
  unsigned word;
  asm("{\n .reg .b16 low, high;\n cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
      " cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n mov.b32 %0, {low, high};\n}"
      : "=r"(word)
      : "f"(a), "f"(b), "f"(c), "f"(d));
  return word;
}

}  // namespace gdnjit::device

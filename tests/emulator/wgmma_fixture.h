// wgmma kernels as PTX, and matrices laid out in shared memory as the PTX ISA draws them: tiles of 8 rows whose 16-byte
// units are exchanged. Nothing here looks at address bits, as the emulator does.
#pragma once

#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/matrices.h"

namespace gdnjit::tests {

// One matrix in shared memory. Row bytes: 16 (no swizzle), 32, 64 or 128.
struct Layout {
  int row_bytes = 128;
  bool mn_major = false;
  int leading = 0;      // bytes, as the descriptor says
  int stride = 0;       // bytes
  int start = 0;        // of the tile in shared memory
  int column = 0;       // K-major, swizzled: first byte of k within a row
  int base_offset = 0;  // the pattern starts so many 128 bytes behind a multiple of its length

  std::string name() const {
    return fmt::format("{} bytes a row, {}-major, column {}, base {}", row_bytes, mn_major ? "MN" : "K", column,
                       base_offset);
  }

  // Which 16-byte unit of row `row` (of 8) holds unit `unit`.
  int exchanged(int row, int unit) const {
    switch (row_bytes) {
      case 128: return unit ^ row;
      case 64: return unit ^ row / 2;
      case 32: return unit ^ row / 4;
      default: return unit;
    }
  }

  // Byte of element (outer, k): outer is a row of A or a column of B.
  int place(int outer, int k, int bits) const {
    const int bytes = bits / 8;
    if (row_bytes == 16) {
      if (mn_major) return start + outer / 8 * stride + k / 8 * leading + k % 8 * 16 + outer % 8 * bytes;
      const int along = k * bytes;
      return start + outer / 8 * stride + along / 16 * leading + outer % 8 * 16 + along % 16;
    }
    if (mn_major) {
      const int elements = row_bytes / bytes;
      const int along = outer % elements * bytes;
      return start + outer / elements * leading + k / 8 * stride + k % 8 * row_bytes +
             exchanged(k % 8, along / 16) * 16 + along % 16;
    }
    const int along = column + k * bytes;
    return start + outer / 8 * stride + outer % 8 * row_bytes + exchanged(outer % 8, along / 16) * 16 + along % 16;
  }

  std::uint64_t descriptor() const {
    const std::uint64_t mode = row_bytes == 16 ? 0 : row_bytes == 128 ? 1 : row_bytes == 64 ? 2 : 3;
    const auto field = [](int bytes) { return static_cast<std::uint64_t>(bytes) / 16; };
    return field(start + column) | field(leading) << 16 | field(stride) << 32 |
           static_cast<std::uint64_t>(base_offset) << 49 | mode << 62;
  }
};

// A layout for `outer` rows or columns with gaps between its parts, so that each offset matters.
inline Layout layout_of(int row_bytes, bool mn_major, int outer, int start) {
  Layout layout{row_bytes, mn_major};
  layout.start = start;
  if (row_bytes == 16) {
    // K-major: groups of 8 rows, then the second unit of k. MN-major: eight k, then the next 8 rows.
    layout.stride = mn_major ? 2 * 128 + 32 : 128 + 16;
    layout.leading = mn_major ? 128 + 16 : (outer / 8) * layout.stride + 48;
  } else if (mn_major) {
    layout.stride = 8 * row_bytes;
    layout.leading = 2 * layout.stride + 1024;
  } else {
    layout.stride = 8 * row_bytes + 1024;
    layout.leading = 16;
  }
  return layout;
}

inline void put_matrix(std::vector<std::uint8_t>& image, const Matrix& matrix, bool outer_is_row,
                       const Layout& layout) {
  const int bits = matrix.format.bits;
  for (int row = 0; row < matrix.rows; ++row) {
    for (int column = 0; column < matrix.columns; ++column) {
      const int at = outer_is_row ? layout.place(row, column, bits) : layout.place(column, row, bits);
      if (image.size() < static_cast<std::size_t>(at + bits / 8))
        image.resize(static_cast<std::size_t>(at + bits / 8), 0x55);
      const std::uint32_t element = matrix.at(row, column);
      std::memcpy(&image[static_cast<std::size_t>(at)], &element, static_cast<std::size_t>(bits / 8));
    }
  }
}

// "%d0, %d1, ..."
inline std::string numbered(const char* prefix, int count, int first = 0) {
  std::string text;
  for (int i = 0; i < count; ++i) text += fmt::format("{}{}{}", i == 0 ? "" : ", ", prefix, first + i);
  return text;
}

// A module of one kernel `test(image, registers, out)` with 128 threads: `image_bytes` of the image go to shared
// memory, 16 bytes a thread; registers %d (accumulators) and %a are loaded from `registers`, [register][thread]; then
// `body`; then the accumulators go to `out`. Free for the body: %p1..9, %r1..19, %rd10..19; %r1 is the thread, %r2 its
// warp.
struct WgmmaKernel {
  int image_bytes = 0;
  int d_registers = 0;
  int a_registers = 0;
  int shared_bytes = 0;  // default: image_bytes
  std::string body = {};
  std::string target = "sm_90a";
  bool stores = true;

  std::string ptx() const {
    std::string text = fmt::format(R"(.version 8.0
.target {}
.address_size 64
.visible .entry test(.param .u64 image, .param .u64 registers, .param .u64 out)
{{
  .shared .align 1024 .b8 tile[{}];
  .reg .pred %p<10>;
  .reg .b32 %r<40>;
  .reg .b32 %d<256>;
  .reg .b32 %a<8>;
  .reg .b64 %rd<20>;
  ld.param.u64 %rd1, [image];
  ld.param.u64 %rd2, [registers];
  ld.param.u64 %rd3, [out];
  mov.u32 %r1, %tid.x;
  shr.u32 %r2, %r1, 5;
  shl.b32 %r20, %r1, 4;
  mul.wide.u32 %rd4, %r1, 4;
  add.u64 %rd2, %rd2, %rd4;
  add.u64 %rd3, %rd3, %rd4;
COPY:
  setp.ge.u32 %p0, %r20, {};
  @%p0 bra COPIED;
  cvt.u64.u32 %rd5, %r20;
  add.u64 %rd5, %rd5, %rd1;
  ld.global.v4.b32 {{%r21, %r22, %r23, %r24}}, [%rd5];
  mov.u32 %r25, tile;
  add.u32 %r25, %r25, %r20;
  st.shared.v4.b32 [%r25], {{%r21, %r22, %r23, %r24}};
  add.u32 %r20, %r20, 2048;
  bra COPY;
COPIED:
  fence.proxy.async;
  bar.sync 0;
)",
                                   target, shared_bytes != 0 ? shared_bytes : image_bytes, image_bytes);
    for (int i = 0; i < d_registers; ++i) text += fmt::format("  ld.global.b32 %d{}, [%rd2+{}];\n", i, i * 512);
    for (int i = 0; i < a_registers; ++i)
      text += fmt::format("  ld.global.b32 %a{}, [%rd2+{}];\n", i, (d_registers + i) * 512);
    text += body + "\n";
    for (int i = 0; stores && i < d_registers; ++i)
      text += fmt::format("  st.global.b32 [%rd3+{}], %d{};\n", i * 512, i);
    return text + "  ret;\n}\n";
  }
};

}  // namespace gdnjit::tests

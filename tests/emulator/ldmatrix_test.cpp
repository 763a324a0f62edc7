// ldmatrix, stmatrix and movmatrix against the element tables of the PTX ISA, with their bank conflicts and checks.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "tests/emulator/matrices.h"

namespace gdnjit::tests {
namespace {

constexpr int kTileBytes = 8192;

// What lane 4 g + t holds of an 8 x 8 matrix: (row, column) of its lower and its upper element.
std::pair<int, int> element_of(int lane, int half, bool transposed) {
  const int g = lane / 4, t = lane % 4;
  return transposed ? std::pair(2 * t + half, g) : std::pair(g, 2 * t + half);
}

std::string name_of(int matrices, bool transposed) {
  return fmt::format("x{}{}", matrices, transposed ? ".trans" : "");
}

std::vector<std::uint16_t> random_tile(std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::uint16_t> tile(kTileBytes / 2);
  for (auto& element : tile) element = static_cast<std::uint16_t>(random());
  return tile;
}

// A 16-byte row of the tile for each lane, all different.
std::vector<std::uint32_t> random_rows(std::uint32_t seed) {
  std::vector<std::uint32_t> rows(kTileBytes / 16);
  std::iota(rows.begin(), rows.end(), 0U);
  std::shuffle(rows.begin(), rows.end(), std::mt19937(seed));
  rows.resize(32);
  for (auto& row : rows) row *= 16;
  return rows;
}

// Kernels (tile, offsets, registers): the tile goes to shared memory and back; offsets are those of the lanes' rows.
const std::string& kernels() {
  static const std::string kSource = [] {
    std::string source = R"(#include "device/ldmatrix.cuh"
using namespace gdnjit::device;
__shared__ __align__(1024) uint4 tile[512];
__device__ void load_tile(const uint4* from) {
  for (int i = threadIdx.x; i < 512; i += 32) tile[i] = from[i];
  __syncwarp();
}
__device__ void store_tile(uint4* to) {
  __syncwarp();
  for (int i = threadIdx.x; i < 512; i += 32) to[i] = tile[i];
}
)";
    for (const int count : {1, 2, 4}) {
      for (const bool transposed : {false, true}) {
        source += fmt::format(R"(
extern "C" __global__ void load{0}{1}(const uint4* in, const unsigned* offsets, unsigned* out) {{
  load_tile(in);
  unsigned r[{0}];
  ldmatrix{2}(r, shared_address(tile) + offsets[threadIdx.x]);
  for (int i = 0; i < {0}; ++i) out[i * 32 + threadIdx.x] = r[i];
}}
extern "C" __global__ void store{0}{1}(uint4* inout, const unsigned* offsets, const unsigned* in) {{
  load_tile(inout);
  unsigned r[{0}];
  for (int i = 0; i < {0}; ++i) r[i] = in[i * 32 + threadIdx.x];
  stmatrix{2}(shared_address(tile) + offsets[threadIdx.x], r);
  store_tile(inout);
}})",
                              count, transposed ? "t" : "", transposed ? "_transposed" : "");
      }
    }
    return source + R"(
extern "C" __global__ void transpose(const unsigned* in, unsigned* out) {
  out[threadIdx.x] = transpose_matrix(in[threadIdx.x]);
})";
  }();
  return kSource;
}

std::string kernel_name(const char* what, int count, bool transposed) {
  return fmt::format("{}{}{}", what, count, transposed ? "t" : "");
}

TEST_CASE("ldmatrix gives each lane its two elements of every matrix, in any rows") {
  Device& device = emulator();
  for (const int count : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      for (std::uint32_t seed = 1; seed <= 4; ++seed) {
        CAPTURE(name_of(count, transposed));
        const auto tile = random_tile(seed);
        const auto rows = random_rows(seed);
        const DeviceBuffer in = upload(device, tile), offsets = upload(device, rows);
        const DeviceBuffer out(device, static_cast<std::size_t>(count) * 128, "out");
        run(device, compile_ptx(kernels(), "load1"), kernel_name("load", count, transposed),
            parameter_block(in.data(), offsets.data(), out.data()));
        const auto registers = download<std::uint32_t>(device, out);
        for (int i = 0; i < count * 32; ++i) {
          for (const int half : {0, 1}) {
            const auto [row, column] = element_of(i % 32, half, transposed);
            const std::uint32_t want =
                tile[rows[static_cast<std::size_t>(i / 32 * 8 + row)] / 2 + static_cast<unsigned>(column)];
            REQUIRE((registers[static_cast<std::size_t>(i)] >> (16 * half) & 0xffffU) == want);
          }
        }
      }
    }
  }
}

TEST_CASE("stmatrix writes those elements and no others") {
  Device& device = emulator();
  for (const int count : {1, 2, 4}) {
    for (const bool transposed : {false, true}) {
      for (std::uint32_t seed = 11; seed <= 14; ++seed) {
        CAPTURE(name_of(count, transposed));
        auto tile = random_tile(seed);
        const auto rows = random_rows(seed);
        std::mt19937 random(seed);
        std::vector<std::uint32_t> registers(static_cast<std::size_t>(count) * 32);
        for (auto& value : registers) value = static_cast<std::uint32_t>(random());
        const DeviceBuffer inout = upload(device, tile), offsets = upload(device, rows), in = upload(device, registers);
        run(device, compile_ptx(kernels(), "load1"), kernel_name("store", count, transposed),
            parameter_block(inout.data(), offsets.data(), in.data()));
        for (int i = 0; i < count * 32; ++i) {
          for (const int half : {0, 1}) {
            const auto [row, column] = element_of(i % 32, half, transposed);
            tile[rows[static_cast<std::size_t>(i / 32 * 8 + row)] / 2 + static_cast<unsigned>(column)] =
                static_cast<std::uint16_t>(registers[static_cast<std::size_t>(i)] >> (16 * half));
          }
        }
        CHECK(download<std::uint16_t>(device, inout) == tile);
      }
    }
  }
}

TEST_CASE("movmatrix transposes") {
  Device& device = emulator();
  std::vector<std::uint32_t> registers = sample_integers<std::uint32_t>(32, 5);
  const DeviceBuffer in = upload(device, registers), out(device, 128, "out");
  run(device, compile_ptx(kernels(), "load1"), "transpose", parameter_block(in.data(), out.data()));
  std::uint32_t matrix[8][8];
  for (int lane = 0; lane < 32; ++lane) {
    for (const int half : {0, 1}) {
      const auto [row, column] = element_of(lane, half, false);
      matrix[row][column] = registers[static_cast<std::size_t>(lane)] >> (16 * half) & 0xffffU;
    }
  }
  const auto result = download<std::uint32_t>(device, out);
  for (int lane = 0; lane < 32; ++lane) {
    for (const int half : {0, 1}) {
      const auto [row, column] = element_of(lane, half, false);
      CHECK((result[static_cast<std::size_t>(lane)] >> (16 * half) & 0xffffU) == matrix[column][row]);
    }
  }
}

TEST_CASE("the lane places of device/ldmatrix.cuh load the fragments of mma") {
  const std::string source = R"(#include "device/ldmatrix.cuh"
#include "device/mma.cuh"
using namespace gdnjit::device;
// a: 16 x 16 by rows, b: 16 columns of 16 k; at and bt are their transposes. d: 4 x (16 x 16).
extern "C" __global__ void products(const uint4* in, float* d) {
  __shared__ __align__(16) uint4 tiles[4][32];
  for (int i = 0; i < 4; ++i) tiles[i][threadIdx.x] = in[i * 32 + threadIdx.x];
  __syncwarp();
  const auto at = [&](int tile, LdmatrixPlace place) { return shared_address(tiles[tile]) + place.row * 32 + place.column * 2; };
  const int lane = threadIdx.x;
  for (int form = 0; form < 4; ++form) {
    unsigned a[4], b[4];
    if (form & 1) ldmatrix_transposed(a, at(1, ldmatrix_a_transposed(lane))); else ldmatrix(a, at(0, ldmatrix_a(lane)));
    if (form & 2) ldmatrix_transposed(b, at(3, ldmatrix_b_transposed(lane))); else ldmatrix(b, at(2, ldmatrix_b(lane)));
    for (int half = 0; half < 2; ++half) {
      float sums[4] = {};
      const unsigned pair[2] = {b[2 * half], b[2 * half + 1]};
      mma_m16n8k16<Element::bf16>(sums, a, pair);
      for (int i = 0; i < 4; ++i) d[form * 256 + mma_d_row(lane, i) * 16 + 8 * half + mma_d_column(lane, i)] = sums[i];
    }
  }
})";
  std::mt19937 random(3);
  const Matrix a = sample_matrix("bf16", 16, 16, random, false), b = sample_matrix("bf16", 16, 16, random, false);
  std::vector<std::uint16_t> tiles;
  const auto add = [&](const Matrix& matrix, bool transposed) {
    for (int i = 0; i < 256; ++i)
      tiles.push_back(static_cast<std::uint16_t>(transposed ? matrix.at(i % 16, i / 16) : matrix.at(i / 16, i % 16)));
  };
  add(a, false), add(a, true), add(b, true), add(b, false);
  for (const std::string arch : {"sm_80", "sm_90a", "sm_120"}) {
    Device& device = emulator(arch);
    const DeviceBuffer in = upload(device, tiles), out(device, 4096, "d");
    run(device, compile_ptx(source, "products", arch), "products", parameter_block(in.data(), out.data()));
    const auto d = download<std::uint32_t>(device, out);
    for (int i = 0; i < 1024; ++i) {
      const Expected expected = product_element(a, b, 0, i % 256 / 16, i % 16);
      REQUIRE(is_rounded(format_of("f32"), d[static_cast<std::size_t>(i)], expected));
    }
  }
}

// Wavefronts of one x4 load whose rows are `pitch` bytes apart.
std::uint64_t wavefronts(int pitch) {
  const std::string body = fmt::format(R"(.shared .align 128 .b8 tile[8192];
    mov.u32 %r1, %laneid; mul.lo.u32 %r2, %r1, {0}; mov.u32 %r3, tile; add.u32 %r3, %r3, %r2; mov.b32 %r4, 0;
    stmatrix.sync.aligned.m8n8.x4.shared.b16 [%r3], {{%r4, %r4, %r4, %r4}};
    ret;)",
                                       pitch);
  const LaunchCounters counters = run(emulator(), ptx_module(body), "test", parameter_block(nullptr, nullptr));
  CHECK(counters.shared_wavefronts_ideal == 4);
  CHECK(counters.shared_store_instructions == 1);
  return counters.shared_wavefronts;
}

TEST_CASE("eight rows are one wavefront unless they share banks") {
  CHECK(wavefronts(16) == 4);
  CHECK(wavefronts(144) == 4);
  CHECK(wavefronts(32) == 8);
  CHECK(wavefronts(64) == 16);
  CHECK(wavefronts(128) == 32);
  CHECK(wavefronts(256) == 32);
}

std::string report(const std::string& body, std::uint32_t threads = 32) {
  return error_text([&] {
    run(emulator(), ptx_module(".shared .align 16 .b8 tile[1024];\n" + body), "test", parameter_block(nullptr, nullptr),
        {.threads = threads});
  });
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

const std::string kFill =
    R"(mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 5; mov.u32 %r3, tile; add.u32 %r2, %r2, %r3; mov.b32 %r4, 0;
  st.shared.v4.b32 [%r2], {%r4, %r4, %r4, %r4}; st.shared.v4.b32 [%r2+16], {%r4, %r4, %r4, %r4};
)";
const std::string kLoad = "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r10, %r11, %r12, %r13}, ";

TEST_CASE("a misaligned row, a row outside and an unwritten row are faults that name the lane") {
  CHECK(report(kFill + kLoad + "[%r2]; ret;") == "");
  std::string text = report(kFill + "setp.eq.u32 %p1, %r1, 9; @%p1 add.u32 %r2, %r2, 8;\n" + kLoad + "[%r2]; ret;");
  CHECK(contains(text, "thread (9,0,0)"));
  CHECK(contains(text, "reads 16 bytes at"));
  CHECK(contains(text, "16 does not divide"));
  text = report(kFill + "setp.eq.u32 %p1, %r1, 30; @%p1 add.u32 %r2, %r2, 64;\n" + kLoad + "[%r2]; ret;");
  CHECK(contains(text, "thread (30,0,0)"));
  CHECK(contains(text, "the block has 1024 bytes"));
  text = report(
      "mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 5; setp.ne.u32 %p1, %r1, 5; mov.b32 %r4, 0;\n@%p1 st.shared.v4.b32 "
      "[%r2], "
      "{%r4, %r4, %r4, %r4};\n" +
      kLoad + "[%r2]; ret;");
  CHECK(contains(text, "thread (5,0,0)"));
  CHECK(contains(text, "nobody has written"));
  CHECK(contains(text, "offset 160 of 'tile'"));
}

TEST_CASE("only the lanes that name a row need an address, and it must be in shared memory") {
  const std::string some = kFill + "mov.u32 %r5, %r2; setp.lt.u32 %p1, %r1, 8; @%p1 mov.u32 %r6, %r5;\n";
  CHECK(report(some + "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r10}, [%r6]; ret;") == "");
  CHECK(contains(report(some + "ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r10, %r11}, [%r6]; ret;"),
                 "uses the register %r6"));
  const std::string generic = kFill + "cvt.u64.u32 %rd3, %r2; cvta.shared.u64 %rd3, %rd3;\n";
  CHECK(report(generic + "ldmatrix.sync.aligned.m8n8.x4.b16 {%r10, %r11, %r12, %r13}, [%rd3]; ret;") == "");
  CHECK(report(generic + "ldmatrix.sync.aligned.m8n8.x4.shared::cta.b16 {%r10, %r11, %r12, %r13}, [tile+32]; ret;") ==
        "");
  Device& device = emulator();
  const DeviceBuffer global = upload(device, std::vector<float>(256, 0.0F));
  CHECK(contains(
      error_text([&] {
        run(device, ptx_module(kLoad.substr(0, kLoad.find(".shared")) + ".b16 {%r10, %r11, %r12, %r13}, [%rd1]; ret;"),
            "test", parameter_block(global.data(), nullptr));
      }),
      "not in the shared memory of its block"));
}

TEST_CASE("part of a warp and an unwritten source are faults; other shapes are refused") {
  CHECK(contains(report(kFill + "setp.lt.u32 %p1, %r1, 16;\n@%p1 " + kLoad + "[%r2]; ret;"), "needs all 32 lanes"));
  CHECK(contains(report(kFill + "stmatrix.sync.aligned.m8n8.x1.shared.b16 [%r2], {%r20}; ret;"),
                 "uses the register %r20"));
  for (const std::string opcode :
       {"ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r1, %r2}, [tile]",
        "ldmatrix.sync.aligned.m8n8.x3.shared.b16 {%r1, %r2, %r3}, [tile]",
        "ldmatrix.sync.aligned.m8n8.x1.global.b16 {%r1}, [%rd1]",
        "stmatrix.sync.aligned.m8n8.x2.shared.b16 [tile], {%r1}", "ldmatrix.aligned.m8n8.x1.shared.b16 {%r1}, [tile]",
        "movmatrix.sync.aligned.m8n8.b16 %r1, %r2"}) {
    CAPTURE(opcode);
    CHECK(contains(report(opcode + "; ret;"), opcode.substr(0, opcode.find(' '))));
  }
}

}  // namespace
}  // namespace gdnjit::tests

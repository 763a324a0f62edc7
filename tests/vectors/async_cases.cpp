// Bulk and tensor copies, cp.async, mbarriers, clusters: where bytes land.
#include <cstring>

#include "codegen/tensor_map.h"
#include "runtime/support/check.h"
#include "tests/vectors/lane_cases.h"
#include "tests/vectors/operand_bytes.h"

namespace gdnjit::vectors {
namespace {

// One barrier, one phase.
constexpr const char* kBarrier = R"(
typedef unsigned long long u64;
__device__ __forceinline__ unsigned shared_at(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ __forceinline__ void init(u64* bar, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_at(bar)), "r"(count) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void expect(u64* bar, unsigned bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_at(bar)), "r"(bytes) : "memory");
}
__device__ __forceinline__ void wait(u64* bar, unsigned parity) {
  asm volatile("{.reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1; @!p bra again;}" ::"r"(
                   shared_at(bar)), "r"(parity) : "memory");
}
)";

struct TmaLoad {
  std::string name;
  TensorMapSpec spec;
  int x = 0, y = 0, z = 0;
};

// Loads one box into shared memory that was filled with 0xab before, and copies all of it out.
std::string tma_load_source(int rank, std::uint64_t box_bytes) {
  const char* coordinates = rank == 1 ? "{%3}" : rank == 2 ? "{%3, %4}" : "{%3, %4, %5}";
  return std::string(kBarrier) +
         fmt::format(
             "struct alignas(128) Map {{ unsigned char bytes[128]; }};\n"
             "extern \"C\" __global__ void vectors(const __grid_constant__ Map map, const unsigned char* in, const "
             "int* at, "
             "unsigned* out) {{\n"
             "  __shared__ __align__(1024) unsigned box[1024];\n  __shared__ u64 bar;\n"
             "  for (int i = threadIdx.x; i < 1024; i += 32) box[i] = 0xabababab;\n"
             "  if (threadIdx.x == 0) init(&bar, 1);\n"
             "  asm volatile(\"fence.proxy.async;\" ::: \"memory\");\n  __syncthreads();\n"
             "  if (threadIdx.x == 0) {{\n    expect(&bar, {bytes});\n"
             "    asm volatile(\"cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
             "[%0], [%1, {coordinates}], [%2];\" :: \"r\"(shared_at(box)), \"l\"(&map), \"r\"(shared_at(&bar)), "
             "\"r\"(at[0]), \"r\"(at[1]), \"r\"(at[2]) : \"memory\");\n  }}\n"
             "  wait(&bar, 0);\n  for (int i = threadIdx.x; i < 1024; i += 32) out[i] = box[i];\n}}\n",
             fmt::arg("bytes", box_bytes), fmt::arg("rank", rank), fmt::arg("coordinates", coordinates));
}

std::function<std::vector<std::byte>(Device&, std::span<const DeviceBuffer>, const DeviceBuffer&)> map_of(
    TensorMapSpec spec, bool of_output) {
  return [spec, of_output](Device& device, std::span<const DeviceBuffer> inputs, const DeviceBuffer& output) {
    TensorMapSpec placed = spec;
    placed.address = of_output ? output.data() : inputs[0].data();
    const TensorMap map = device.encode_tensor_map(placed);
    return std::vector<std::byte>(map.opaque.begin(), map.opaque.end());
  };
}

std::vector<std::byte> words(std::initializer_list<int> values) {
  std::vector<std::byte> bytes(values.size() * sizeof(int));
  std::memcpy(bytes.data(), values.begin(), bytes.size());
  return bytes;
}

constexpr std::size_t kTensorBytes = 16384;

void add_load(std::vector<VectorCase>& cases, const TmaLoad& load) {
  VectorCase added;
  added.family = "cp.async.bulk.tensor load";
  added.name = load.name;
  added.source = tma_load_source(load.spec.rank, tensor_map_box_bytes(load.spec));
  added.first_arch = 90;
  added.inputs = {matrix_bytes(Element::u8, kTensorBytes, false, 31), words({load.x, load.y, load.z})};
  added.output_bytes = 4096;
  added.leading_parameters = map_of(load.spec, false);
  cases.push_back(std::move(added));
}

TensorMapSpec plane(TensorMapType type, std::uint64_t width, std::uint64_t height, std::uint64_t row_bytes,
                    std::uint32_t box_width, std::uint32_t box_height, TensorMapSwizzle swizzle) {
  TensorMapSpec spec;
  spec.type = type;
  spec.rank = 2;
  spec.dims = {width, height};
  spec.strides = {row_bytes};
  spec.box = {box_width, box_height};
  spec.swizzle = swizzle;
  return spec;
}

// The innermost coordinate is a multiple of 16 bytes: an H200 stops with an illegal instruction at others.
void add_loads(std::vector<VectorCase>& cases) {
  using Swizzle = TensorMapSwizzle;
  using Type = TensorMapType;
  for (const Swizzle swizzle : {Swizzle::none, Swizzle::b32, Swizzle::b64, Swizzle::b128}) {
    const auto span = static_cast<std::uint32_t>(swizzle == Swizzle::none ? 64 : swizzle_span_bytes(swizzle));
    const std::string suffix = fmt::format(", swizzle {}", static_cast<int>(swizzle));
    add_load(cases, {"bf16 plane" + suffix, plane(Type::bf16, 100, 40, 256, span / 2, 16, swizzle), 8, 3});
    add_load(cases,
             {"bf16 plane across both edges" + suffix, plane(Type::bf16, 100, 40, 256, span / 2, 16, swizzle), 88, 31});
    add_load(cases,
             {"f32 plane before the origin" + suffix, plane(Type::f32, 60, 50, 272, span / 4, 8, swizzle), -4, -2});
    add_load(cases, {"narrow box" + suffix, plane(Type::u8, 200, 40, 208, 16, 24, swizzle), 16, 5});
  }
  TensorMapSpec nan = plane(Type::bf16, 100, 40, 256, 32, 16, Swizzle::none);
  nan.fill = TensorMapFill::nan;
  add_load(cases, {"filled with NaN", nan, 88, 30});
  for (const Type type : {Type::f16, Type::f32, Type::f64}) {
    TensorMapSpec other = plane(type, 40, 30, 512, 16, 8, Swizzle::none);
    other.fill = TensorMapFill::nan;
    add_load(cases, {fmt::format("filled with NaN of type {}", tensor_map_type_name(type)), other, 32, 26});
  }
  TensorMapSpec strided = plane(Type::bf16, 100, 40, 256, 32, 16, Swizzle::none);
  strided.element_strides[1] = 3;
  add_load(cases, {"every third row", strided, 8, 2});
  TensorMapSpec line;
  line.type = Type::f32;
  line.rank = 1;
  line.dims = {1000};
  line.box = {64};
  add_load(cases, {"line", line, 36});
  add_load(cases, {"line past its end", line, 980});
  TensorMapSpec volume;
  volume.type = Type::f16;
  volume.rank = 3;
  volume.dims = {40, 10, 12};
  volume.strides = {96, 1008};
  volume.box = {16, 4, 5};
  add_load(cases, {"volume", volume, 8, 8, 9});
  volume.box = {32, 4, 5};
  volume.swizzle = Swizzle::b64;
  add_load(cases, {"volume, swizzle 2", volume, 16, 3, 2});
}

void add_stores(std::vector<VectorCase>& cases) {
  for (const char* kind : {"", "add"}) {
    for (const TensorMapSwizzle swizzle : {TensorMapSwizzle::none, TensorMapSwizzle::b128}) {
      const bool reduces = *kind != 0;
      VectorCase added;
      added.family = "cp.async.bulk.tensor store";
      added.name =
          fmt::format("{}plane across both edges, swizzle {}", reduces ? "add to a " : "", static_cast<int>(swizzle));
      added.source =
          std::string(kBarrier) +
          fmt::format(
              "struct alignas(128) Map {{ unsigned char bytes[128]; }};\n"
              "extern \"C\" __global__ void vectors(const __grid_constant__ Map map, const unsigned* in, unsigned* "
              "out) {{\n"
              "  __shared__ __align__(1024) unsigned box[512];\n"
              "  for (int i = threadIdx.x; i < 512; i += 32) {{ box[i] = in[i]; out[i] = i; out[512 + i] = i * 3; }}\n"
              "  asm volatile(\"fence.proxy.async;\" ::: \"memory\");\n  __syncthreads();\n"
              "  if (threadIdx.x == 0) {{\n"
              "    asm volatile(\"{} [%0, {{%2, %3}}], [%1];\" :: \"l\"(&map), "
              "\"r\"(shared_at(box)), \"r\"(20), \"r\"(20) : \"memory\");\n"
              "    asm volatile(\"cp.async.bulk.commit_group;\" ::: \"memory\");\n"
              "    asm volatile(\"cp.async.bulk.wait_group 0;\" ::: \"memory\");\n  }}\n}}\n",
              reduces ? "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group"
                      : "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group");
      added.first_arch = 90;
      added.inputs = {matrix_bytes(Element::u8, 2048, false, 41)};
      added.output_bytes = 4096;
      added.leading_parameters = map_of(plane(TensorMapType::u32, 30, 30, 128, 16, 16, swizzle), true);
      if (swizzle == TensorMapSwizzle::b128) {
        added.leading_parameters = map_of(plane(TensorMapType::u32, 30, 30, 128, 32, 16, swizzle), true);
      }
      cases.push_back(std::move(added));
    }
  }
}

void add_case(std::vector<VectorCase>& cases, std::string family, std::string name, const std::string& body,
              int first_arch, std::uint32_t blocks = 1, std::uint32_t threads = 32) {
  VectorCase added;
  added.family = std::move(family);
  added.name = std::move(name);
  added.source = (first_arch >= 90 ? std::string(kBarrier) : std::string("typedef unsigned long long u64;\n")) +
                 "extern \"C\" __global__ void vectors(const unsigned* in, unsigned* out) {\n"
                 "  __shared__ __align__(128) unsigned box[256];\n  __shared__ __align__(8) u64 bar;\n"
                 "  const int lane = threadIdx.x;\n"
                 "  for (int i = lane; i < 256; i += blockDim.x) box[i] = 1000 + i;\n  if (lane == 0) bar = 0;\n"
                 "  __syncthreads();\n" +
                 body + "\n}\n";
  added.first_arch = first_arch;
  added.inputs = {matrix_bytes(Element::u8, 4096, false, 51)};
  added.output_bytes = blocks * 1024;
  added.blocks = blocks;
  added.cluster = blocks;
  added.threads = threads;
  cases.push_back(std::move(added));
}

const char* const kDump =
    "  __syncthreads();\n  for (int i = lane; i < 256; i += blockDim.x) out[blockIdx.x * 256 + i] = box[i];";

void add_copies(std::vector<VectorCase>& cases) {
  const std::string dump = kDump;
  add_case(cases, "cp.async", "sizes 4, 8, 16 and zero fill",
           "  unsigned at = (unsigned)__cvta_generic_to_shared(box);\n"
           "  asm volatile(\"cp.async.ca.shared.global [%0], [%1], 4;\" :: \"r\"(at + lane * 4), \"l\"(in + lane));\n"
           "  asm volatile(\"cp.async.ca.shared.global [%0], [%1], 8, %2;\" :: \"r\"(at + 128 + lane * 8), \"l\"(in + "
           "lane * 2), \"r\"(lane % 9));\n"
           "  asm volatile(\"cp.async.cg.shared.global [%0], [%1], 16, %2;\" :: \"r\"(at + 384 + lane * 16), \"l\"(in "
           "+ lane * 4), \"r\"(lane % 17));\n"
           "  asm volatile(\"cp.async.commit_group;\");\n  asm volatile(\"cp.async.wait_group 0;\" ::: \"memory\");\n" +
               dump,
           80);
  const std::string begin =
      "  if (lane == 0) init(&bar, 1);\n  asm volatile(\"fence.proxy.async;\" ::: \"memory\");\n  __syncthreads();\n";
  add_case(cases, "cp.async.bulk", "global to shared",
           begin +
               "  if (lane == 0) {\n    expect(&bar, 272);\n"
               "    asm volatile(\"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 256, "
               "[%2];\" :: \"r\"(shared_at(box + 8)), \"l\"(in + 4), \"r\"(shared_at(&bar)) : \"memory\");\n"
               "    asm volatile(\"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], 16, "
               "[%2];\" :: \"r\"(shared_at(box + 128)), \"l\"(in + 100), \"r\"(shared_at(&bar)) : \"memory\");\n"
               "  }\n  wait(&bar, 0);\n" +
               dump,
           90);
  for (const char* op : {"add.u32", "min.s32", "xor.b32", "inc.u32"}) {
    add_case(
        cases, "cp.reduce.async.bulk", op,
        std::string("  for (int i = lane; i < 256; i += 32) { box[i] = in[i]; out[i] = in[256 + i]; }\n"
                    "  __threadfence();\n  asm volatile(\"fence.proxy.async;\" ::: \"memory\");\n  __syncthreads();\n"
                    "  if (lane == 0) {\n    asm volatile(\"cp.reduce.async.bulk.global.shared::cta.bulk_group.") +
            op +
            " [%0], [%1], 512;\" :: \"l\"(out + 16), \"r\"(shared_at(box)) : \"memory\");\n"
            "    asm volatile(\"cp.async.bulk.commit_group;\");\n    asm volatile(\"cp.async.bulk.wait_group 0;\" ::: "
            "\"memory\");\n  }",
        90);
  }
  add_case(
      cases, "cp.async.bulk", "multicast to blocks 0 and 2 of 4",
      begin +
          "  asm volatile(\"barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;\" ::: "
          "\"memory\");\n"
          "  unsigned rank; asm volatile(\"mov.u32 %0, %%cluster_ctarank;\" : \"=r\"(rank));\n"
          "  if (lane == 0 && rank % 2 == 0) expect(&bar, 512);\n"
          "  if (lane == 0 && rank == 1) {\n"
          "    asm volatile(\"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster "
          "[%0], [%1], 512, [%2], %3;\" :: \"r\"(shared_at(box)), \"l\"(in), \"r\"(shared_at(&bar)), \"h\"((unsigned "
          "short)5) : \"memory\");\n  }\n"
          "  if (rank % 2 == 0) wait(&bar, 0);\n"
          "  asm volatile(\"barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;\" ::: "
          "\"memory\");\n" +
          dump,
      90, 4);
  add_case(
      cases, "clusters", "mapa, distributed shared memory, registers",
      "  unsigned rank, size, there, value;\n"
      "  asm volatile(\"mov.u32 %0, %%cluster_ctarank;\" : \"=r\"(rank));\n"
      "  asm volatile(\"mov.u32 %0, %%cluster_nctarank;\" : \"=r\"(size));\n"
      "  box[lane] = rank * 100 + lane;\n"
      "  asm volatile(\"barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;\" ::: "
      "\"memory\");\n"
      "  asm volatile(\"mapa.shared::cluster.u32 %0, %1, %2;\" : \"=r\"(there) : \"r\"(shared_at(box + lane)), "
      "\"r\"((rank + 1) % size));\n"
      "  asm volatile(\"ld.shared::cluster.u32 %0, [%1];\" : \"=r\"(value) : \"r\"(there) : \"memory\");\n"
      "  asm volatile(\"red.shared::cluster.add.u32 [%0], %1;\" :: \"r\"(there + 512), \"r\"(value) : \"memory\");\n"
      "  asm volatile(\"barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;\" ::: "
      "\"memory\");\n"
      "  box[64 + lane] = value;\n" +
          dump,
      90, 4);
}

void add_barriers(std::vector<VectorCase>& cases) {
  add_case(
      cases, "mbarrier", "phases, test_wait and pending_count",
      "  u64 state, later;\n  unsigned done[6], pending;\n"
      "  if (lane == 0) {\n    init(&bar, 3);\n"
      "    const unsigned b = shared_at(&bar);\n"
      "    asm volatile(\"mbarrier.arrive.shared::cta.b64 %0, [%1];\" : \"=l\"(state) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"mbarrier.pending_count.b64 %0, %1;\" : \"=r\"(pending) : \"l\"(state));\n    out[0] = "
      "pending;\n"
      "    asm volatile(\"{.reg .pred p; mbarrier.test_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}\" : "
      "\"=r\"(done[0]) : \"r\"(b), \"l\"(state) : \"memory\");\n"
      "    asm volatile(\"mbarrier.arrive.shared::cta.b64 %0, [%1], 2;\" : \"=l\"(later) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"mbarrier.pending_count.b64 %0, %1;\" : \"=r\"(pending) : \"l\"(later));\n    out[1] = "
      "pending;\n"
      "    asm volatile(\"{.reg .pred p; mbarrier.test_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}\" : "
      "\"=r\"(done[1]) : \"r\"(b), \"l\"(state) : \"memory\");\n"
      "    asm volatile(\"{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, "
      "p;}\" : \"=r\"(done[2]) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], 1; selp.u32 %0, 1, 0, "
      "p;}\" : \"=r\"(done[3]) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"mbarrier.arrive_drop.shared::cta.b64 %0, [%1];\" : \"=l\"(state) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"mbarrier.arrive.shared::cta.b64 %0, [%1], 2;\" : \"=l\"(state) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], 1; selp.u32 %0, 1, 0, "
      "p;}\" : \"=r\"(done[4]) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"mbarrier.arrive.shared::cta.b64 %0, [%1], 2;\" : \"=l\"(state) : \"r\"(b) : \"memory\");\n"
      "    asm volatile(\"{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, "
      "p;}\" : \"=r\"(done[5]) : \"r\"(b) : \"memory\");\n"
      "    for (int i = 0; i < 6; ++i) out[2 + i] = done[i];\n  }",
      90);
}

void add_atomics(std::vector<VectorCase>& cases) {
  add_case(
      cases, "atomics", "order does not matter",
      "  for (int i = lane; i < 256; i += 32) out[i] = i < 128 ? in[i] : 0;\n  __syncthreads();\n"
      "  atomicAdd(out, in[lane]); atomicMin((int*)out + 1, (int)in[lane]); atomicMax(out + 2, in[lane]);\n"
      "  atomicAnd(out + 3, in[lane]); atomicOr(out + 4, in[lane]); atomicXor(out + 5, in[lane]);\n"
      "  atomicInc(out + 6, 20); atomicDec(out + 7, 20); atomicAdd((float*)out + 130, (float)lane);\n"
      "  asm volatile(\"red.global.add.noftz.f16x2 [%0], %1;\" :: \"l\"(out + 131), \"r\"(0x3c004000) : \"memory\");\n"
      "  asm volatile(\"red.global.add.noftz.bf16x2 [%0], %1;\" :: \"l\"(out + 132), \"r\"(0x3f804000) : \"memory\");\n"
      "  asm volatile(\"red.global.add.v4.f32 [%0], {%1, %2, %3, %4};\" :: \"l\"(out + 136), \"f\"(1.f), \"f\"(2.f), "
      "\"f\"((float)lane), \"f\"(-1.f) : \"memory\");",
      90);
}

}  // namespace

void add_async_cases(std::vector<VectorCase>& cases) {
  add_loads(cases);
  add_stores(cases);
  add_copies(cases);
  add_barriers(cases);
  add_atomics(cases);
}

}  // namespace gdnjit::vectors

// Clusters, distributed shared memory, cooperative grids, and what goes wrong with them.
#include <doctest/doctest.h>

#include "tests/emulator/fixture.h"

namespace gdnjit::tests {
namespace {

constexpr std::size_t npos = std::string::npos;

const std::string kExchange = R"(
#include "device/cluster.cuh"
using namespace gdnjit::device;
// Every block publishes its values; every block sums what the whole cluster published.
extern "C" __global__ void exchange(const float* in, float* out) {
  __shared__ float mine[64];
  mine[threadIdx.x] = in[blockIdx.x * 64 + threadIdx.x];
  cluster_sync();
  float sum = 0;
  for (unsigned rank = 0; rank < cluster_size(); ++rank)
    sum += load_cluster(in_cluster((unsigned)__cvta_generic_to_shared(mine + threadIdx.x), rank));
  cluster_sync();
  out[blockIdx.x * 64 + threadIdx.x] = sum;
}
)";

std::vector<float> ramp(std::size_t count) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i % 97);
  return values;
}

TEST_CASE("blocks of a cluster read each other's shared memory, for every size of cluster") {
  for (const std::uint32_t cluster : {1U, 2U, 4U, 8U, 16U}) {
    CAPTURE(cluster);
    Device& device = emulator();
    const std::vector<float> in = ramp(32 * 64);
    const DeviceBuffer input = upload(device, in), output(device, in.size() * sizeof(float), "out");
    run(device, compile_ptx(kExchange, "exchange"), "exchange", parameter_block(input.data(), output.data()),
        {.blocks = 32, .threads = 64, .cluster = cluster});
    const auto sums = download<float>(device, output);
    for (std::uint32_t block = 0; block < 32; ++block) {
      for (std::uint32_t thread = 0; thread < 64; ++thread) {
        float expected = 0;
        for (std::uint32_t rank = 0; rank < cluster; ++rank)
          expected += in[(block / cluster * cluster + rank) * 64 + thread];
        REQUIRE(sums[block * 64 + thread] == expected);
      }
    }
  }
}

TEST_CASE("the kernel's own cluster is used, its registers say where a block is, and another size is refused") {
  const std::string source = R"(
extern "C" __global__ void __cluster_dims__(2, 2, 1) where(unsigned* out) {
  if (threadIdx.x != 0) return;
  unsigned v[14];
  asm volatile("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(v[0]));
  asm volatile("mov.u32 %0, %%cluster_ctaid.y;" : "=r"(v[1]));
  asm volatile("mov.u32 %0, %%cluster_ctaid.z;" : "=r"(v[2]));
  asm volatile("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(v[3]));
  asm volatile("mov.u32 %0, %%cluster_nctaid.y;" : "=r"(v[4]));
  asm volatile("mov.u32 %0, %%cluster_nctaid.z;" : "=r"(v[5]));
  asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(v[6]));
  asm volatile("mov.u32 %0, %%clusterid.y;" : "=r"(v[7]));
  asm volatile("mov.u32 %0, %%clusterid.z;" : "=r"(v[8]));
  asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(v[9]));
  asm volatile("mov.u32 %0, %%nclusterid.y;" : "=r"(v[10]));
  asm volatile("mov.u32 %0, %%nclusterid.z;" : "=r"(v[11]));
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(v[12]));
  asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(v[13]));
  for (int i = 0; i < 14; ++i) out[(blockIdx.x + 6 * (blockIdx.y + 4 * blockIdx.z)) * 14 + i] = v[i];
}
)";
  Device& device = emulator();
  const DeviceBuffer out(device, 6 * 4 * 3 * 14 * 4, "out");
  const std::string& ptx = compile_ptx(source, "where");
  const auto kernel = device.load({"where", ptx, {}});
  LaunchGeometry geometry{.grid = {6, 4, 3}, .block = {32, 1, 1}};
  device.launch(*kernel, geometry, parameter_block(out.data()), nullptr, {});
  const auto values = download<std::uint32_t>(device, out);
  for (std::uint32_t z = 0; z < 3; ++z) {
    for (std::uint32_t y = 0; y < 4; ++y) {
      for (std::uint32_t x = 0; x < 6; ++x) {
        const std::uint32_t expected[] = {x % 2, y % 2, 0, 2, 2, 1, x / 2, y / 2, z, 3, 2, 3, x % 2 + 2 * (y % 2), 4};
        const std::uint32_t* row = &values[(x + 6 * (y + 4 * z)) * 14];
        for (int i = 0; i < 14; ++i) CHECK(row[i] == expected[i]);
      }
    }
  }
  geometry.cluster[0] = 4;
  const std::string refusal =
      error_text([&] { device.launch(*kernel, geometry, parameter_block(out.data()), nullptr, {}); });
  CHECK(refusal.find("clusters of 4x1x1 blocks; the kernel requires 2x2x1") != npos);
  geometry = {.grid = {5, 4, 3}, .block = {32, 1, 1}};
  CHECK(error_text([&] {
          device.launch(*kernel, geometry, parameter_block(out.data()), nullptr, {});
        }).find("which clusters of 2 do not divide") != npos);
}

TEST_CASE("stores and atomics reach another block, by shared::cluster and by generic addresses") {
  const std::string source = R"(
#include "device/cluster.cuh"
using namespace gdnjit::device;
extern "C" __global__ void reach(unsigned* out) {
  __shared__ unsigned total, word;
  if (threadIdx.x == 0) total = 0;
  cluster_sync();
  unsigned there = in_cluster((unsigned)__cvta_generic_to_shared(&total), 0);
  asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], %1;" ::"r"(there), "r"(threadIdx.x) : "memory");
  unsigned next = (cluster_rank() + 1) % cluster_size();
  unsigned long long generic;
  asm volatile("mapa.u64 %0, %1, %2;" : "=l"(generic) : "l"(&word), "r"(next));
  unsigned rank;
  asm volatile("getctarank.u64 %0, %1;" : "=r"(rank) : "l"(generic));
  if (threadIdx.x == 0) *(unsigned*)generic = 100 * cluster_rank() + rank;
  cluster_sync();
  if (threadIdx.x == 0) { out[2 * blockIdx.x] = total; out[2 * blockIdx.x + 1] = word; }
}
)";
  Device& device = emulator();
  const DeviceBuffer out(device, 8 * 2 * 4, "out");
  run(device, compile_ptx(source, "reach"), "reach", parameter_block(out.data()),
      {.blocks = 8, .threads = 96, .cluster = 4});
  const auto values = download<std::uint32_t>(device, out);
  for (std::uint32_t block = 0; block < 8; ++block) {
    CHECK(values[2 * block] == (block % 4 == 0 ? 4U * (95 * 96 / 2) : 0U));
    CHECK(values[2 * block + 1] == (block + 3) % 4 * 100 + block % 4);
  }
}

TEST_CASE("the blocks of a cooperative grid wait for each other") {
  const std::string source = R"(
extern "C" __global__ void grid_barrier(unsigned* arrived, const unsigned* in, unsigned* out) {
  __shared__ unsigned last;
  if (threadIdx.x == 0) out[blockIdx.x] = in[blockIdx.x] + 1;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    atomicAdd(arrived, 1);
    while (atomicAdd(arrived, 0) < gridDim.x) {}
    __threadfence();
    last = out[gridDim.x - 1 - blockIdx.x];
  }
  __syncthreads();
  if (threadIdx.x == 0) out[gridDim.x + blockIdx.x] = last;
}
)";
  Device& device = emulator();
  std::vector<std::uint32_t> in(200);
  for (std::uint32_t i = 0; i < 200; ++i) in[i] = 3 * i;
  const DeviceBuffer arrived = upload(device, std::vector<std::uint32_t>{0}), input = upload(device, in);
  const DeviceBuffer output(device, 400 * 4, "out");
  const auto parameters = parameter_block(arrived.data(), input.data(), output.data());
  const std::string& ptx = compile_ptx(source, "grid_barrier");
  run(device, ptx, "grid_barrier", parameters, {.blocks = 200, .threads = 64, .cooperative = true});
  const auto out = download<std::uint32_t>(device, output);
  for (std::uint32_t block = 0; block < 200; ++block) CHECK(out[200 + block] == 3 * (199 - block) + 1);
  const std::string text = error_text(
      [&] { run(device, ptx, "grid_barrier", parameters, {.blocks = 10000, .threads = 64, .cooperative = true}); });
  CHECK(text.find("a cooperative grid of 10000 blocks; sm_90a hold") != npos);
}

// The text of the fault of a kernel that runs in clusters of 2.
std::string cluster_fault(const std::string& body, std::uint32_t threads = 64) {
  const std::string source =
      "#include \"device/cluster.cuh\"\nusing namespace gdnjit::device;\n"
      "extern \"C\" __global__ void planted(float* out) {\n__shared__ float mine[64];\n"
      "unsigned at = (unsigned)__cvta_generic_to_shared(mine + threadIdx.x);\n" +
      body + "\n}\n";
  Device& device = emulator();
  const DeviceBuffer out(device, 4096, "out");
  return error_text([&] {
    run(device, compile_ptx(source, "planted"), "planted", parameter_block(out.data()),
        {.blocks = 2, .threads = threads, .cluster = 2});
  });
}

TEST_CASE("mistakes with clusters are found and named") {
  CHECK(cluster_fault("mine[threadIdx.x] = 1; cluster_sync(); out[threadIdx.x] = load_cluster(in_cluster(at, 2));")
            .find("names block 2 of a cluster of 2") != npos);
  // The neighbour may be gone when it is read.
  CHECK(cluster_fault("mine[threadIdx.x] = 1; cluster_sync();"
                      "if (cluster_rank() == 0) return;"
                      "for (int i = 0; i < 20000; ++i) out[threadIdx.x] = load_cluster(in_cluster(at, 0));")
            .find("of block 0 of its cluster, which has exited") != npos);
  CHECK(cluster_fault("cluster_arrive(); cluster_arrive(); cluster_wait();")
            .find("arrives at the cluster's barrier again without having waited") != npos);
  CHECK(cluster_fault("cluster_wait();").find("waits at the cluster's barrier without having arrived") != npos);
  CHECK(cluster_fault("if (threadIdx.x % 2) cluster_arrive(); else out[threadIdx.x] = 0;")
            .find("divergent cluster barrier") != npos);
  // The last warp of block 1 never arrives and never exits: it waits at a barrier of its own.
  const std::string deadlock = cluster_fault(
      "if (cluster_rank() == 1 && threadIdx.x >= 32) asm volatile(\"bar.sync 1, 64;\"); else cluster_sync();");
  CHECK(deadlock.find("deadlock: every warp waits") != npos);
  CHECK(deadlock.find("block (0,0,0), warp 0 waits for the cluster's barrier (96 of 128 threads have arrived)") !=
        npos);
  CHECK(deadlock.find("block (1,0,0), warp 1 waits at barrier 1 (32 of 64 threads are there)") != npos);
}

TEST_CASE("clusters do not exist before sm_90") {
  Device& device = emulator("sm_80");
  const std::string source = "extern \"C\" __global__ void nothing() {}";
  CHECK(error_text([&] {
          run(device, compile_ptx(source, "nothing", "sm_80"), "nothing", {}, {.blocks = 2, .cluster = 2});
        }).find("clusters; sm_80 has none") != npos);
}

TEST_CASE("threads that exit count as arrived at the cluster's barrier") {
  CHECK(cluster_fault("if (threadIdx.x >= 32) return; mine[threadIdx.x] = 2; cluster_sync();"
                      "out[blockIdx.x * 64 + threadIdx.x] = load_cluster(in_cluster(at, 1 - cluster_rank()));"
                      "cluster_sync();") == "");
}

}  // namespace
}  // namespace gdnjit::tests

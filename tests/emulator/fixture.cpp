#include "tests/emulator/fixture.h"

#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <tuple>

#include "codegen/templates.h"

namespace gdnjit::tests {

Compiler& nvrtc() {
  static NvrtcCompiler compiler = [] {
    SearchPaths paths;
    const auto add = [](std::vector<std::filesystem::path>& list, const char* variable, const char* below) {
      if (const char* value = std::getenv(variable); value != nullptr)
        list.push_back(std::filesystem::path(value) / below);
    };
    if (const char* library = std::getenv("GDNJIT_NVRTC"); library != nullptr) paths.library = library;
    add(paths.toolkit_folders, "CUDA_HOME", "");
    add(paths.toolkit_folders, "CUDA_PATH", "");
    add(paths.nvrtc_folders, "XDG_DATA_HOME", "gdnjit/nvrtc");
    add(paths.nvrtc_folders, "HOME", ".local/share/gdnjit/nvrtc");
    add(paths.python_prefixes, "VIRTUAL_ENV", "");
    if (const char* home = std::getenv("HOME"); home != nullptr) paths.home = home;
    const char* folder = std::getenv("GDNJIT_TEMPLATES");
    static const TemplateSet templates =
        folder != nullptr ? TemplateSet::with_overrides(folder) : TemplateSet::embedded();
    return NvrtcCompiler(NvrtcLibrary::open(paths), templates);
  }();
  return compiler;
}

const std::string& compile_ptx(const std::string& source, const std::string& entry, const std::string& arch,
                               bool line_info) {
  static std::mutex mutex;
  static std::map<std::tuple<std::string, std::string, bool>, std::string> cache;
  const std::lock_guard lock(mutex);
  std::string& ptx = cache[{source, arch, line_info}];
  if (ptx.empty()) {
    KernelSpec spec{.operator_name = "test",
                    .signature = "test",
                    .source = source,
                    .entry = entry,
                    .target = {arch},
                    .line_info = line_info};
    const CompileResult result = nvrtc().compile(spec);
    if (const auto* failure = std::get_if<CompileFailure>(&result))
      throw Error(ErrorCode::compile_failed, failure->log);
    ptx = std::get<CompiledKernel>(result).ptx;
  }
  return ptx;
}

std::string ptx_kernel(const std::string& body, int width_a, int width_b, int width_c, int width_d,
                       const std::string& target) {
  return fmt::format(R"(.version 8.0
.target {}
.address_size 64
.visible .entry test(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 d)
{{
  .reg .pred %p<20>;
  .reg .b16 %rs<40>;
  .reg .b32 %r<40>;
  .reg .b64 %rd<40>;
  .reg .f32 %f<40>;
  .reg .f64 %fd<20>;
  ld.param.u64 %rd1, [a];
  ld.param.u64 %rd2, [b];
  ld.param.u64 %rd3, [c];
  ld.param.u64 %rd4, [d];
  mov.u32 %r30, %tid.x;
  mov.u32 %r31, %ctaid.x;
  mov.u32 %r32, %ntid.x;
  mad.lo.u32 %r30, %r31, %r32, %r30;
  mad.wide.u32 %rd1, %r30, {}, %rd1;
  mad.wide.u32 %rd2, %r30, {}, %rd2;
  mad.wide.u32 %rd3, %r30, {}, %rd3;
  mad.wide.u32 %rd4, %r30, {}, %rd4;
{}
  ret;
}}
)",
                     target, width_a, width_b, width_c, width_d, body);
}

std::string ptx_module(const std::string& body, const std::string& declarations) {
  return fmt::format(R"(.version 8.0
.target sm_90
.address_size 64
{}
.visible .entry test(.param .u64 a, .param .u64 b)
{{
  .reg .pred %p<20>;
  .reg .b16 %rs<40>;
  .reg .b32 %r<40>;
  .reg .b64 %rd<40>;
  .reg .f32 %f<40>;
  ld.param.u64 %rd1, [a];
  ld.param.u64 %rd2, [b];
{}
}}
)",
                     declarations, body);
}

Device& emulator(const std::string& arch) {
  static std::map<std::string, std::unique_ptr<Device>> devices;
  std::unique_ptr<Device>& device = devices[arch];
  // Tests of instructions let threads meet as they please; kernels are tested with all checks (race_fixture.h).
  if (device == nullptr) device = make_emulator(arch, EmulatorChecks::memory);
  return *device;
}

LaunchCounters run(Device& device, const std::string& ptx, const std::string& entry,
                   const std::vector<std::byte>& parameters, const Launch& launch) {
  const std::unique_ptr<Kernel> kernel = device.load({entry, ptx, {}});
  LaunchGeometry geometry;
  geometry.grid[0] = launch.blocks;
  geometry.block[0] = launch.threads;
  geometry.shared_bytes = launch.shared_bytes;
  geometry.cluster[0] = launch.cluster;
  geometry.cooperative = launch.cooperative;
  device.launch(*kernel, geometry, parameters, nullptr, launch.buffers);
  return *device.last_counters();
}

std::vector<float> sample_floats(std::size_t count, std::uint32_t seed) {
  static const float kEdges[] = {0.0F,
                                 -0.0F,
                                 1.0F,
                                 -1.0F,
                                 0.5F,
                                 1.5F,
                                 2.5F,
                                 -2.5F,
                                 3.0F,
                                 65504.0F,
                                 65520.0F,
                                 1e-8F,
                                 6e-8F,
                                 3e38F,
                                 -3e38F,
                                 from_bits(0x00000001),
                                 from_bits(0x80000001),
                                 from_bits(0x007fffff),
                                 from_bits(0x00800000),
                                 from_bits(0x7f7fffff),
                                 from_bits(0x7f800000),
                                 from_bits(0xff800000),
                                 from_bits(0x7fc00000),
                                 from_bits(0x7f800001),
                                 from_bits(0x3f800001),
                                 from_bits(0x3f7fffff),
                                 from_bits(0x4b000001)};
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> ordinary(-8.0F, 8.0F);
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) {
    switch (random() % 4) {
      case 0: values.push_back(kEdges[random() % std::size(kEdges)]); break;
      case 1: values.push_back(from_bits(static_cast<std::uint32_t>(random()))); break;
      default: values.push_back(ordinary(random)); break;
    }
  }
  return values;
}

std::vector<double> sample_doubles(std::size_t count, std::uint32_t seed) {
  std::vector<double> values;
  std::mt19937_64 random(seed);
  const std::vector<float> floats = sample_floats(count, seed);
  for (const float value : floats)
    values.push_back(random() % 2 == 0 ? static_cast<double>(value)
                                       : std::uniform_real_distribution<double>(-9, 9)(random));
  return values;
}

}  // namespace gdnjit::tests

// What ptxas makes of the kernels of gdn.chunk with their default tiles.
#include <doctest/doctest.h>

#include <string>

#include "codegen/gdn/chunk.h"
#include "codegen/nvrtc_compiler.h"
#include "tests/codegen/nvrtc_fixture.h"

using namespace gdnjit;

namespace {

// The kernels of a problem, none of which may spill.
void check_kernels(NvrtcCompiler& compiler, const std::string& text, const std::string& arch) {
  CAPTURE(text);
  CAPTURE(arch);
  DeviceTraits device;
  device.arch = arch;
  if (arch != "sm_90a") device.shared_bytes_per_block = 101376;
  const Operator& op = gdn::chunk_operator();
  const FieldMap problem = op.complete(parse_fields(text));
  const auto instance = op.instantiate(problem, op.default_tiles(problem, device), Target{arch});
  for (const KernelSpec& spec : instance->kernels()) {
    CAPTURE(spec.entry);
    CompileResult result = compiler.compile(spec);
    if (const auto* failure = std::get_if<CompileFailure>(&result)) FAIL(failure->first_error);
    const CompiledKernel& kernel = std::get<CompiledKernel>(result);
    CHECK(kernel.report.spill_store_bytes == 0);
    CHECK(kernel.report.spill_load_bytes == 0);
    CHECK(kernel.report.static_shared_bytes <= 48 << 10);
  }
}

}  // namespace

TEST_CASE("the default kernels of the models' layers compile without spills") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  check_kernels(compiler, "H=2 HV=8 T=8192", "sm_90a");  // segments
  check_kernels(compiler, "H=2 HV=8 T=8192 warmup=256 initial_state=pool", "sm_90a");
  check_kernels(compiler, "H=2 HV=8 T=8192 warmup=256 gate=channel_raw", "sm_80");
  check_kernels(compiler, "H=30 HV=30 K=96 V=192 beta=two_sigmoid", "sm_90a");  // Olmo-Hybrid
  check_kernels(compiler, "H=32 HV=32 gate=channel_raw", "sm_90a");             // Kimi-Linear
  check_kernels(compiler, "H=6 HV=6 K=256 V=512", "sm_90a");                    // FLA's default
  check_kernels(compiler, "H=16 HV=48", "sm_80");
  check_kernels(compiler, "H=6 HV=6 K=256 V=512", "sm_120");
}

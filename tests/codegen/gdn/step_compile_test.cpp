#include <doctest/doctest.h>

#include <string>

#include "codegen/gdn/step.h"
#include "codegen/nvrtc_compiler.h"
#include "codegen/registry.h"
#include "tests/codegen/nvrtc_fixture.h"

using namespace gdnjit;

namespace {

KernelSpec default_kernel(const std::string& text, const std::string& arch, std::string_view name) {
  const Operator& op = find_operator(name);
  const FieldMap problem = op.complete(parse_fields(text));
  return op.instantiate(problem, op.default_tiles(problem, {}), Target{arch})->kernels()[0];
}

CompiledKernel compile_default(NvrtcCompiler& compiler, const std::string& text, const std::string& arch,
                               std::string_view name = "gdn.step") {
  CompileResult result = compiler.compile(default_kernel(text, arch, name));
  if (const auto* failure = std::get_if<CompileFailure>(&result)) FAIL(text << ": " << failure->first_error);
  return std::get<CompiledKernel>(std::move(result));
}

}  // namespace

TEST_CASE("every option of gdn.step compiles for its default tiles without spills") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  for (const char* problem :
       {"B=64", "B=1 state=bf16", "B=64 state_layout=kv state=f16", "gate=channel_raw",
        "gate=channel_sigmoid beta=none", "gate=log beta=given norm=add_eps", "gate=alpha norm=max_eps",
        "gate=none beta=two_sigmoid norm=none", "gate=channel_log io=f32",
        "state_store=pool slot_dtype=i64 pad_sentinel=zero pad_policy=skip", "K=96 V=192 H=30 HV=30",
        "K=256 V=512 H=6 HV=6", "K=60 V=100 state=bf16", "K=33 V=17 head_map=modulo", "K=1024 V=64 state_layout=kv"}) {
    CAPTURE(std::string(problem));
    const CompiledKernel kernel = compile_default(compiler, problem, "sm_90a");
    CHECK(kernel.report.spill_store_bytes == 0);
    CHECK(kernel.report.stack_bytes == 0);
    CHECK(kernel.report.registers <= 168);
  }
}

TEST_CASE("one token in registers without masks is compiled by fewer passes, and nothing else is") {
  for (const char* problem :
       {"B=64", "B=1 state=bf16", "B=64 state_layout=kv", "gate=channel_raw", "state_store=pool"}) {
    CAPTURE(std::string(problem));
    CHECK(default_kernel(problem, "sm_90a", "gdn.step").quick_compile);
  }
  for (const char* problem : {"T=2", "conv_width=4", "gated_norm=silu", "K=2048 V=64", "K=60", "V=100 K=128"}) {
    CAPTURE(std::string(problem));
    CHECK(!default_kernel(problem, "sm_90a", "gdn.step").quick_compile);
  }
  CHECK(!default_kernel("", "sm_90a", "gdn.recurrent").quick_compile);
}

TEST_CASE("several tokens keep the state in registers, without spills, at 12 warps an SM or more") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  for (const char* problem : {"B=64 T=2", "B=64 T=16", "B=1 T=4", "B=64 T=4 state=bf16", "B=64 T=4 state_steps=dense",
                              "B=64 T=4 state_layout=kv K=64", "T=4 K=96 V=192 H=30 HV=30"}) {
    CAPTURE(std::string(problem));
    const CompiledKernel kernel = compile_default(compiler, problem, "sm_90a");
    CHECK(kernel.report.spill_store_bytes == 0);
    CHECK(kernel.report.stack_bytes == 0);
    CHECK(kernel.report.registers <= 168);
  }
  for (const char* problem : {"T=8 tree=true", "T=8 tree=true state_steps=dense", "T=4 gate=channel_raw",
                              "T=4 K=256 V=512 H=6 HV=6", "T=4 state_layout=kv B=64"}) {
    CAPTURE(std::string(problem));
    const CompiledKernel kernel = compile_default(compiler, problem, "sm_90a");
    CHECK(kernel.report.spill_store_bytes == 0);
    CHECK(kernel.report.registers <= 255);
  }
}

TEST_CASE("every option of gdn.recurrent compiles for its default tiles without spills") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  for (const char* problem :
       {"B=64", "B=64 ragged=true initial_state=pool final_state=pool", "state=bf16 state_layout=kv",
        "gate=channel_sigmoid", "write_output=false", "final_state=none initial_state=dense"}) {
    CAPTURE(std::string(problem));
    const CompiledKernel kernel = compile_default(compiler, problem, "sm_90a", "gdn.recurrent");
    CHECK(kernel.report.spill_store_bytes == 0);
    CHECK(kernel.report.stack_bytes == 0);
  }
}

TEST_CASE("both operators compile for every architecture") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  for (const std::string& arch : known_architectures()) {
    CAPTURE(arch);
    CHECK(compile_default(compiler, "B=8 state=bf16", arch).report.stack_bytes == 0);
    CHECK(compile_default(compiler, "B=8 T=4", arch).report.stack_bytes == 0);
    CHECK(compile_default(compiler, "B=8", arch, "gdn.recurrent").report.stack_bytes == 0);
  }
}

#include <doctest/doctest.h>

#include <string>

#include "codegen/gdn/step.h"
#include "codegen/nvrtc_compiler.h"
#include "codegen/registry.h"
#include "tests/codegen/nvrtc_fixture.h"

using namespace gdnjit;

namespace {

CompiledKernel compile_default(NvrtcCompiler& compiler, const std::string& text, const std::string& arch) {
  const Operator& op = find_operator("gdn.step");
  const FieldMap problem = op.complete(parse_fields(text));
  const auto instance = op.instantiate(problem, op.default_tiles(problem, {}), Target{arch});
  CompileResult result = compiler.compile(instance->spec());
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

TEST_CASE("gdn.step compiles for every architecture") {
  NvrtcCompiler compiler(machine_nvrtc(), TemplateSet::embedded());
  for (const std::string& arch : known_architectures()) {
    CAPTURE(arch);
    CHECK(compile_default(compiler, "B=8 state=bf16", arch).report.stack_bytes == 0);
  }
}

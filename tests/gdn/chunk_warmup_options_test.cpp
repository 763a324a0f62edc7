// gdn.chunk with a warm-up on the emulator, judged by the workload: states of every kind, ragged batches, both paths.
#include <doctest/doctest.h>

#include "tests/gdn/emulator_fixture.h"

using namespace gdnjit;
using namespace gdnjit::tests;
using reference::Inputs;

TEST_CASE("calls are within the tolerance and the bound of their gates, wherever sequences lie and end") {
  const auto runtime = emulator_runtime("sm_90a");
  const char* const wgmma = "path=wgmma block_v=64 stages=2 segments=4";
  const char* const wide = "path=wgmma block_v=128 stages=2 segments=4";
  const char* const mma = "path=mma block_v=16 segments=4";
  // Gates that hardly fade, so that a warm-up leaves an error that shows; in fp16, for bf16's own error is near the
  // tolerance without decay.
  const char* const weak = "gate=channel_sigmoid gate_lower_bound=-0.01 io=f16";
  struct Case {
    const char* tiles;
    const char* problem;
    const char* gate;
  };
  for (const Case& one :
       {Case{wide, "T=1100 HV=1 K=16 V=136 warmup=65 initial_state=dense checkpoints=dense checkpoint_every=192", weak},
        Case{wgmma, "T=1023 B=2 HV=2 K=16 V=24 warmup=128 state_layout=kv initial_state=pool final_state=dense", ""},
        Case{wgmma,
             "T=1040 B=3 HV=1 K=16 V=24 ragged=true warmup=256 initial_state=pool final_state=pool checkpoints=pool",
             weak},
        Case{wgmma,
             "T=1030 B=2 HV=1 K=16 V=24 ragged=true warmup=64 final_state=none write_output=false checkpoints=dense",
             ""},
        Case{mma, "T=1600 HV=1 K=16 V=24 warmup=64 initial_state=dense state_layout=kv final_state=pool", weak},
        Case{mma,
             "T=1040 B=3 HV=1 K=16 V=24 ragged=true warmup=256 initial_state=pool final_state=pool checkpoints=pool",
             ""},
        Case{mma, "T=1040 HV=1 K=33 V=17 warmup=64 io_alignment=2 output=f32 final_state=none", weak}}) {
    CAPTURE(std::string(one.tiles));
    CAPTURE(std::string(one.problem));
    const FieldMap problem = parse_fields(fmt::format("H=1 {} {}", one.problem, one.gate));
    CHECK(check_problem(*runtime, chunk(), problem, parse_fields(one.tiles), Inputs::typical, 3) == "");
  }
  const auto ampere = emulator_runtime("sm_80");
  const FieldMap problem = parse_fields("H=1 HV=1 K=16 V=24 T=1024 warmup=64 initial_state=dense");
  CHECK(check_problem(*ampere, chunk(), problem, std::nullopt, Inputs::brutal, 5) == "");
}

#include "runtime/emulator/exec/handlers.h"

namespace gdnjit::emulator {

namespace isa_portable {
Handler find(const OpKey& key);
std::uint32_t run_warp(Warp& warp, std::uint32_t quantum);
}  // namespace isa_portable

#ifdef GDNJIT_EMULATOR_AVX2
namespace isa_avx2 {
Handler find(const OpKey& key);
std::uint32_t run_warp(Warp& warp, std::uint32_t quantum);
}  // namespace isa_avx2
#endif

const ExecutionSet& portable_execution_set() {
  static constexpr ExecutionSet kSet{"portable", isa_portable::find, isa_portable::run_warp};
  return kSet;
}

const ExecutionSet& execution_set() {
#ifdef GDNJIT_EMULATOR_AVX2
  static constexpr ExecutionSet kSet{"avx2", isa_avx2::find, isa_avx2::run_warp};
  static const bool supported =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  if (supported) return kSet;
#endif
  return portable_execution_set();
}

}  // namespace gdnjit::emulator

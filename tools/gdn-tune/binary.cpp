#include "tools/gdn-tune/binary.h"

#include "codegen/kernel_spec.h"
#include "runtime/build.h"
#include "runtime/support/check.h"

namespace gdnjit::tool {

FoundBinary find_or_build(Runtime::Impl& runtime, const SelectedProblem& selected, const KernelSpec& spec) {
  try {
    const Built built = build_kernel(runtime, *selected.op, selected.problem, spec);
    return {built.binary, built.compiled};
  } catch (const Error& error) {
    if (error.code() != ErrorCode::compile_failed) throw;
    const Digest request = request_digest(spec, runtime.templates());
    FoundBinary failed{runtime.cache().find(kernel_key(request, runtime.toolchain()), spec.signature)};
    if (!failed.binary) throw;
    return failed;
  }
}

}  // namespace gdnjit::tool

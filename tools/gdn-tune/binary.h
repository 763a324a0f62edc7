// The binary of a kernel, whatever became of it.
#pragma once

#include "cache/kernel_cache.h"
#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {

struct FoundBinary {
  cache::KernelCache::BinaryPtr binary;  // ready, or a failed compile
  bool compiled = false;                 // by this call
};

// From the cache, or compiled and stored. A source that the compiler refuses is an outcome. Throws Error otherwise.
FoundBinary find_or_build(Runtime::Impl& runtime, const SelectedProblem& selected, const KernelSpec& spec);

}  // namespace gdnjit::tool

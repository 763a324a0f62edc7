// From a KernelSpec to its binary: the cache, or one compile.
#pragma once

#include <span>
#include <vector>

#include "cache/kernel_cache.h"
#include "codegen/operator.h"
#include "runtime/runtime_impl.h"

namespace gdnjit {

struct Built {
  cache::KernelCache::BinaryPtr binary;  // ready
  bool compiled = false;                 // by this call
};

// `problem` is complete; messages and the miss file name it. Throws Error: compile_failed (stored failures come back
// the same), nvrtc_missing if it must be compiled and cannot be, strict_miss.
Built build_kernel(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, const KernelSpec& spec);

// The kernels of a call, in order; those that must be compiled are compiled at the same time. Throws the first error.
std::vector<Built> build_kernels(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                 std::span<const KernelSpec> specs);

// The record of a compile's outcome, as the cache stores it.
cache::BinaryRecord binary_record(const KernelSpec& spec, const Digest& request, std::string_view toolchain,
                                  CompileResult result);

}  // namespace gdnjit

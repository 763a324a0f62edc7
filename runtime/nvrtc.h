// NVRTC as a Runtime uses it: found by its options, and not opened while the cache knows which toolchain it is.
#pragma once

#include <gdnjit/options.h>

#include <memory>
#include <string>

#include "cache/kernel_cache.h"
#include "codegen/compiler.h"
#include "codegen/nvrtc_library.h"
#include "codegen/templates.h"

namespace gdnjit {

SearchPaths nvrtc_search_paths(const Options& options);

// The toolchain's identity from the cache, checked against the library's file (one stat); "" if the cache does not
// know. With Options::nvrtc_library only that library counts; else the one that was last used.
std::string remembered_toolchain(const Options& options, cache::KernelCache& cache);

struct OpenedNvrtc {
  std::unique_ptr<Compiler> compiler;
  std::string toolchain;
};

// Opens NVRTC and has the cache remember which toolchain it is. Throws Error(nvrtc_missing).
OpenedNvrtc open_nvrtc(const Options& options, const TemplateSet& templates, cache::KernelCache& cache);

}  // namespace gdnjit

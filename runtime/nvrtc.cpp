#include "runtime/nvrtc.h"

#include <dlfcn.h>

#include <utility>

#include "codegen/nvrtc_compiler.h"

namespace gdnjit {
namespace {

// The loader may have found a bare name anywhere: ask it where.
std::filesystem::path file_of(const NvrtcLibrary& library) {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(library.functions().version), &info) != 0 && info.dli_fname != nullptr) {
    return info.dli_fname;
  }
  return library.path();
}

}  // namespace

SearchPaths nvrtc_search_paths(const Options& options) {
  SearchPaths paths;
  paths.library = options.nvrtc_library;
  paths.toolkit_folders = options.nvrtc_search.toolkit_folders;
  paths.nvrtc_folders = options.nvrtc_search.nvrtc_folders;
  paths.python_prefixes = options.nvrtc_search.python_prefixes;
  paths.home = options.nvrtc_search.home;
  return paths;
}

std::string remembered_toolchain(const Options& options, cache::KernelCache& cache) {
  if (options.nvrtc_library.empty()) {
    const auto last = cache.last_toolchain();
    return last ? last->second : "";
  }
  for (const std::filesystem::path& candidate : locate_nvrtc(nvrtc_search_paths(options))) {
    if (const auto identity = cache::identify_file(candidate)) return cache.known_toolchain(*identity).value_or("");
  }
  return "";
}

OpenedNvrtc open_nvrtc(const Options& options, const TemplateSet& templates, cache::KernelCache& cache) {
  NvrtcLibrary library = NvrtcLibrary::open(nvrtc_search_paths(options));
  const auto identity = cache::identify_file(file_of(library));
  OpenedNvrtc opened;
  opened.compiler = std::make_unique<NvrtcCompiler>(std::move(library), templates);
  opened.toolchain = opened.compiler->toolchain();
  if (identity) cache.remember_toolchain(*identity, opened.toolchain);
  return opened;
}

}  // namespace gdnjit

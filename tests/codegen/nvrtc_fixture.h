// NVRTC and small kernels for the tests of this folder.
#pragma once

#include <gdnjit/error.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "codegen/nvrtc_compiler.h"
#include "tests/codegen/temporary_folder.h"

namespace gdnjit {

// The searched places of this machine. Tests are not product code: they may read the environment.
inline SearchPaths machine_search_paths() {
  SearchPaths paths;
  const auto add = [](std::vector<std::filesystem::path>& list, const char* variable, const char* below) {
    if (const char* value = std::getenv(variable); value != nullptr)
      list.push_back(std::filesystem::path(value) / below);
  };
  if (const char* library = std::getenv("GDNJIT_NVRTC"); library != nullptr) paths.library = library;
  add(paths.toolkit_folders, "CUDA_HOME", "");
  add(paths.toolkit_folders, "CUDA_PATH", "");
  add(paths.nvrtc_folders, "XDG_DATA_HOME", "gdnjit/nvrtc");
  add(paths.nvrtc_folders, "HOME", ".local/share/gdnjit/nvrtc");
  add(paths.python_prefixes, "VIRTUAL_ENV", "");
  paths.python_prefixes.push_back(std::filesystem::current_path() / ".venv");
  if (const char* home = std::getenv("HOME"); home != nullptr) paths.home = home;
  return paths;
}

inline NvrtcLibrary machine_nvrtc() { return NvrtcLibrary::open(machine_search_paths()); }

// A kernel of one by-value struct, like all of ours. `body` may use p.x (float*) and p.n (int).
inline KernelSpec small_kernel(const std::string& body, const std::string& arch = "sm_90a") {
  KernelSpec spec;
  spec.operator_name = "test.small";
  spec.signature = "test.small arch=" + arch;
  spec.entry = "test_small";
  spec.source =
      "struct Parameters { float* x; int n; };\nextern \"C\" __global__ void __launch_bounds__(128) "
      "test_small(const __grid_constant__ Parameters p) {\n" +
      body + "\n}\n";
  spec.target.arch = arch;
  return spec;
}

inline CompiledKernel compiled(Compiler& compiler, const KernelSpec& spec) {
  CompileResult result = compiler.compile(spec);
  if (const auto* failure = std::get_if<CompileFailure>(&result)) throw Error(ErrorCode::compile_failed, failure->log);
  return std::get<CompiledKernel>(std::move(result));
}

// The embedded templates with `files` (name, text) added or replaced.
inline TemplateSet templates_with(const std::vector<std::pair<std::string, std::string>>& files) {
  const TemporaryFolder folder;
  for (const auto& [name, text] : files) folder.write(name, text);
  return TemplateSet::with_overrides(folder.path());
}

}  // namespace gdnjit

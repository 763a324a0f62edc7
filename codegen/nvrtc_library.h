// NVRTC, found and opened at run time: no toolkit is needed to build, and a process whose kernels are all cached
// never opens it. Everything goes through one table of functions, so that tests can put a fake in its place.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

namespace gdnjit {

// The functions of libnvrtc that we call. Results are nvrtcResult values; a program is an opaque pointer.
struct NvrtcTable {
  const char* (*get_error_string)(int result) = nullptr;
  int (*version)(int* major, int* minor) = nullptr;
  int (*create_program)(void** program, const char* source, const char* name, int header_count,
                        const char* const* headers, const char* const* include_names) = nullptr;
  int (*destroy_program)(void** program) = nullptr;
  int (*compile_program)(void* program, int option_count, const char* const* options) = nullptr;
  int (*get_ptx_size)(void* program, std::size_t* bytes) = nullptr;
  int (*get_ptx)(void* program, char* text) = nullptr;
  int (*get_cubin_size)(void* program, std::size_t* bytes) = nullptr;
  int (*get_cubin)(void* program, char* bytes) = nullptr;
  int (*get_log_size)(void* program, std::size_t* bytes) = nullptr;
  int (*get_log)(void* program, char* text) = nullptr;
};

// The nvrtcResult values that we tell apart.
inline constexpr int kNvrtcSuccess = 0;
inline constexpr int kNvrtcOutOfMemory = 1;
inline constexpr int kNvrtcInvalidOption = 5;
inline constexpr int kNvrtcCompilation = 6;
inline constexpr int kNvrtcBuiltinFailure = 7;

// The oldest NVRTC that can compile the templates: C++20 and sm_90a.
inline constexpr int kOldestNvrtcMajor = 12;

// Where to look. The environment is read elsewhere; what it says arrives here.
struct SearchPaths {
  std::filesystem::path library;                       // a library or its folder; if set, nothing else is tried
  std::vector<std::filesystem::path> toolkit_folders;  // $CUDA_HOME, $CUDA_PATH
  std::vector<std::filesystem::path> nvrtc_folders;    // where set-up unpacks the wheel
  std::vector<std::filesystem::path> python_prefixes;  // $VIRTUAL_ENV, $CONDA_PREFIX, ./.venv
  std::filesystem::path home;                          // ~: below it .local and .pyenv; empty: skipped
  std::filesystem::path root = "/";                    // of /usr, for tests
  bool loader_path = true;                             // try libnvrtc.so.13 and so on by name
};

// The libraries to try, best first: `library` alone if set; else toolkits, the loader's own path (bare names, which
// only opening can check), and the wheels nvidia-cuda-nvrtc of set-up and of Python. Looks at folders, opens nothing.
std::vector<std::filesystem::path> locate_nvrtc(const SearchPaths& paths);

// An opened NVRTC. Copies share the library, which stays mapped until the process ends: NVRTC keeps per-thread state
// that does not survive unloading.
class NvrtcLibrary {
 public:
  // Opens the first of locate_nvrtc that works. Throws Error(nvrtc_missing) listing what was tried and the remedy.
  static NvrtcLibrary open(const SearchPaths& paths);
  // A table made by the caller. REQUIRES: every entry is set.
  NvrtcLibrary(const NvrtcTable& table, std::filesystem::path path);

  const NvrtcTable& functions() const { return table_; }
  const std::filesystem::path& path() const { return path_; }  // the file, also if it was opened by a bare name
  int major() const { return major_; }
  int minor() const { return minor_; }

 private:
  NvrtcTable table_;
  std::filesystem::path path_;
  int major_ = 0;
  int minor_ = 0;
};

}  // namespace gdnjit

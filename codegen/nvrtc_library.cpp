#include "codegen/nvrtc_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "runtime/support/check.h"

namespace gdnjit {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 3> kLibraryNames{"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"};
// Below a site-packages folder: the wheels nvidia-cuda-nvrtc (13) and nvidia-cuda-nvrtc-cu12.
constexpr std::array<std::string_view, 2> kWheelFolders{"nvidia/cu13/lib", "nvidia/cuda_nvrtc/lib"};

// Orders "cuda-9.2" before "cuda-12.4": runs of digits compare as numbers.
bool natural_less(std::string_view a, std::string_view b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto number_length = [&](std::string_view text) {
    return static_cast<std::size_t>(std::find_if_not(text.begin(), text.end(), digit) - text.begin());
  };
  while (!a.empty() && !b.empty()) {
    const std::size_t digits_a = number_length(a);
    const std::size_t digits_b = number_length(b);
    if (digits_a > 0 && digits_b > 0) {
      if (digits_a != digits_b) return digits_a < digits_b;
      if (const int order = a.substr(0, digits_a).compare(b.substr(0, digits_b)); order != 0) return order < 0;
      a.remove_prefix(digits_a);
      b.remove_prefix(digits_b);
    } else {
      if (a.front() != b.front()) return a.front() < b.front();
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.empty() && !b.empty();
}

// Folders directly below `parent` whose name starts with `prefix`; the highest version first.
std::vector<fs::path> folders_like(const fs::path& parent, std::string_view prefix) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (name.starts_with(prefix) && entry->is_directory(ignored)) found.push_back(entry->path());
  }
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    return natural_less(b.filename().string(), a.filename().string());
  });
  return found;
}

class Candidates {
 public:
  void add(const fs::path& path) {
    if (std::find(paths_.begin(), paths_.end(), path) == paths_.end()) paths_.push_back(path);
  }
  // The newest library in `folder`, if any. Two paths to one file count once.
  void add_folder(const fs::path& folder) {
    for (std::string_view name : kLibraryNames) {
      const fs::path path = folder / name;
      std::error_code error;
      if (!fs::exists(path, error)) continue;
      const fs::path real = fs::canonical(path, error);
      if (std::find(real_paths_.begin(), real_paths_.end(), real) == real_paths_.end()) {
        real_paths_.push_back(real);
        add(path);
      }
      return;
    }
  }
  void add_wheels(const fs::path& site_packages) {
    for (std::string_view folder : kWheelFolders) add_folder(site_packages / folder);
  }
  // `lib` is the lib folder of a Python prefix.
  void add_python(const fs::path& lib) {
    for (const fs::path& python : folders_like(lib, "python3")) {
      add_wheels(python / "site-packages");
      add_wheels(python / "dist-packages");
    }
  }
  std::vector<fs::path> take() { return std::move(paths_); }

 private:
  std::vector<fs::path> paths_;
  std::vector<fs::path> real_paths_;
};

// NVRTC opens "libnvrtc-builtins.so.<version>" by bare name at its first compile. Toolkit libraries have no run path,
// so we load the one that lies beside it first; the loader then finds it by its soname.
void preload_builtins(const fs::path& library) {
  std::error_code error;
  const fs::path real = fs::canonical(library, error);
  if (error) return;
  for (fs::directory_iterator entry(real.parent_path(), error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().starts_with("libnvrtc-builtins.so.")) {
      dlopen(entry->path().c_str(), RTLD_NOW | RTLD_LOCAL);
    }
  }
}

template <typename Function>
bool resolve(void* handle, const char* symbol, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(handle, symbol));
  return function != nullptr;
}

// The file behind `path`, which may be a bare name that the loader found anywhere.
fs::path file_of(const NvrtcTable& table, const fs::path& path) {
  Dl_info info{};
  const bool known = dladdr(reinterpret_cast<const void*>(table.version), &info) != 0 && info.dli_fname != nullptr;
  return known ? fs::path(info.dli_fname) : path;
}

// Returns what is wrong with the library at `path`, or "" with `table` filled.
std::string open_table(const fs::path& path, NvrtcTable& table) {
  if (path.has_parent_path()) preload_builtins(path);
  void* const handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* const reason = dlerror();
    return reason != nullptr ? reason : "cannot be opened";
  }
  const bool complete =
      resolve(handle, "nvrtcGetErrorString", table.get_error_string) &&
      resolve(handle, "nvrtcVersion", table.version) && resolve(handle, "nvrtcCreateProgram", table.create_program) &&
      resolve(handle, "nvrtcDestroyProgram", table.destroy_program) &&
      resolve(handle, "nvrtcCompileProgram", table.compile_program) &&
      resolve(handle, "nvrtcGetPTXSize", table.get_ptx_size) && resolve(handle, "nvrtcGetPTX", table.get_ptx) &&
      resolve(handle, "nvrtcGetCUBINSize", table.get_cubin_size) && resolve(handle, "nvrtcGetCUBIN", table.get_cubin) &&
      resolve(handle, "nvrtcGetProgramLogSize", table.get_log_size) &&
      resolve(handle, "nvrtcGetProgramLog", table.get_log);
  if (!complete) return "not a usable NVRTC: functions are missing";
  int major = 0;
  int minor = 0;
  if (table.version(&major, &minor) != kNvrtcSuccess) return "does not tell its version";
  if (major < kOldestNvrtcMajor)
    return fmt::format("NVRTC {}.{} is too old, {}.0 is needed", major, minor, kOldestNvrtcMajor);
  return "";
}

}  // namespace

std::vector<fs::path> locate_nvrtc(const SearchPaths& paths) {
  Candidates candidates;
  if (!paths.library.empty()) {
    std::error_code error;
    if (fs::is_directory(paths.library, error)) {
      candidates.add_folder(paths.library);
    } else {
      candidates.add(paths.library);
    }
    return candidates.take();
  }
  std::vector<fs::path> toolkits = paths.toolkit_folders;
  for (const fs::path& folder : folders_like(paths.root / "usr/local", "cuda")) toolkits.push_back(folder);
  for (const fs::path& toolkit : toolkits) {
    candidates.add_folder(toolkit / "lib64");
    candidates.add_folder(toolkit / "lib");
    candidates.add_folder(toolkit / "targets/x86_64-linux/lib");
  }
  if (paths.loader_path) {
    for (std::string_view name : kLibraryNames) candidates.add(name);
  }
  for (const fs::path& folder : paths.nvrtc_folders) {
    candidates.add_folder(folder);
    candidates.add_folder(folder / "lib");
    candidates.add_wheels(folder);
  }
  for (const fs::path& prefix : paths.python_prefixes) candidates.add_python(prefix / "lib");
  if (!paths.home.empty()) {
    candidates.add_python(paths.home / ".local/lib");
    for (const fs::path& version : folders_like(paths.home / ".pyenv/versions", ""))
      candidates.add_python(version / "lib");
  }
  candidates.add_python(paths.root / "usr/local/lib");
  candidates.add_python(paths.root / "usr/lib");
  return candidates.take();
}

NvrtcLibrary NvrtcLibrary::open(const SearchPaths& paths) {
  std::string tried;
  for (const fs::path& path : locate_nvrtc(paths)) {
    NvrtcTable table;
    const std::string reason = open_table(path, table);
    if (reason.empty()) return NvrtcLibrary(table, file_of(table, path));
    tried += fmt::format("\n  {}: {}", path.string(), reason);
  }
  if (tried.empty()) tried = "\n  nothing found";
  if (!paths.library.empty()) {
    fail(ErrorCode::nvrtc_missing,
         "opening NVRTC at '{}', the place asked for: no usable library; correct or unset GDNJIT_NVRTC; tried:{}",
         paths.library.string(), tried);
  }
  fail(ErrorCode::nvrtc_missing,
       "opening NVRTC: no usable library in the toolkits, on the loader's path or among Python's packages; install it "
       "with "
       "`pip install nvidia-cuda-nvrtc`, or set GDNJIT_NVRTC to libnvrtc.so; tried:{}",
       tried);
}

NvrtcLibrary::NvrtcLibrary(const NvrtcTable& table, fs::path path) : table_(table), path_(std::move(path)) {
  const int result = table_.version(&major_, &minor_);
  if (result != kNvrtcSuccess) {
    fail(ErrorCode::nvrtc_missing, "asking {} for its version: {}; reinstall it with `pip install nvidia-cuda-nvrtc`",
         path_.string(), table_.get_error_string(result));
  }
}

}  // namespace gdnjit

#include "codegen/nvrtc_compiler.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <utility>

#include "codegen/ptxas_report.h"
#include "runtime/support/check.h"

namespace gdnjit {
namespace {

// Owns an nvrtcProgram. Every call names what was being done.
class Program {
 public:
  Program(const NvrtcLibrary& library, std::string subject, const std::string& source, const std::string& name,
          const std::vector<const TemplateFile*>& headers)
      : library_(library), subject_(std::move(subject)) {
    std::vector<const char*> texts;
    std::vector<const char*> names;
    for (const TemplateFile* header : headers) {
      texts.push_back(header->text.c_str());
      names.push_back(header->name.c_str());
    }
    check(nvrtc().create_program(&program_, source.c_str(), name.c_str(), static_cast<int>(headers.size()),
                                 texts.data(), names.data()));
  }
  ~Program() {
    if (program_ != nullptr) nvrtc().destroy_program(&program_);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  // False if the source was refused; the log says why.
  bool compile(const std::vector<std::string>& options) {
    std::vector<const char*> texts;
    for (const std::string& option : options) {
      if (knows(option)) texts.push_back(option.c_str());
    }
    const int result = nvrtc().compile_program(program_, static_cast<int>(texts.size()), texts.data());
    if (result == kNvrtcCompilation) return false;
    check(result);
    return true;
  }

  std::string log() { return text(nvrtc().get_log_size, nvrtc().get_log); }
  std::string ptx() { return text(nvrtc().get_ptx_size, nvrtc().get_ptx); }

  std::vector<std::byte> cubin() {
    std::size_t bytes = 0;
    check(nvrtc().get_cubin_size(program_, &bytes));
    std::vector<std::byte> cubin(bytes);
    check(nvrtc().get_cubin(program_, reinterpret_cast<char*>(cubin.data())));
    return cubin;
  }

 private:
  const NvrtcTable& nvrtc() const { return library_.functions(); }

  bool knows(std::string_view option) const {
    for (const SpeedOption& newer : {kMinimalOption, kQuickOption}) {
      if (option != newer.text) continue;
      return library_.major() > newer.major || (library_.major() == newer.major && library_.minor() >= newer.minor);
    }
    return true;
  }

  std::string text(int (*get_size)(void*, std::size_t*), int (*get)(void*, char*)) {
    std::size_t bytes = 0;
    check(get_size(program_, &bytes));
    std::string text(bytes, '\0');
    if (bytes > 0) check(get(program_, text.data()));
    text.resize(std::min(text.find('\0'), text.size()));  // NVRTC counts the terminating zero
    return text;
  }

  void check(int result) {
    if (result == kNvrtcSuccess) return;
    const std::string who = fmt::format("{} with NVRTC {}.{} ({}): {}", subject_, library_.major(), library_.minor(),
                                        library_.path().string(), nvrtc().get_error_string(result));
    switch (result) {
      case kNvrtcOutOfMemory: fail(ErrorCode::out_of_memory, "{}; lower the number of compile threads", who);
      case kNvrtcInvalidOption:
        fail(ErrorCode::unsupported,
             "{}; this NVRTC does not know the target or an option: {}install a newer one with "
             "`pip install --upgrade nvidia-cuda-nvrtc`",
             who, refused_option());
      case kNvrtcBuiltinFailure:
        fail(ErrorCode::nvrtc_missing,
             "{}; libnvrtc-builtins.so must lie beside the library: reinstall with "
             "`pip install --force-reinstall nvidia-cuda-nvrtc`, or set GDNJIT_NVRTC to a complete one",
             who);
      default: fail(ErrorCode::compile_failed, "{}; try another NVRTC with GDNJIT_NVRTC", who);
    }
  }

  // What the log says of a refused option, as part of a sentence; never throws.
  std::string refused_option() {
    std::size_t bytes = 0;
    if (nvrtc().get_log_size(program_, &bytes) != kNvrtcSuccess || bytes == 0) return "";
    std::string log(bytes, '\0');
    if (nvrtc().get_log(program_, log.data()) != kNvrtcSuccess) return "";
    const std::string line = first_error_of(log.c_str());
    return line.empty() ? "" : line + "; ";
  }

  const NvrtcLibrary& library_;
  std::string subject_;
  void* program_ = nullptr;
};

// "gdn.step" -> "gdn_step.cu", the name that errors in the generated text itself carry.
std::string program_name(std::string_view operator_name) {
  std::string name(operator_name);
  std::replace(name.begin(), name.end(), '.', '_');
  return name + ".cu";
}

bool has_entry(std::string_view ptx, std::string_view entry) {
  return ptx.find(fmt::format(".entry {}(", entry)) != std::string_view::npos;
}

}  // namespace

NvrtcCompiler::NvrtcCompiler(NvrtcLibrary library, const TemplateSet& templates)
    : library_(std::move(library)), templates_(&templates) {}

std::string NvrtcCompiler::toolchain() {
  const std::lock_guard lock(toolchain_mutex_);
  if (!toolchain_.empty()) return toolchain_;
  // A virtual architecture: PTX only, ptxas does not run. The oldest that NVRTC 12 and 13 both know.
  Program program(library_, "finding the build number", "__device__ int gdnjit_build = __CUDACC_VER_BUILD__;\n",
                  "gdnjit_build.cu", {});
  if (!program.compile({"-arch=compute_80", std::string(kMinimalOption.text)})) {
    fail(ErrorCode::nvrtc_missing,
         "finding the build number of NVRTC {}: it refused one line of source: {}; set GDNJIT_NVRTC "
         "to another one",
         library_.path().string(), first_error_of(program.log()));
  }
  const std::string ptx = program.ptx();
  constexpr std::string_view kBefore = "gdnjit_build = ";
  const std::size_t at = ptx.find(kBefore);
  int build = 0;
  const bool found =
      at != std::string::npos &&
      std::from_chars(ptx.data() + at + kBefore.size(), ptx.data() + ptx.size(), build).ec == std::errc();
  GDNJIT_CHECK(found, "NVRTC {}.{} writes its build number in an unknown way", library_.major(), library_.minor());
  toolchain_ = fmt::format("nvrtc {}.{}.{}", library_.major(), library_.minor(), build);
  return toolchain_;
}

CompileResult NvrtcCompiler::compile(const KernelSpec& spec) {
  const auto start = std::chrono::steady_clock::now();
  Program program(library_, fmt::format("compiling {} for {}", spec.operator_name, spec.target.arch), spec.source,
                  program_name(spec.operator_name), templates_->closure(spec.source));
  const bool accepted = program.compile(compile_options(spec));
  std::string log = reproducible_log(program.log());
  if (!accepted) {
    std::string first = first_error_of(log);
    if (first.empty()) first = "NVRTC refused the source without a reason";
    return CompileFailure{std::move(first), std::move(log)};
  }
  CompiledKernel kernel{.ptx = program.ptx(), .cubin = program.cubin(), .report = {}, .log = std::move(log)};
  GDNJIT_CHECK(has_entry(kernel.ptx, spec.entry), "the generated source of {} does not define extern \"C\" kernel '{}'",
               spec.operator_name, spec.entry);
  kernel.report = parse_ptxas_report(kernel.log, spec.entry).value_or(PtxasReport{});
  kernel.milliseconds = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  return kernel;
}

}  // namespace gdnjit

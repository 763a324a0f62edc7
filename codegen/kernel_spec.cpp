#include "codegen/kernel_spec.h"

#include <algorithm>
#include <cctype>

#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit {
namespace {

// "sm_90a", "SM90", "compute_90", "9.0" -> the digits and suffix: "90a", "90", "90", "90".
std::string bare_architecture(std::string_view name) {
  std::string text;
  for (char c : name) text += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (std::string_view prefix : {"compute_", "compute", "sm_", "sm"}) {
    if (text.starts_with(prefix)) {
      text.erase(0, prefix.size());
      break;
    }
  }
  std::erase(text, '.');
  return text;
}

}  // namespace

const std::vector<std::string>& known_architectures() {
  static const std::vector<std::string> names{"sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_103", "sm_120"};
  return names;
}

Target parse_target(std::string_view name) {
  const std::string wanted = bare_architecture(name);
  for (const std::string& known : known_architectures()) {
    const std::string bare = bare_architecture(known);
    const bool without_suffix = bare.ends_with('a') && wanted + "a" == bare;
    if (wanted == bare || without_suffix) return Target{known};
  }
  fail(ErrorCode::invalid_argument, "arch={}: unknown architecture{}", name, suggestion(name, known_architectures()));
}

std::vector<std::string> compile_options(const KernelSpec& spec) {
  // -default-device: the public headers are plain constexpr functions, which NVRTC would take for host code. Line
  // information is left out unless it is asked for: it puts paths into the cubin, and the bytes would differ between
  // machines. Includes are those given and none of the working directory. -minimal leaves out what no template uses
  // (textures, the device runtime, the types of the runtime) and saves 3 ms a compile.
  const std::string arch = "-arch=" + spec.target.arch;
  const std::string minimal(kMinimalOption.text);
  std::vector<std::string> options{arch,    "--std=c++20",       "-default-device", "--no-source-include",
                                   minimal, "--ptxas-options=-v"};
  if (spec.quick_compile) options.emplace_back(kQuickOption.text);
  if (spec.line_info) options.emplace_back("-lineinfo");
  return options;
}

Digest request_digest(const KernelSpec& spec, const TemplateSet& templates) {
  const std::vector<std::string> options = compile_options(spec);
  const std::vector<const TemplateFile*> files = templates.closure(spec.source);
  const std::string counts =
      fmt::format("schema {} options {} templates {}", kGeneratorSchema, options.size(), files.size());
  std::vector<std::string_view> parts{counts,      spec.operator_name, spec.signature,
                                      spec.source, spec.entry,         spec.target.arch};
  parts.insert(parts.end(), options.begin(), options.end());
  for (const TemplateFile* file : files) {
    parts.push_back(file->name);
    parts.push_back(file->text);
  }
  return digest_of_parts(parts);
}

Digest call_digest(std::span<const Digest> requests) {
  if (requests.size() == 1) return requests.front();
  std::vector<std::string> texts;
  for (const Digest& request : requests) texts.push_back(request.hex());
  return digest_of_parts(std::vector<std::string_view>(texts.begin(), texts.end()));
}

Digest kernel_key(const Digest& request, std::string_view toolchain) {
  const std::string request_text = request.hex();
  const std::string_view parts[] = {request_text, toolchain};
  return digest_of_parts(parts);
}

bool has_programmatic_launch(const Target& target) { return !target.arch.starts_with("sm_8"); }

void check_programmatic(bool programmatic, const Target& target) {
  if (!programmatic || has_programmatic_launch(target)) return;
  fail(ErrorCode::unsupported, "programmatic=true: {} has no programmatic dependent launch, sm_90 and later do",
       target.arch);
}

bool has_clusters(std::string_view arch) { return !arch.starts_with("sm_8") && !arch.starts_with("sm_12"); }

}  // namespace gdnjit

// What must be compiled, and what identifies the result.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/templates.h"
#include "runtime/support/digest.h"

namespace gdnjit {

// Raise when generated source or records change meaning without their text changing.
inline constexpr int kGeneratorSchema = 1;

// A compute architecture as NVRTC's -arch takes it: "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100", "sm_103", "sm_120".
struct Target {
  std::string arch = "sm_90a";
};

// The architectures the project generates code for, oldest first.
const std::vector<std::string>& known_architectures();

// Throws invalid_argument with a suggestion for an unknown name ("sm90" and "90a" are understood too).
Target parse_target(std::string_view name);

// Programmatic dependent launch, which sm_90 brought.
bool has_programmatic_launch(const Target& target);
// Throws unsupported for a `programmatic` that the target cannot serve.
void check_programmatic(bool programmatic, const Target& target);

// Whether blocks of this architecture can share their shared memory. (Of sm_120 only clusters of one block count.)
bool has_clusters(std::string_view arch);

// One kernel to be compiled. `source` is generated from the signature alone.
struct KernelSpec {
  std::string operator_name;  // "gdn.step"
  std::string signature;      // canonical text: "gdn.step head_dim_k=128 ... arch=sm_90a"
  std::string source;         // the generated translation unit
  std::string entry;          // the kernel's extern "C" name
  Target target;
  bool line_info = false;      // the source's lines in the PTX, for reports; such a kernel is another one
  bool quick_compile = false;  // fewer passes of the optimiser: kQuickOption
};

// An option that makes a compile shorter. It is part of the list and of the key always; an NVRTC older than
// major.minor, which would refuse it, is not given it.
struct SpeedOption {
  std::string_view text;
  int major, minor;
};
// Binaries are the same without, as a test shows.
inline constexpr SpeedOption kMinimalOption{"-minimal", 12, 4};
// Of kernels that ask for it (KernelSpec::quick_compile): another binary with the same results, compiled in an eighth
// less time. On an H200 kernels of one token take 4 % more at B = 1 and 2 (2.96 us for 2.83) and 1 % at most from
// B = 4 on. Those of several tokens are 12 to 40 % slower, mixers get local memory, and shuffles get into branches
// where lanes part. (12.5 to 12.8 know the option, but not this value.)
inline constexpr SpeedOption kQuickOption{"--Ofast-compile=min", 12, 9};

// The exact option list for NVRTC; nothing machine-specific gets in.
std::vector<std::string> compile_options(const KernelSpec& spec);

// Digest of everything but the toolchain: signature, final source with every template it includes, options, schema.
Digest request_digest(const KernelSpec& spec, const TemplateSet& templates);

// What identifies the kernels of a call together: a single kernel's own digest, else one of theirs in order.
Digest call_digest(std::span<const Digest> requests);

// The cache key: request digest and toolchain ("nvrtc 13.0.88"). Two machines derive the same key.
Digest kernel_key(const Digest& request, std::string_view toolchain);

}  // namespace gdnjit

// The source of a kernel: an instance of a template over its config.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "codegen/kernel_spec.h"

namespace gdnjit {

// How a kernel is named.
struct KernelText {
  std::string_view space;          // of its template below gdnjit: "gdn"
  std::string_view operator_name;  // "gdn.step"
  std::string_view entry;          // "gdnjit_gdn_step"
  std::string_view header;         // "gdn/step.cuh"
  std::string_view kernel;         // "Step"
  std::string_view config;         // "StepConfig"
  std::string_view params;         // "StepParams"
  std::size_t parameter_bytes = 0;
  std::string_view bounds = "Kernel::kThreads";  // of __launch_bounds__
  bool quick_compile = false;                    // KernelSpec::quick_compile
};

// The kernel's source. `initializer` is its config as designated_initializer() writes it, `threads` those of a block.
std::string kernel_source(const KernelText& text, std::string_view initializer, int threads);

// The kernel to be compiled. `signature` names it with its config's fields; the architecture is added.
KernelSpec kernel_spec(const KernelText& text, std::string_view signature, std::string_view initializer, int threads,
                       const Target& target);

}  // namespace gdnjit

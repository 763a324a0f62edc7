// The Compiler that everybody uses: NVRTC, with the templates as in-memory headers.
#pragma once

#include <mutex>
#include <string>

#include "codegen/compiler.h"
#include "codegen/nvrtc_library.h"
#include "codegen/templates.h"

namespace gdnjit {

// One compile yields PTX and cubin. Equal specs and templates give equal bytes on every machine with the same NVRTC.
class NvrtcCompiler : public Compiler {
 public:
  // REQUIRES: `templates` outlives the compiler.
  NvrtcCompiler(NvrtcLibrary library, const TemplateSet& templates);

  // Found by a compile of one line (10 ms), because the version call leaves out the build number.
  std::string toolchain() override;

  // A source that NVRTC or ptxas refuses is a CompileFailure. Throws Error: invalid_argument for an #include that is
  // not a template, unsupported if this NVRTC does not know the target, nvrtc_missing if its builtins library is
  // missing, internal if the compiled source lacks spec.entry.
  CompileResult compile(const KernelSpec& spec) override;

  const NvrtcLibrary& library() const { return library_; }

 private:
  NvrtcLibrary library_;
  const TemplateSet* templates_;
  std::mutex toolchain_mutex_;
  std::string toolchain_;
};

}  // namespace gdnjit

// From source to binary. One interface, so that tests can put a counting or failing compiler in NVRTC's place.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "codegen/kernel_spec.h"

namespace gdnjit {

// What ptxas says about a kernel, parsed from its -v report.
struct PtxasReport {
  int registers = 0;
  int stack_bytes = 0;
  int spill_store_bytes = 0;
  int spill_load_bytes = 0;
  int static_shared_bytes = 0;
  int barriers = 0;
};

struct CompiledKernel {
  std::string ptx;               // what the emulator runs
  std::vector<std::byte> cubin;  // what a GPU loads
  PtxasReport report;
  std::string log;
  double milliseconds = 0;  // wall time of this compile
};

// An ordinary outcome: NVRTC refused the source.
struct CompileFailure {
  std::string first_error;  // "gdn/step.cuh(41): error: ..."
  std::string log;
};

using CompileResult = std::variant<CompiledKernel, CompileFailure>;

// Thread-safe: compiles run in parallel.
class Compiler {
 public:
  virtual ~Compiler() = default;
  // Identity with build number, such as "nvrtc 13.0.88". Throws Error(nvrtc_missing) if there is none.
  virtual std::string toolchain() = 0;
  virtual CompileResult compile(const KernelSpec& spec) = 0;
};

}  // namespace gdnjit

// Reads what ptxas -v writes into a compile log.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "codegen/compiler.h"

namespace gdnjit {

// The figures of kernel `entry`. Stack and spills include the functions that were not inlined into it. nullopt if the
// log does not speak of the kernel (ptxas changed its words, or no kernel of that name was compiled).
//
//   ptxas info    : Compiling entry function 'gdn_step' for 'sm_90a'
//   ptxas info    : Function properties for gdn_step
//   ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
//   ptxas info    : Used 40 registers, used 1 barriers, 512 bytes smem, 360 bytes cmem[0]
std::optional<PtxasReport> parse_ptxas_report(std::string_view log, std::string_view entry);

// The log without the lines that differ from run to run ("Compile time = 1.366 ms"), so records are reproducible.
std::string reproducible_log(std::string_view log);

// The first error of a failed compile: "gdn/step.cuh(41): error: ..." or "ptxas fatal   : ...". "" if there is none.
std::string first_error_of(std::string_view log);

}  // namespace gdnjit

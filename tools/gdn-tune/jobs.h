// Independent pieces of work on all cores, with a progress line, until they are done or somebody presses Ctrl-C.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "tools/gdn-tune/console.h"

namespace gdnjit::tool {

struct Jobs {
  std::string title;  // "verifying"
  std::size_t count = 0;
  int threads = 0;                                     // 0: one per core
  std::function<std::string(std::size_t index)> name;  // for the progress line
  std::function<void(std::size_t index)> work;         // called from several threads
};

// Returns which jobs ran: all of them, or those begun before an interrupt. The first exception of `work` ends the run
// like an interrupt and is thrown.
std::vector<bool> run_jobs(Console& console, const Jobs& jobs);

}  // namespace gdnjit::tool

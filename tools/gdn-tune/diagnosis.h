// What works on this machine, found by trying it. The findings of `doctor`.
#pragma once

#include <gdnjit/error.h>
#include <gdnjit/options.h>

#include <functional>
#include <string>
#include <vector>

#include "runtime/device_choice.h"

namespace gdnjit::tool {

enum class Health : unsigned char { ok, warn, fail };

struct Finding {
  Health health = Health::ok;
  std::string subject;  // "driver"
  std::string detail;   // what was found
  std::string remedy;   // what to do; "" if nothing
};

struct Diagnosis {
  std::vector<Finding> findings;
  ErrorCode code = ErrorCode::ok;  // not ok: no kernel can run, and this is why
};

// Tries devices, NVRTC and the cache that `options` name, and runs one kernel against the reference. Never throws an
// Error: whatever goes wrong is a finding. `step` is called before each trial, with what is tried.
Diagnosis diagnose(const Options& options, const DeviceSources& sources,
                   const std::function<void(const std::string& step)>& step = {});

}  // namespace gdnjit::tool

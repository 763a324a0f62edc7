// Policy tune_on_miss: lets plan() call the tuner without an arrow from runtime to autotune.
#pragma once

#include "runtime/runtime_impl.h"

namespace gdnjit::autotune {

// Makes `runtime` tune, in this process, the problems that have no record. Call it once after construction.
void register_tune_hook(Runtime::Impl& runtime);

}  // namespace gdnjit::autotune

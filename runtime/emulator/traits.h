// What the emulator says about the card it stands for.
#pragma once

#include <string_view>

#include "codegen/operator.h"

namespace gdnjit::emulator {

// Throws Error(unsupported) for an unknown name, with a suggestion.
DeviceTraits traits_of(std::string_view arch);

// "sm_90a" -> 90; 0 if it is no such name.
int arch_number(std::string_view arch);

// Whether a device of `arch` runs PTX of `target`: the same or an older architecture; sm_90a's only on sm_90a.
bool runs_on(std::string_view target, std::string_view arch);

}  // namespace gdnjit::emulator

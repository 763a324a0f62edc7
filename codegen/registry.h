// The operators of this build. One line each in registry.cpp.
#pragma once

#include <span>
#include <string_view>

#include "codegen/operator.h"

namespace gdnjit {

std::span<const Operator* const> operators();

// Throws invalid_argument with a suggestion for an unknown name.
const Operator& find_operator(std::string_view name);

}  // namespace gdnjit

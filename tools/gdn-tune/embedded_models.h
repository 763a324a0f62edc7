// models.json as text. Its definition is made at build time by embed_models.cmake.
#pragma once

#include <string_view>

namespace gdnjit::tool {

extern const std::string_view kModelsJson;

}  // namespace gdnjit::tool

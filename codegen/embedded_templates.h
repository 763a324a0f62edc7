// Made at build time from templates/ and the include-free public headers by cmake/embed_templates.cmake.
#pragma once

#include <span>
#include <string_view>

namespace gdnjit {

struct EmbeddedTemplate {
  std::string_view name;
  std::string_view text;
};

std::span<const EmbeddedTemplate> embedded_templates();

}  // namespace gdnjit

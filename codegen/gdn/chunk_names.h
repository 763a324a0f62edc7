// The text names of gdn.chunk's options beside those of the layer, for fields (codegen/fields.h).
#pragma once

#include <array>
#include <string_view>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/options_names.h"

namespace gdnjit {

template <>
struct EnumNames<gdn::ChunkPath> {
  static constexpr std::string_view type = "gdnjit::gdn::ChunkPath";
  static constexpr std::array<std::string_view, 2> names{"mma", "wgmma"};
};

template <>
struct EnumNames<gdn::ChunkTiles> {
  static constexpr std::string_view type = "gdnjit::gdn::ChunkTiles";
  static constexpr std::array<std::string_view, 3> names{"input", "key_head", "value_head"};
};

template <>
struct EnumNames<gdn::ChunkPass> {
  static constexpr std::string_view type = "gdnjit::gdn::ChunkPass";
  static constexpr std::array<std::string_view, 4> names{"whole", "transfer", "segment", "warmup"};
};

}  // namespace gdnjit

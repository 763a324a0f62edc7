// The text names of the GDN options, for fields (codegen/fields.h).
#pragma once

#include <gdnjit/gdn_options.h>

#include <array>
#include <string_view>

#include "codegen/fields.h"
#include "device/memory_hint.cuh"

namespace gdnjit {

template <>
struct EnumNames<gdn::HeadMap> {
  static constexpr std::string_view type = "gdnjit::gdn::HeadMap";
  static constexpr std::array<std::string_view, 2> names{"grouped", "modulo"};
};

template <>
struct EnumNames<gdn::StateLayout> {
  static constexpr std::string_view type = "gdnjit::gdn::StateLayout";
  static constexpr std::array<std::string_view, 2> names{"kv", "vk"};
};

template <>
struct EnumNames<gdn::Norm> {
  static constexpr std::string_view type = "gdnjit::gdn::Norm";
  static constexpr std::array<std::string_view, 4> names{"none", "sumsq_eps", "max_eps", "add_eps"};
};

template <>
struct EnumNames<gdn::Gate> {
  static constexpr std::string_view type = "gdnjit::gdn::Gate";
  static constexpr std::array<std::string_view, 7> names{"none",        "log",         "alpha",          "raw",
                                                         "channel_log", "channel_raw", "channel_sigmoid"};
};

template <>
struct EnumNames<gdn::Beta> {
  static constexpr std::string_view type = "gdnjit::gdn::Beta";
  static constexpr std::array<std::string_view, 4> names{"given", "sigmoid", "two_sigmoid", "none"};
};

template <>
struct EnumNames<gdn::InputLayout> {
  static constexpr std::string_view type = "gdnjit::gdn::InputLayout";
  static constexpr std::array<std::string_view, 3> names{"separate", "mixed_qkv", "qkvz"};
};

template <>
struct EnumNames<gdn::StateStore> {
  static constexpr std::string_view type = "gdnjit::gdn::StateStore";
  static constexpr std::array<std::string_view, 2> names{"dense", "pool"};
};

template <>
struct EnumNames<gdn::StatePlace> {
  static constexpr std::string_view type = "gdnjit::gdn::StatePlace";
  static constexpr std::array<std::string_view, 3> names{"none", "dense", "pool"};
};

template <>
struct EnumNames<gdn::PadSentinel> {
  static constexpr std::string_view type = "gdnjit::gdn::PadSentinel";
  static constexpr std::array<std::string_view, 2> names{"negative", "zero"};
};

template <>
struct EnumNames<gdn::PadPolicy> {
  static constexpr std::string_view type = "gdnjit::gdn::PadPolicy";
  static constexpr std::array<std::string_view, 2> names{"skip", "zero"};
};

template <>
struct EnumNames<gdn::GatedNorm> {
  static constexpr std::string_view type = "gdnjit::gdn::GatedNorm";
  static constexpr std::array<std::string_view, 3> names{"none", "silu", "sigmoid"};
};

template <>
struct EnumNames<device::CacheHint> {
  static constexpr std::string_view type = "gdnjit::device::CacheHint";
  static constexpr std::array<std::string_view, 2> names{"normal", "streaming"};
};

}  // namespace gdnjit

// The text names of the MoE options, for fields (codegen/fields.h).
#pragma once

#include <gdnjit/moe_options.h>

#include <array>
#include <string_view>

#include "codegen/fields.h"
#include "moe/grouped_config.cuh"

namespace gdnjit {

template <>
struct EnumNames<moe::Scoring> {
  static constexpr std::string_view type = "gdnjit::moe::Scoring";
  static constexpr std::array<std::string_view, 3> names{"softmax", "topk_softmax", "sigmoid"};
};

template <>
struct EnumNames<moe::GroupScore> {
  static constexpr std::string_view type = "gdnjit::moe::GroupScore";
  static constexpr std::array<std::string_view, 2> names{"max", "top2_sum"};
};

template <>
struct EnumNames<moe::AlignLayout> {
  static constexpr std::string_view type = "gdnjit::moe::AlignLayout";
  static constexpr std::array<std::string_view, 3> names{"sorted", "contiguous", "masked"};
};

template <>
struct EnumNames<moe::WeightFormat> {
  static constexpr std::string_view type = "gdnjit::moe::WeightFormat";
  static constexpr std::array<std::string_view, 7> names{"bf16", "f16", "int4", "int8", "fp8_block", "mxfp4", "nvfp4"};
};

template <>
struct EnumNames<moe::ZeroPoint> {
  static constexpr std::string_view type = "gdnjit::moe::ZeroPoint";
  static constexpr std::array<std::string_view, 3> names{"eight", "packed", "real"};
};

template <>
struct EnumNames<moe::ActivationFormat> {
  static constexpr std::string_view type = "gdnjit::moe::ActivationFormat";
  static constexpr std::array<std::string_view, 2> names{"io", "fp8"};
};

template <>
struct EnumNames<moe::Activation> {
  static constexpr std::string_view type = "gdnjit::moe::Activation";
  static constexpr std::array<std::string_view, 5> names{"silu", "gelu", "gelu_tanh", "swiglu_oai", "relu2"};
};

template <>
struct EnumNames<moe::GateOrder> {
  static constexpr std::string_view type = "gdnjit::moe::GateOrder";
  static constexpr std::array<std::string_view, 3> names{"gate_up", "up_gate", "interleaved"};
};

template <>
struct EnumNames<moe::ExpertPath> {
  static constexpr std::string_view type = "gdnjit::moe::ExpertPath";
  static constexpr std::array<std::string_view, 3> names{"matvec", "mma", "wgmma"};
};

}  // namespace gdnjit

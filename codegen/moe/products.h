// moe.up and moe.down: the two expert products of a layer as operators.
#pragma once

#include <gdnjit/moe.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codegen/moe/experts.h"
#include "codegen/operator.h"
#include "moe/matvec_config.cuh"

namespace gdnjit::moe {

const Operator& up_operator();
const Operator& down_operator();

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> up_tensors(const ExpertsProblem& problem);
std::vector<TensorSpec> down_tensors(const ExpertsProblem& problem);

inline constexpr std::size_t kMaxUpTensors = 16;
inline constexpr std::size_t kMaxDownTensors = 16;

// Put the arguments into that order and return their number. Allocate nothing.
std::size_t gather_up_args(const ExpertsProblem& problem, const UpArgs& args,
                           std::span<TensorView, kMaxUpTensors> tensors);
std::size_t gather_down_args(const ExpertsProblem& problem, const DownArgs& args,
                             std::span<TensorView, kMaxDownTensors> tensors);

// A kernel's parameters from tensors in that order. Return M.
std::int64_t pack_up(const ExpertsProblem& problem, const MatvecConfig& config, std::span<const TensorView> tensors,
                     MatvecParams& params);
std::int64_t pack_down(const ExpertsProblem& problem, const MatvecConfig& config, std::span<const TensorView> tensors,
                       MatvecParams& params);

}  // namespace gdnjit::moe

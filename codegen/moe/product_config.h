// What the configs of both classes of expert products take from a problem.
#pragma once

#include <gdnjit/moe.h>

#include <algorithm>

#include "codegen/moe/experts.h"

namespace gdnjit::moe {

// The fields that MatvecConfig and GroupedConfig have in common but out_dtype and shared_gate, which mean different
// things to their second products; those that a choice makes meaningless keep their defaults.
template <typename Config>
void set_product_fields(const ExpertsProblem& problem, bool down, Config& config) {
  config.down = down;
  config.hidden_size = problem.hidden_size;
  config.intermediate_size = problem.intermediate_size;
  config.shared_size = problem.shared_size;
  config.experts = problem.experts;
  config.top_k = problem.top_k;
  config.in_dtype = down ? problem.h_dtype : problem.io_dtype;
  config.weights = problem.weights;
  if (ExpertsUses(problem).scale) config.group_size = group_size_of(problem);
  if (problem.weights == WeightFormat::int4 || problem.weights == WeightFormat::int8) {
    config.scale_dtype = problem.scale_dtype;
    config.zero_point = problem.zero_point;
  }
  if (!down) {
    config.activation = problem.activation;
    if (is_gated(problem.activation)) config.gate_order = problem.gate_order;
    if (problem.activation == Activation::swiglu_oai) {
      config.swiglu_alpha = problem.swiglu_alpha;
      config.swiglu_limit = problem.swiglu_limit;
    }
  }
  config.bias = down ? problem.down_bias : problem.up_bias;
  if (config.bias) config.bias_dtype = problem.bias_dtype;
  config.weight_vector = row_vector(problem, config.in_features(false));
  if (problem.shared_size > 0) {
    config.weight_vector = std::min(config.weight_vector, row_vector(problem, config.in_features(true)));
  }
}

}  // namespace gdnjit::moe

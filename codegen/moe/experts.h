// What the operators over experts' weights share on the host: the rules of a problem, and the tensors of a product.
#pragma once

#include <gdnjit/moe.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "codegen/operator.h"
#include "codegen/tensor_reader.h"

namespace gdnjit::moe {

struct ExpertMatrix;  // moe/matvec_config.cuh

// Fills in what follows from other fields and checks every rule. Fields that a choice makes meaningless get their
// defaults. Throws invalid_argument ("D=100: must be a multiple of 8").
ExpertsProblem complete_experts(ExpertsProblem problem);

// Slots of a token, and numbers in a row of h.
int slots_of(const ExpertsProblem& problem);
int h_row_of(const ExpertsProblem& problem);

// One product: N rows of K weights for each of `experts`.
struct ProductShape {
  std::string_view name;  // "w1"
  int experts;
  int rows;
  int columns;
};
ProductShape up_shape(const ExpertsProblem& problem, bool shared);
ProductShape down_shape(const ExpertsProblem& problem, bool shared);

// Weights of a row that share a scale (0: all), as the format says or the problem.
int group_size_of(const ExpertsProblem& problem);

// Which of the optional tensors the products have; the one place that says so.
struct ExpertsUses {
  bool scale, zero, global_scale, up_bias, down_bias, expert_map, shared, shared_gate;
  explicit ExpertsUses(const ExpertsProblem& problem);
  std::size_t weights_count(bool down) const;  // tensors of one ExpertWeights
};

// The tensors of one ExpertWeights, in order: data, scale, zero, global_scale, bias.
void add_weight_specs(const ExpertsProblem& problem, const ProductShape& shape, bool bias,
                      std::vector<TensorSpec>& tensors);
std::size_t gather_weights(const ExpertsProblem& problem, const ExpertWeights& weights, bool bias,
                           std::span<TensorView> tensors);
// `vector`: bytes of a row that the kernel takes in one access.
ExpertMatrix take_weights(const ExpertsProblem& problem, const ProductShape& shape, bool bias, int vector,
                          TensorReader& reader);

// Bytes of one expert's weights in one product, scales and zeros included.
std::int64_t weight_bytes(const ExpertsProblem& problem, const ProductShape& shape);
// Experts that `tokens` tokens choose together, on average, if they choose evenly.
double expected_experts(const ExpertsProblem& problem, std::int64_t tokens);

// The largest power of two of bytes, 4 to 16, that divides a row of `columns` weights.
int row_vector(const ExpertsProblem& problem, int columns);

}  // namespace gdnjit::moe

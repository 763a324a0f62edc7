// Expert weights in double precision, whatever format they are stored in.
#pragma once

#include <gdnjit/moe.h>

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/moe/experts.h"
#include "tests/reference/workload.h"

namespace gdnjit::reference {

// The stored tensors of one ExpertWeights, dense; those that the format lacks are nullptr.
struct StoredWeights {
  const HostTensor* data = nullptr;
  const HostTensor* scale = nullptr;
  const HostTensor* zero = nullptr;
  const HostTensor* global_scale = nullptr;
  const HostTensor* bias = nullptr;
};

// Finds them among a call's tensors by name: "w1", "w1_scale", ..
StoredWeights find_weights(const std::vector<HostTensor>& tensors, std::string_view name);

// Row `row` of expert `expert`: what the stored codes stand for (moe.md section 3), without rounding.
void decode_row(const moe::ExpertsProblem& problem, const moe::ProductShape& shape, const StoredWeights& weights,
                std::int64_t expert, std::int64_t row, std::span<double> values);

double bias_of(const StoredWeights& weights, const moe::ProductShape& shape, std::int64_t expert, std::int64_t row);

// The numbers of OCP's small formats: e4m3 (fn: no infinity, 0x7f and 0xff are NaN), e2m1, and the exponents e8m0.
double e4m3_value(std::uint8_t code);
double e2m1_value(std::uint8_t code);
double e8m0_value(std::uint8_t code);

}  // namespace gdnjit::reference

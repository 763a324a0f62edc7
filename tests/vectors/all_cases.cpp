#include "tests/vectors/lane_cases.h"

namespace gdnjit::vectors {

std::vector<VectorCase> all_cases() {
  std::vector<VectorCase> cases;
  for (const auto add : {add_integer_cases, add_floating_cases, add_packed_cases, add_conversion_cases, add_warp_cases,
                         add_matrix_cases, add_wgmma_cases, add_async_cases, add_wrapper_cases}) {
    add(cases);
  }
  return cases;
}

}  // namespace gdnjit::vectors

// Where the logical tensors of a step lie inside its packed ones (InputLayout::mixed_qkv and ::qkvz).
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <vector>

#include "tests/reference/gdn_step.h"
#include "tests/reference/workload.h"

namespace gdnjit::reference {

// Element i of head `head` of token `token` lies at
//   token * token_stride + head / group_heads * group_stride + head % group_heads * width + offset + i
struct Place {
  std::int64_t heads = 0;
  std::int64_t width = 0;        // elements of one head
  std::int64_t token_stride = 0;
  std::int64_t group_heads = 1;  // heads that lie side by side
  std::int64_t group_stride = 0;
  std::int64_t offset = 0;

  std::int64_t index(std::int64_t token, std::int64_t head, std::int64_t i) const {
    return token * token_stride + head / group_heads * group_stride + head % group_heads * width + offset + i;
  }
};

enum class Part : unsigned char { q, k, v, a, b };

// The place of q, k, v in `packed`, or of a, b in qkvz's `ba`. REQUIRES: the problem's layout packs that part.
Place place_of(const gdn::StepProblem& problem, Part part);

// Moves numbers in logical order [token, head, i] to their places in `tensor`, rounding to its dtype, and back.
void scatter(HostTensor& tensor, const Place& place, const std::vector<double>& numbers);
std::vector<double> gather(const HostTensor& tensor, const Place& place, std::int64_t tokens);

// The numbers of a call from its tensors (found by name).
StepInputs unpack_inputs(const gdn::StepProblem& problem, const std::vector<HostTensor>& tensors);

}  // namespace gdnjit::reference

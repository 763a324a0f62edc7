// Where the logical tensors of a step lie inside its packed ones (InputLayout::mixed_qkv and ::qkvz).
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <vector>

#include "tests/reference/gdn_recurrent.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/workload.h"

namespace gdnjit::reference {

// Element i of head `head` of token `token` lies at
//   token * token_stride + group * group_stride + member * width + offset + i
// where head is member `member` of its group: consecutive heads form a group, or (interleaved) those equal modulo the
// number of groups.
struct Place {
  std::int64_t heads = 0;
  std::int64_t width = 0;  // elements of one head
  std::int64_t token_stride = 0;
  std::int64_t group_heads = 1;  // heads that lie side by side
  std::int64_t group_stride = 0;
  std::int64_t offset = 0;
  bool interleaved = false;

  std::int64_t index(std::int64_t token, std::int64_t head, std::int64_t i) const {
    const std::int64_t groups = heads / group_heads;
    const std::int64_t group = interleaved ? head % groups : head / group_heads;
    const std::int64_t member = interleaved ? head / groups : head % group_heads;
    return token * token_stride + group * group_stride + member * width + offset + i;
  }
};

enum class Part : unsigned char { q, k, v, z, a, b };

// The place of q, k, v, z in `packed`, or of a, b in qkvz's `ba`. REQUIRES: the problem's layout packs that part.
Place place_of(const gdn::StepProblem& problem, Part part);

// Moves numbers in logical order [token, head, i] to their places in `tensor`, rounding to its dtype, and back.
void scatter(HostTensor& tensor, const Place& place, const std::vector<double>& numbers);
std::vector<double> gather(const HostTensor& tensor, const Place& place, std::int64_t tokens);

// All tokens of a call, also of a ragged batch, as k or packed has them.
std::int64_t token_count(const std::vector<HostTensor>& tensors);

// The numbers of a call from its tensors (found by name).
LayerInputs unpack_layer(const gdn::StepProblem& layer, const std::vector<HostTensor>& tensors);
// Its slots, lengths and tree, and nothing else.
StepInputs unpack_indices(const gdn::StepProblem& problem, const std::vector<HostTensor>& tensors);
RecurrentInputs unpack_indices(const gdn::RecurrentProblem& problem, const std::vector<HostTensor>& tensors);
StepInputs unpack_inputs(const gdn::StepProblem& problem, const std::vector<HostTensor>& tensors);
RecurrentInputs unpack_inputs(const gdn::RecurrentProblem& problem, const std::vector<HostTensor>& tensors);

}  // namespace gdnjit::reference

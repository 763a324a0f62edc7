// The tensors that gdn.step and gdn.recurrent have in common: which there are, whether a call's are right, and how
// they become kernel parameters.
#pragma once

#include <gdnjit/gdn.h>
#include <gdnjit/tensor.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "codegen/operator.h"
#include "codegen/tensor_reader.h"
#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

// The leading dimensions of q, k, v, a, b and o. In a ragged batch B is 1 and T counts all tokens.
struct Extents {
  std::int64_t B;
  std::int64_t T;
};

// Which of the optional inputs a layer has; the one place that says so.
struct LayerUses {
  bool separate;    // q, k, v; else packed
  bool q;           // of separate
  bool a;           // a, g or alpha; with qkvz ba, which holds b too
  bool b;           // b or beta as a tensor of its own
  bool parameters;  // a_log, dt_bias

  explicit LayerUses(const StepProblem& layer)
      : separate(layer.input_layout == InputLayout::separate),
        q(separate && (layer.write_output || layer.conv_width > 0)),
        a(layer.gate != Gate::none || (layer.input_layout == InputLayout::qkvz && layer.beta != Beta::none)),
        b(layer.beta != Beta::none && layer.input_layout != InputLayout::qkvz),
        parameters(gate_has_parameters(layer.gate)) {}

  std::size_t count() const {
    return (separate ? (q ? 3U : 2U) : 1U) + (a ? 1U : 0U) + (b ? 1U : 0U) + (parameters ? 2U : 0U);
  }
};

// Elements in one access of a kernel, to which addresses and strides must be aligned.
struct InputVectors {
  int keys;        // of q and k
  int values = 1;  // of v and o
};

// States [lead.., HV, V, K] or [lead.., HV, K, V], heads dense, aligned for accesses of `vector` elements.
const TensorView& take_states(TensorReader& reader, std::string_view name, const StepProblem& layer, int vector,
                              std::initializer_list<std::int64_t> lead);

// q, k, v or packed, then a, b, a_log, dt_bias: those that the layer has.
void add_input_specs(const StepProblem& layer, const Extents& extents, std::vector<TensorSpec>& tensors);
void pack_inputs(const StepProblem& layer, const InputVectors& vectors, const Extents& extents, TensorReader& reader,
                 StepParams& params);

// o, the last tensor of a layer that has it.
void pack_output(const StepProblem& layer, int vector, const Extents& extents, TensorReader& reader,
                 StepParams& params);

// The extents of a call: from o, or without one from k or packed.
Extents read_extents(const StepProblem& layer, std::span<const TensorView> tensors);

// Strides of value head hv = (h, j) in a tensor [B,T,HV,..] whose heads lie `head` apart.
HeadStrides by_head(const StepProblem& layer, const TensorView& view, std::int64_t head);

// The same for Operator::describe_call(): from k or packed, which every call has.
Extents describe_extents(const StepProblem& layer, std::span<const TensorView> tensors);

// Takes over from a call the extents of `axis` that its caller chooses, for tensor `name` if the call has it.
void take_extent(std::string_view name, std::size_t axis, std::span<const TensorView> tensors,
                 std::vector<TensorSpec>& specs);

// The shape of one head's state, [V, K] or [K, V].
std::vector<std::int64_t> state_shape(const StepProblem& layer, std::initializer_list<std::int64_t> lead);

StateStrides state_strides(const TensorView& states);  // [row, HV, ..] or [row, token, HV, ..]
IndexArray index_array(const TensorView& indices);     // [row] or [row, token]

// Puts the layer's inputs from a call's arguments to the front of `tensors`, in order, and returns their number.
template <typename Args>
std::size_t gather_inputs(const StepProblem& layer, const Args& args, std::span<TensorView> tensors) {
  const LayerUses uses(layer);
  std::size_t count = 0;
  if (uses.q) tensors[count++] = args.q;
  if (uses.separate) {
    tensors[count++] = args.k;
    tensors[count++] = args.v;
  } else {
    tensors[count++] = args.packed;
  }
  if (uses.a) tensors[count++] = args.a;
  if (uses.b) tensors[count++] = args.b;
  if (uses.parameters) {
    tensors[count++] = args.a_log;
    tensors[count++] = args.dt_bias;
  }
  return count;
}

}  // namespace gdnjit::gdn

#include "codegen/gdn/sequence_args.h"

#include <string>
#include <utility>

namespace gdnjit::gdn {

void add_sequence_specs(const StepProblem& layer, const SequenceUses& uses, std::int64_t sequences,
                        std::int64_t pool_rows, std::vector<TensorSpec>& tensors) {
  const auto add = [&](std::string_view name, DType dtype, std::vector<std::int64_t> shape,
                       TensorRole role = TensorRole::input) {
    tensors.push_back({std::string(name), dtype, std::move(shape), role});
  };
  if (uses.cu_seqlens) add("cu_seqlens", DType::i32, {sequences + 1});
  if (uses.state_in) {
    const bool changes = uses.read_slot && uses.pool_changes;
    add("state_in", layer.state_dtype, state_shape(layer, {uses.read_slot ? pool_rows : sequences}),
        changes ? TensorRole::in_out : TensorRole::input);
  }
  if (uses.state_out) {
    add("state_out", layer.state_dtype, state_shape(layer, {uses.write_slot ? pool_rows : sequences}),
        uses.write_slot ? TensorRole::in_out : TensorRole::output);
  }
  const auto add_slots = [&](std::string_view name) {
    add(name, layer.slot_dtype, {sequences});
    tensors.back().indexes = uses.pool();
  };
  if (uses.read_slot) add_slots("read_slot");
  if (uses.write_slot) add_slots("write_slot");
}

void take_pool_rows(const SequenceUses& uses, std::span<const TensorView> tensors, std::vector<TensorSpec>& specs) {
  if (uses.read_slot || uses.write_slot) take_extent(uses.pool(), 0, tensors, specs);
}

std::int64_t count_sequences(const StepProblem& layer, bool ragged, const Extents& extents,
                             std::span<const TensorView> tensors) {
  if (!ragged) return extents.B;
  const TensorView& cu_seqlens = tensors[LayerUses(layer).count()];
  require(extents.B == 1, "{}: dimension 0 is {}, must be 1: a ragged batch is one row of tokens",
          layer.write_output ? "o" : "k", extents.B);
  require(cu_seqlens.rank == 1, "cu_seqlens: has rank {}, must be 1", cu_seqlens.rank);
  require(cu_seqlens.shape[0] >= 1, "cu_seqlens: dimension 0 is {}, must be 1 more than the number of sequences",
          cu_seqlens.shape[0]);
  return cu_seqlens.shape[0] - 1;
}

SequenceTensors take_sequence_tensors(const StepProblem& layer, const SequenceUses& uses, int state_vector,
                                      std::int64_t sequences, TensorReader& reader) {
  SequenceTensors taken{};
  const auto rows = [&](bool pool) { return pool ? kAnyExtent : sequences; };
  if (uses.cu_seqlens) taken.cu_seqlens = index_array(reader.take("cu_seqlens", DType::i32, {sequences + 1}));
  if (uses.state_in) {
    const TensorView& in = take_states(reader, "state_in", layer, state_vector, {rows(uses.read_slot)});
    taken.state_in = in.data;
    taken.state_out = in.data;  // a pool has both states
    taken.state_in_strides = taken.state_out_strides = state_strides(in);
    if (uses.read_slot) taken.pool = in.data, taken.pool_strides = state_strides(in);
  }
  if (uses.state_out) {
    const TensorView& out = take_states(reader, "state_out", layer, state_vector, {rows(uses.write_slot)});
    taken.state_out = out.data;
    taken.state_out_strides = state_strides(out);
    if (uses.write_slot) taken.pool = out.data, taken.pool_strides = state_strides(out);
  }
  if (uses.read_slot) taken.read_slot = index_array(reader.take("read_slot", layer.slot_dtype, {sequences}));
  if (uses.write_slot) taken.write_slot = index_array(reader.take("write_slot", layer.slot_dtype, {sequences}));
  return taken;
}

}  // namespace gdnjit::gdn

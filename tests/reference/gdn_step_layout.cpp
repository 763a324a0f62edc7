#include "tests/reference/gdn_step_layout.h"

#include <cstring>
#include <string_view>

#include "codegen/gdn/recurrent.h"
#include "runtime/support/check.h"
#include "tests/reference/find_tensor.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using gdn::Beta;
using gdn::Gate;
using gdn::HeadMap;
using gdn::InputLayout;
using gdn::StepProblem;

// One row a token: q H*K | k H*K | v HV*V.
Place place_in_mixed_qkv(const StepProblem& problem, Part part) {
  const std::int64_t H = problem.heads_k, HV = problem.heads_v, K = problem.head_dim_k, V = problem.head_dim_v;
  const std::int64_t row = 2 * H * K + HV * V;
  switch (part) {
    case Part::q: return {.heads = H, .width = K, .token_stride = row, .group_heads = H};
    case Part::k: return {.heads = H, .width = K, .token_stride = row, .group_heads = H, .offset = H * K};
    case Part::v: return {.heads = HV, .width = V, .token_stride = row, .group_heads = HV, .offset = 2 * H * K};
    default: break;
  }
  GDNJIT_CHECK(false, "mixed_qkv holds q, k and v only");
}

// Per key head, with the value heads that it serves: q K | k K | v r*V | z r*V; and in ba: b r | a r.
Place place_in_qkvz(const StepProblem& problem, Part part) {
  const std::int64_t H = problem.heads_k, HV = problem.heads_v, K = problem.head_dim_k, V = problem.head_dim_v;
  const std::int64_t r = HV / H;
  Place place;
  place.interleaved = problem.head_map == HeadMap::modulo;
  place.group_stride = part == Part::a || part == Part::b ? 2 * r : 2 * K + 2 * r * V;
  place.token_stride = H * place.group_stride;
  const bool of_key_head = part == Part::q || part == Part::k;
  place.heads = of_key_head ? H : HV;
  place.group_heads = of_key_head ? 1 : r;
  switch (part) {
    case Part::q: place.width = K, place.offset = 0; break;
    case Part::k: place.width = K, place.offset = K; break;
    case Part::v: place.width = V, place.offset = 2 * K; break;
    case Part::z: place.width = V, place.offset = 2 * K + r * V; break;
    case Part::b: place.width = 1, place.offset = 0; break;
    case Part::a: place.width = 1, place.offset = r; break;
  }
  return place;
}

// Exact, unlike by way of double.
std::vector<std::int64_t> indices_of(const std::vector<HostTensor>& tensors, std::string_view name) {
  const HostTensor* tensor = find_tensor(tensors, name);
  std::vector<std::int64_t> indices;
  if (tensor == nullptr) return indices;
  const std::byte* data = tensor->bytes.data();
  if (tensor->spec.dtype == DType::i64) {
    indices.resize(tensor->bytes.size() / sizeof(std::int64_t));
    if (!indices.empty()) std::memcpy(indices.data(), data, tensor->bytes.size());
  } else {
    std::vector<std::int32_t> narrow(tensor->bytes.size() / sizeof(std::int32_t));
    if (!narrow.empty()) std::memcpy(narrow.data(), data, tensor->bytes.size());
    indices.assign(narrow.begin(), narrow.end());
  }
  return indices;
}

}  // namespace

Place place_of(const StepProblem& problem, Part part) {
  GDNJIT_CHECK(problem.input_layout != InputLayout::separate, "separate inputs have no packed tensor");
  return problem.input_layout == InputLayout::qkvz ? place_in_qkvz(problem, part) : place_in_mixed_qkv(problem, part);
}

void scatter(HostTensor& tensor, const Place& place, const std::vector<double>& numbers) {
  const auto per_token = place.heads * place.width;
  for (std::int64_t n = 0; n < static_cast<std::int64_t>(numbers.size()); ++n) {
    const std::int64_t index = place.index(n / per_token, n % per_token / place.width, n % place.width);
    store_element(tensor.spec.dtype, tensor.bytes.data(), index, numbers[static_cast<std::size_t>(n)]);
  }
}

std::vector<double> gather(const HostTensor& tensor, const Place& place, std::int64_t tokens) {
  std::vector<double> numbers;
  for (std::int64_t token = 0; token < tokens; ++token) {
    for (std::int64_t head = 0; head < place.heads; ++head) {
      for (std::int64_t i = 0; i < place.width; ++i) {
        numbers.push_back(load_element(tensor.spec.dtype, tensor.bytes.data(), place.index(token, head, i)));
      }
    }
  }
  return numbers;
}

std::int64_t token_count(const std::vector<HostTensor>& tensors) {
  const HostTensor* keys = find_tensor(tensors, "k");
  if (keys == nullptr) keys = find_tensor(tensors, "packed");
  GDNJIT_CHECK(keys != nullptr, "a call without k and packed");
  return keys->spec.shape[0] * keys->spec.shape[1];
}

LayerInputs unpack_layer(const StepProblem& layer, const std::vector<HostTensor>& tensors) {
  const std::int64_t tokens = token_count(tensors);
  LayerInputs inputs;
  if (const HostTensor* packed = find_tensor(tensors, "packed")) {
    if (layer.write_output || layer.conv_width > 0) inputs.q = gather(*packed, place_of(layer, Part::q), tokens);
    inputs.k = gather(*packed, place_of(layer, Part::k), tokens);
    inputs.v = gather(*packed, place_of(layer, Part::v), tokens);
  } else {
    inputs.q = numbers_of(tensors, "q");
    inputs.k = numbers_of(tensors, "k");
    inputs.v = numbers_of(tensors, "v");
  }
  const HostTensor* ba = layer.input_layout == InputLayout::qkvz ? find_tensor(tensors, "a") : nullptr;
  if (ba != nullptr) {
    if (layer.gate != Gate::none) inputs.a = gather(*ba, place_of(layer, Part::a), tokens);
    if (layer.beta != Beta::none) inputs.b = gather(*ba, place_of(layer, Part::b), tokens);
  } else {
    inputs.a = numbers_of(tensors, "a");
    inputs.b = numbers_of(tensors, "b");
  }
  inputs.a_log = numbers_of(tensors, "a_log");
  inputs.dt_bias = numbers_of(tensors, "dt_bias");
  return inputs;
}

StepInputs unpack_indices(const StepProblem&, const std::vector<HostTensor>& tensors) {
  StepInputs inputs;
  inputs.read_slot = indices_of(tensors, "read_slot");
  inputs.write_slot = indices_of(tensors, "write_slot");
  inputs.num_accepted = indices_of(tensors, "num_accepted");
  inputs.accepted_slot = indices_of(tensors, "accepted_slot");
  for (const char* name : {"accepted_states", "accepted_slot"}) {
    if (const HostTensor* accepted = find_tensor(tensors, name)) inputs.accepted_columns = accepted->spec.shape[1];
  }
  inputs.parent = indices_of(tensors, "parent");
  inputs.step_slot = indices_of(tensors, "step_slot");
  return inputs;
}

RecurrentInputs unpack_indices(const gdn::RecurrentProblem& problem, const std::vector<HostTensor>& tensors) {
  RecurrentInputs inputs;
  inputs.start = indices_of(tensors, "cu_seqlens");
  for (std::int64_t row = 0; !problem.ragged && row <= problem.batch; ++row) {
    inputs.start.push_back(row * problem.tokens);
  }
  inputs.read_slot = indices_of(tensors, "read_slot");
  inputs.write_slot = indices_of(tensors, "write_slot");
  inputs.checkpoint_slot = indices_of(tensors, "checkpoint_slot");
  for (const char* name : {"checkpoints", "checkpoint_slot"}) {
    if (const HostTensor* checkpoints = find_tensor(tensors, name))
      inputs.checkpoint_columns = checkpoints->spec.shape[1];
  }
  return inputs;
}

namespace {

MixerInputs unpack_mixer(const StepProblem& problem, const std::vector<HostTensor>& tensors) {
  MixerInputs inputs;
  inputs.conv_weight = numbers_of(tensors, "conv_weight");
  inputs.conv_bias = numbers_of(tensors, "conv_bias");
  inputs.conv_state = numbers_of(tensors, "conv_state_in");
  inputs.accepted_conv_states = numbers_of(tensors, "accepted_conv_states");
  inputs.z = numbers_of(tensors, "z");
  if (problem.gated_norm != gdn::GatedNorm::none && problem.input_layout == InputLayout::qkvz) {
    inputs.z = gather(*find_tensor(tensors, "packed"), place_of(problem, Part::z), token_count(tensors));
  }
  inputs.norm_weight = numbers_of(tensors, "norm_weight");
  return inputs;
}

}  // namespace

StepInputs unpack_inputs(const StepProblem& problem, const std::vector<HostTensor>& tensors) {
  StepInputs inputs = unpack_indices(problem, tensors);
  static_cast<MixerInputs&>(inputs) = unpack_mixer(problem, tensors);
  static_cast<LayerInputs&>(inputs) = unpack_layer(problem, tensors);
  inputs.state = numbers_of(tensors, "state_in");
  inputs.accepted_states = numbers_of(tensors, "accepted_states");
  return inputs;
}

RecurrentInputs unpack_inputs(const gdn::RecurrentProblem& problem, const std::vector<HostTensor>& tensors) {
  RecurrentInputs inputs = unpack_indices(problem, tensors);
  static_cast<LayerInputs&>(inputs) = unpack_layer(gdn::layer_of(problem), tensors);
  if (problem.initial_state != gdn::StatePlace::none) inputs.state = numbers_of(tensors, "state_in");
  return inputs;
}

}  // namespace gdnjit::reference

#include <doctest/doctest.h>

#include <map>
#include <set>

#include "codegen/gdn/options_names.h"
#include "codegen/gdn/step.h"
#include "codegen/registry.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

// A different value of the same field, valid as a value.
template <typename T>
T flipped(T value) {
  if constexpr (std::is_enum_v<T>) {
    const auto next = (static_cast<std::size_t>(value) + 1) % EnumNames<T>::names.size();
    return static_cast<T>(next);
  } else if constexpr (std::is_same_v<T, bool>) {
    return !value;
  } else {
    return static_cast<T>(value * 2 + 1);
  }
}

KernelSpec spec_of(const StepConfig& config) {
  KernelSpec spec;
  spec.operator_name = "gdn.step";
  spec.signature = fields_text(to_fields(config));
  spec.source = "#include \"gdn/step.cuh\"\n" + designated_initializer(config);
  return spec;
}

Digest key_of(const FieldMap& problem, const FieldMap& tiles, const std::string& arch = "sm_90a") {
  const auto instance = find_operator("gdn.step").instantiate(problem, tiles, Target{arch});
  return kernel_key(request_digest(instance->kernels()[0], TemplateSet::embedded()), "nvrtc 13.0.88");
}

const FieldMap kTiles = parse_fields("block_v=128 block_k=128 lanes_k=8 warps=4 cache_hint=normal turns=1");

}  // namespace

TEST_CASE("flipping any field of the signature changes canonical text, source and key") {
  const StepConfig base;
  const KernelSpec base_spec = spec_of(base);
  const Digest base_request = request_digest(base_spec, TemplateSet::embedded());
  std::size_t fields = 0;
  visit_fields(base, [&](std::string_view name, const auto&) {
    StepConfig changed;
    visit_fields(changed, [&](std::string_view other, auto& value) {
      if (other == name) value = flipped(value);
    });
    const KernelSpec spec = spec_of(changed);
    CAPTURE(name);
    CHECK(spec.signature != base_spec.signature);
    CHECK(spec.source != base_spec.source);
    CHECK(request_digest(spec, TemplateSet::embedded()) != base_request);
    ++fields;
  });
  CHECK(fields == 49);
}

TEST_CASE("every problem field that shapes the kernel changes the key, and no other does") {
  const FieldMap base = parse_fields("state_store=pool gate=channel_sigmoid");
  const Digest key = key_of(base, kTiles);
  const std::vector<std::string> shaping{"exact_batch=true",
                                         "H=8",
                                         "HV=64",
                                         "K=96",
                                         "V=64",
                                         "io=f16",
                                         "state=bf16",
                                         "output=f32",
                                         "gate_dtype=f32",
                                         "beta_dtype=f32",
                                         "a_log_dtype=bf16",
                                         "dt_bias_dtype=bf16",
                                         "slot_dtype=i64",
                                         "scale=0.5",
                                         "norm=max_eps",
                                         "norm_eps=1e-5",
                                         "gate=channel_raw",
                                         "gate_lower_bound=-4",
                                         "beta=two_sigmoid",
                                         "head_map=modulo",
                                         "state_layout=kv",
                                         "state_store=dense",
                                         "pad_sentinel=zero",
                                         "pad_policy=skip",
                                         "T=4",
                                         "T=4 tree=true",
                                         "state_steps=dense",
                                         "state_steps=pool",
                                         "num_accepted=dense",
                                         "num_accepted=pool",
                                         "update_state=false",
                                         "write_output=false",
                                         "programmatic=true",
                                         "conv_width=4",
                                         "conv_width=2",
                                         "conv_width=4 conv_bias=true",
                                         "conv_width=4 conv_state=f32",
                                         "conv_width=4 conv_dtype=f32",
                                         "gated_norm=silu",
                                         "gated_norm=sigmoid",
                                         "gated_norm=silu gated_norm_eps=1e-5",
                                         "gated_norm=silu gated_norm_dtype=f32",
                                         "state_alignment=8",
                                         "io_alignment=2"};
  std::set<std::string> keys{key.hex()};
  for (const std::string& change : shaping) {
    FieldMap problem = base;
    for (const auto& [name, value] : parse_fields(change)) set_field(problem, name, value);
    FieldMap tiles = kTiles;
    if (change == "K=96") set_field(tiles, "block_k", "96");
    CAPTURE(change);
    CHECK(keys.insert(key_of(problem, tiles).hex()).second);
  }
  // A single token has no tree; sum_lanes chooses tiles.
  for (const std::string change : {"B=64", "input_layout=mixed_qkv", "tree=true", "sum_lanes=8"}) {
    FieldMap problem = base;
    for (const auto& [name, value] : parse_fields(change)) set_field(problem, name, value);
    CAPTURE(change);
    CHECK(key_of(problem, kTiles) == key);
  }
}

TEST_CASE("every tile and the architecture change the key") {
  const FieldMap problem = parse_fields("B=1");
  std::set<std::string> keys{key_of(problem, kTiles).hex()};
  for (const std::string change : {"block_v=256", "block_k=64", "lanes_k=16", "warps=2", "cache_hint=streaming"}) {
    FieldMap tiles = kTiles;
    for (const auto& [name, value] : parse_fields(change)) set_field(tiles, name, value);
    CAPTURE(change);
    CHECK(keys.insert(key_of(problem, tiles).hex()).second);
  }
  for (const std::string& arch : known_architectures()) {
    if (arch != "sm_90a") CHECK(keys.insert(key_of(problem, kTiles, arch).hex()).second);
  }
  const FieldMap mixer = parse_fields("conv_width=4");
  FieldMap tiles = parse_fields("block_v=32 block_k=128 lanes_k=8 warps=4");
  const Digest one_turn = key_of(mixer, tiles);
  set_field(tiles, "turns", "2");
  CHECK(key_of(mixer, tiles) != one_turn);
}

TEST_CASE("fields that a choice makes meaningless do not split the cache") {
  const Digest key = key_of(parse_fields("gate=none beta=none norm=none"), kTiles);
  for (const std::string change :
       {"gate_dtype=f32", "a_log_dtype=bf16", "dt_bias_dtype=f16", "beta_dtype=f32", "norm_eps=0.5",
        "gate_lower_bound=-1", "slot_dtype=i64", "pad_policy=skip", "conv_bias=true", "conv_state=f32",
        "conv_dtype=f32", "gated_norm_eps=0.5", "gated_norm_dtype=f32"}) {
    FieldMap problem = parse_fields("gate=none beta=none norm=none");
    for (const auto& [name, value] : parse_fields(change)) set_field(problem, name, value);
    CAPTURE(change);
    CHECK(key_of(problem, kTiles) == key);
  }
}

TEST_CASE("signatures with equal keys have equal source, over a cross product of options") {
  std::map<std::string, std::string> source_of_key;
  for (const char* io : {"bf16", "f16", "f32"}) {
    for (const char* state : {"f32", "bf16"}) {
      for (const char* norm : {"none", "sumsq_eps", "max_eps"}) {
        for (const char* layout : {"kv", "vk"}) {
          for (const char* scale : {"0", "1", "0.25"}) {
            const FieldMap problem = parse_fields(
                fmt::format("io={} state={} norm={} state_layout={} scale={}", io, state, norm, layout, scale));
            const auto instance = find_operator("gdn.step").instantiate(problem, kTiles, Target{});
            const std::string key = request_digest(instance->kernels()[0], TemplateSet::embedded()).hex();
            const auto [place, is_new] = source_of_key.emplace(key, instance->kernels()[0].source);
            CHECK(place->second == instance->kernels()[0].source);
          }
        }
      }
    }
  }
  CHECK(source_of_key.size() == 3 * 2 * 3 * 2 * 3);
}

TEST_CASE("the default scale is K to the power of minus one half") {
  const FieldMap problem = find_operator("gdn.step").complete(parse_fields("K=64"));
  CHECK(find_field(problem, "scale") == "0.125");
}

TEST_CASE("tuning buckets round B up to a power of two unless B is baked in") {
  const Operator& op = find_operator("gdn.step");
  CHECK(find_field(op.tuning_bucket(parse_fields("B=37")), "B") == "64");
  CHECK(find_field(op.tuning_bucket(parse_fields("B=64")), "B") == "64");
  CHECK(find_field(op.tuning_bucket(parse_fields("B=37 exact_batch=true")), "B") == "37");
}

// Which fields of a problem and of its tiles are part of which kernel of a call.
#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"

using namespace gdnjit;
using namespace gdnjit::gdn;

namespace {

using Keys = std::map<std::string, std::string>;  // by entry, "gdnjit_gdn_chunk_" left out

Keys keys_of(const FieldMap& problem, const FieldMap& tiles, const std::string& arch = "sm_90a") {
  constexpr std::string_view kPrefix = "gdnjit_gdn_chunk_";
  Keys keys;
  const auto instance = chunk_operator().instantiate(problem, tiles, Target{arch});
  for (const KernelSpec& spec : instance->kernels()) {
    REQUIRE(spec.entry.starts_with(kPrefix));
    const Digest key = kernel_key(request_digest(spec, TemplateSet::embedded()), "nvrtc 13.0.88");
    CHECK(keys.emplace(spec.entry.substr(kPrefix.size()), key.hex()).second);
  }
  return keys;
}

FieldMap with(FieldMap fields, std::string_view changes) {
  for (const auto& [name, value] : parse_fields(changes)) set_field(fields, name, value);
  return fields;
}

// The kernels whose keys `changes` change, in alphabetical order.
std::string changed(const FieldMap& problem, const FieldMap& tiles, std::string_view changes,
                    std::string_view tile_changes = "") {
  const Keys before = keys_of(problem, tiles), after = keys_of(with(problem, changes), with(tiles, tile_changes));
  std::vector<std::string> names;
  for (const auto& [name, key] : after) {
    const auto found = before.find(name);
    if (found == before.end() || found->second != key) names.push_back(name);
  }
  return join(names, " ");
}

const FieldMap kMma = parse_fields("path=mma block_v=32 split_k=1 stages=2");
const FieldMap kCut = parse_fields("path=wgmma block_v=64 stages=3 segments=4");
const FieldMap kProblem = parse_fields("initial_state=pool final_state=pool checkpoints=pool V=64");

constexpr const char* kScans = "scan_sm90 segment_sm90 transfer_sm90";

}  // namespace

TEST_CASE("a call is a prepare and a scan, or segments beside it") {
  CHECK(keys_of(kProblem, kMma).size() == 2);
  CHECK(keys_of(kProblem, parse_fields("path=wgmma")).size() == 2);
  CHECK(keys_of(kProblem, kCut).size() == 5);
}

TEST_CASE("a field of the problem changes the kernels that it concerns and no others") {
  for (const char* only_prepare :
       {"gate=log", "gate=none", "beta=none", "norm=max_eps", "norm_eps=1e-5", "scale=0.5", "gate_dtype=f32",
        "beta_dtype=f32", "a_log_dtype=bf16", "dt_bias_dtype=bf16", "programmatic=true"}) {
    CAPTURE(std::string(only_prepare));
    CHECK(changed(kProblem, kMma, only_prepare) == "prepare");
    CHECK(changed(kProblem, kCut, only_prepare) == "prepare");
  }
  for (const char* every : {"ragged=true", "H=8", "head_map=modulo", "K=64", "io=f16"}) {
    CAPTURE(std::string(every));
    CHECK(changed(kProblem, kMma, every) == "prepare scan");
  }
  for (const char* states : {"state=bf16", "state_layout=kv", "slot_dtype=i64", "pad_sentinel=zero"}) {
    CAPTURE(std::string(states));
    CHECK(changed(kProblem, kMma, states) == "scan");
    CHECK(changed(kProblem, kCut, states) == "compose scan_sm90 segment_sm90 transfer_sm90");
  }
  CHECK(changed(kProblem, kMma, "state_alignment=4") == "scan");
  CHECK(changed(kProblem, kCut, "state_alignment=4") == kScans);
  for (const char* ends :
       {"output=f16", "final_state=dense", "checkpoints=none", "checkpoint_every=128", "pad_policy=skip"}) {
    CAPTURE(std::string(ends));
    CHECK(changed(kProblem, kMma, ends) == "scan");
    CHECK(changed(kProblem, kCut, ends) == "scan_sm90 segment_sm90");
  }
  CHECK(changed(kProblem, kCut, "write_output=false") == "prepare scan_sm90 segment_sm90");
  CHECK(changed(kProblem, kCut, "V=128") == "compose scan_sm90 segment_sm90 transfer_sm90");
  CHECK(changed(kProblem, kCut, "HV=64") == "compose prepare scan_sm90 segment_sm90 transfer_sm90");
  CHECK(changed(kProblem, kCut, "initial_state=none") == "compose scan_sm90 segment_sm90 transfer_sm90");
  CHECK(changed(kProblem, kCut, "H=16") == "");
  for (const char* none : {"B=64", "T=77", "input_layout=mixed_qkv", "gate_lower_bound=-4"}) {
    CAPTURE(std::string(none));
    CHECK(changed(kProblem, kMma, none) == "");
    CHECK(changed(kProblem, kCut, none) == "");
  }
}

TEST_CASE("a warm-up is another scan of segments, whatever its length, and changes no other kernel") {
  CHECK(changed(kProblem, kCut, "warmup=64") == "initial warmup_sm90");
  for (const FieldMap& tiles : {kCut, with(kMma, "segments=4")}) {
    const std::string path = tiles == kCut ? "warmup_sm90" : "warmup";
    const FieldMap warm = with(kProblem, "warmup=100");
    CHECK(keys_of(warm, tiles).size() == 4);
    CHECK(changed(warm, tiles, "warmup=4096") == "");
    CHECK(changed(warm, tiles, "", "segments=2") == "");
    CHECK(changed(warm, tiles, "checkpoint_every=128").ends_with(path));
    // Nothing is copied where there is nothing, or nobody stores over it.
    CHECK(keys_of(with(warm, "initial_state=none"), tiles).size() == 3);
    CHECK(keys_of(with(warm, "initial_state=dense final_state=none checkpoints=dense"), tiles).size() == 3);
    CHECK(keys_of(with(warm, "initial_state=dense final_state=dense checkpoints=none"), tiles).size() == 4);
  }
  CHECK(changed(kProblem, parse_fields("path=wgmma"), "warmup=64") == "");  // one segment
}

TEST_CASE("fields that a choice makes meaningless do not split the cache") {
  const FieldMap plain = parse_fields("gate=none beta=none norm=none write_output=false");
  for (const char* none :
       {"gate_dtype=f32", "a_log_dtype=bf16", "dt_bias_dtype=f16", "beta_dtype=f32", "norm_eps=0.5", "slot_dtype=i64",
        "pad_policy=skip", "pad_sentinel=zero", "scale=3", "output=f32", "checkpoint_every=128"}) {
    CAPTURE(std::string(none));
    CHECK(changed(plain, kMma, none) == "");
    CHECK(changed(plain, kCut, none) == "");
  }
}

TEST_CASE("tiles change the scans; the architecture everything") {
  for (const char* tiles : {"block_v=16", "split_k=2", "stages=3"}) {
    CAPTURE(std::string(tiles));
    CHECK(changed(kProblem, kMma, "", tiles) == "scan");
  }
  // (Transfer takes blocks of 128 rows where there are so many.)
  CHECK(changed(with(kProblem, "V=128"), kCut, "", "block_v=128") == "scan_sm90 segment_sm90");
  CHECK(changed(kProblem, kCut, "", "stages=2") == kScans);
  CHECK(changed(kProblem, kCut, "", "segments=2") == "");
  const Keys here = keys_of(kProblem, kMma), there = keys_of(kProblem, kMma, "sm_80");
  for (const auto& [name, key] : here) CHECK(there.at(name) != key);
}

TEST_CASE("flipping any field of the config changes canonical text and source") {
  const ChunkConfig base;
  std::size_t fields = 0;
  visit_fields(base, [&](std::string_view name, const auto&) {
    ChunkConfig changed_config;
    visit_fields(changed_config, [&](std::string_view other, auto& value) {
      using Value = std::remove_cvref_t<decltype(value)>;
      if (other != name) return;
      if constexpr (std::is_enum_v<Value>) {
        value = static_cast<Value>((static_cast<std::size_t>(value) + 1) % EnumNames<Value>::names.size());
      } else if constexpr (std::is_same_v<Value, bool>) {
        value = !value;
      } else {
        value = value * 2 + 1;
      }
    });
    CAPTURE(name);
    CHECK(fields_text(to_fields(changed_config)) != fields_text(to_fields(base)));
    CHECK(designated_initializer(changed_config) != designated_initializer(base));
    ++fields;
  });
  CHECK(fields == 36);
}

TEST_CASE("rows of q and k come from the caller, or from copies where they must") {
  const auto tiles_of = [](const char* text) {
    return ChunkLayout(complete_chunk(from_fields<ChunkProblem>(parse_fields(text)))).prepare.tiles;
  };
  CHECK(tiles_of("K=128") == ChunkTiles::input);
  CHECK(tiles_of("K=40 io=f16") == ChunkTiles::input);
  CHECK(tiles_of("K=40 io=f16 norm=none") == ChunkTiles::input);
  CHECK(tiles_of("K=60") == ChunkTiles::key_head);
  CHECK(tiles_of("io=f32") == ChunkTiles::key_head);
  CHECK(tiles_of("io_alignment=8") == ChunkTiles::key_head);
  CHECK(tiles_of("io=f16 norm_eps=1e-9") == ChunkTiles::key_head);
  CHECK(tiles_of("input_layout=qkvz H=2 HV=2 K=64 V=8") == ChunkTiles::input);
  CHECK(tiles_of("input_layout=qkvz H=2 HV=2 K=64 V=6") == ChunkTiles::key_head);
}

// Calls captured by one process and replayed by another, and files that another program wrote.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <iterator>

#include "tests/tools/messages.h"
#include "tests/tools/tool_process.h"

namespace gdnjit::tool {
namespace {

// A safetensors file byte by byte, as another program would write it.
class HandMade {
 public:
  explicit HandMade(std::string problem) : problem_(std::move(problem)) {}

  HandMade& add(const std::string& name, const std::string& shape, const std::vector<float>& values) {
    std::string bytes(values.size() * 4, '\0');
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return add(name, "F32", shape, bytes);
  }
  HandMade& add(const std::string& name, const std::string& dtype, const std::string& shape, const std::string& bytes) {
    header_ += fmt::format(R"(, "{}": {{"dtype": "{}", "shape": {}, "data_offsets": [{}, {}]}})", name, dtype, shape,
                           data_.size(), data_.size() + bytes.size());
    data_ += bytes;
    return *this;
  }
  std::string write(const std::filesystem::path& file) const {
    const std::string header =
        fmt::format(R"({{"__metadata__": {{"operator": "gdn.step", "problem": "{}"}}{}}})", problem_, header_);
    std::string length(8, '\0');
    for (std::size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(header.size() >> 8 * i & 0xff);
    std::ofstream(file, std::ios::binary) << length << header << data_;
    return file.string();
  }

 private:
  std::string problem_, header_, data_;
};

constexpr const char* kPlain =
    "H=1 HV=1 K=16 V=4 io=f32 output=f32 gate=none beta=none norm=none scale=1 state_layout=kv";

// Two sequences of plain DeltaNet: from S = 0 the output is (k.q) v and the state k v^T.
HandMade two_sequences(float error_of_output = 0) {
  std::vector<float> q(32), k(32), v{1, 2, 3, 4, -1, 0, 0.5F, 8}, state(128), o;
  for (std::size_t b = 0; b < 2; ++b) {
    k[16 * b + b] = 1;
    q[16 * b + b] = 0.5F;
    for (std::size_t j = 0; j < 4; ++j) {
      o.push_back(0.5F * v[4 * b + j] + error_of_output);
      state[64 * b + 4 * b + j] = v[4 * b + j];
    }
  }
  HandMade file(kPlain);
  file.add("v", "[2, 1, 1, 4]", v).add("q", "[2, 1, 1, 16]", q).add("k", "[2, 1, 1, 16]", k);
  file.add("state_out", "[2, 1, 16, 4]", state).add("state_in", "[2, 1, 16, 4]", std::vector<float>(128));
  return file.add("o", "[2, 1, 1, 4]", o);
}

Words replay(const std::vector<std::string>& files, const Words& more = {}) {
  Words words{"replay"};
  words.insert(words.end(), files.begin(), files.end());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

}  // namespace

TEST_CASE("what one process captures another replays: the same bits, and right by the reference") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const std::string calls = (folder / "calls").string();
  for (const Words& problem :
       {Words{"gdn.step", "T=3 state_store=pool num_accepted=pool state_steps=pool tree=true B=5"},
        Words{"gdn.step", "B=2 input_layout=qkvz pad_policy=skip state=bf16"},
        Words{"gdn.step", "B=3 T=2 input_layout=mixed_qkv state_store=pool conv_width=4 gated_norm=silu"},
        Words{"gdn.recurrent", "B=3 T=5 ragged=true initial_state=dense final_state=pool"}}) {
    const Ran ran =
        tool({"verify", "--op", problem[0], "--problem", "H=2 HV=4 K=32 V=16 " + problem[1], "--inputs", "typical"},
             {{"GDNJIT_CAPTURE", calls}, {"GDNJIT_CAPTURE_FILES", "1"}});
    INFO(ran.out << ran.error);
    REQUIRE(ran.exit_code == 0);
    CHECK(contains(ran.error, "capture_files=1"));  // verify runs everything twice
  }
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(calls)) files.push_back(entry.path().string());
  REQUIRE(files.size() == 4);

  const Ran ran = tool(replay(files, {"--json"}));
  INFO(ran.out << ran.error);
  CHECK(ran.exit_code == 0);
  const auto report = ran.json();
  REQUIRE(report.is_object());
  CHECK(report["passed"] == 4);
  for (const auto& one : report["replays"]) {
    CHECK(one["recorded"]["device"] == "emulator of sm_90a");
    REQUIRE(one["comparisons"].size() == 2);
    CHECK(one["comparisons"][0]["against"] == "stored");
    for (const auto& output : one["comparisons"][0]["outputs"]) CHECK(output["max_ratio"] == 0.0);
    CHECK(one["comparisons"][1]["against"] == "reference");
    CHECK(one["comparisons"][1]["outputs"].size() >= 2);
  }

  const Ran elsewhere =
      tool(replay({files[0]}, {"--arch", "sm_120", "--against", "emulator:sm_80,stored", "--all-tiles"}));
  INFO(elsewhere.out << elsewhere.error);
  CHECK(elsewhere.exit_code == 0);
  CHECK(contains(elsewhere.out, "emulator:sm_80"));
  CHECK(contains(elsewhere.out, "of 1 file passed on emulator of sm_120"));

  // A replay is not captured once more.
  CHECK(tool(replay({files[0]}), {{"GDNJIT_CAPTURE", calls}}).exit_code == 0);
  CHECK(std::distance(std::filesystem::directory_iterator(calls), {}) == 4);
}

TEST_CASE("a file of another program runs: with right outputs, with wrong ones, with none") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  const std::string right = two_sequences().write(folder / "right.safetensors");
  const std::string wrong = two_sequences(0.01F).write(folder / "wrong.safetensors");
  const Ran passed = tool(replay({right}));
  INFO(passed.out << passed.error);
  CHECK(passed.exit_code == 0);
  CHECK(contains(passed.out, "stored"));
  CHECK(contains(passed.out, "reference"));
  CHECK(contains(passed.out, "1 of 1 replay of 1 file passed"));

  const Ran failed = tool(replay({right, wrong}, {"--json"}));
  CHECK(failed.exit_code == 11);
  const auto report = failed.json();
  REQUIRE(report["replays"].size() == 2);
  CHECK(report["passed"] == 1);
  const auto& comparisons = report["replays"][1]["comparisons"];
  CHECK(comparisons[0]["outputs"][1]["tensor"] == "o");
  CHECK(comparisons[0]["outputs"][1]["passed"] == false);
  CHECK(comparisons[0]["outputs"][0]["passed"] == true);  // the state was right
  CHECK(comparisons[1]["outputs"][1]["passed"] == true);  // and so is our own output
  CHECK(report["replays"][1]["problem"]["B"] == "2");
  CHECK(tool(replay({wrong}, {"--against", "reference"})).exit_code == 0);

  HandMade inputs(kPlain);
  inputs.add("q", "[0, 1, 1, 16]", {}).add("k", "[0, 1, 1, 16]", {}).add("v", "[0, 1, 1, 4]", {});
  const std::string empty = inputs.add("state_in", "[0, 1, 16, 4]", {}).write(folder / "empty.safetensors");
  const Ran nothing = tool(replay({empty}));
  INFO(nothing.out << nothing.error);
  CHECK(nothing.exit_code == 0);
  CHECK_FALSE(contains(nothing.out, "stored"));
}

TEST_CASE("a file that makes no call is refused with what is wrong, and the others are replayed") {
  const TemporaryFolder folder;
  const Tool tool(folder / "cache");
  int number = 0;
  const auto refusal = [&](const HandMade& file, int code = 2) {
    const Ran ran = tool(replay({file.write(folder / fmt::format("{}.safetensors", ++number))}));
    INFO(ran.out << ran.error);
    CHECK(ran.exit_code == code);
    return ran.error;
  };
  HandMade typo = two_sequences();
  CHECK(contains(refusal(typo.add("state_ni", "[1]", {0})), "has no tensor 'state_ni' (did you mean 'state_in'?)"));
  HandMade missing(kPlain);
  CHECK(contains(refusal(missing.add("k", "[1, 1, 1, 16]", std::vector<float>(16))), "tensor 'q' is missing"));
  const auto with_state = [&](const std::string& shape, const std::string& dtype, std::size_t bytes) {
    HandMade file(kPlain);
    file.add("q", "[1, 1, 1, 16]", std::vector<float>(16)).add("k", "[1, 1, 1, 16]", std::vector<float>(16));
    file.add("v", "[1, 1, 1, 4]", std::vector<float>(4));
    return file.add("state_in", dtype, shape, std::string(bytes, '\0'));
  };
  CHECK(contains(refusal(with_state("[1, 1, 4, 16]", "F32", 256)),
                 "has shape [1, 1, 4, 16], the problem asks for [1, 1, 16, 4]"));
  CHECK(contains(refusal(with_state("[1, 1, 16, 4]", "BF16", 128)), "has dtype BF16, the problem asks for F32"));
  CHECK(contains(refusal(with_state("[1, 1, 16, 4]", "F64", 512)), "has dtype F64"));
  CHECK(contains(refusal(HandMade("H=3 HV=4")), "HV=4"));

  std::ofstream(folder / "text.safetensors") << "not a safetensors file at all";
  const std::string text = (folder / "text.safetensors").string();
  const std::string right = two_sequences().write(folder / "right.safetensors");
  const Ran mixed = tool(replay({text, right, (folder / "gone").string()}, {"--json"}));
  CHECK(mixed.exit_code == 10);
  const auto report = mixed.json();
  REQUIRE(report["replays"].size() == 3);
  CHECK(report["replays"][0]["error"]["name"] == "io");
  CHECK(report["replays"][1]["passed"] == true);
  CHECK(contains(report["replays"][2]["error"]["message"].get<std::string>(), "No such file"));

  const Ran stored = tool(
      replay({with_state("[1, 1, 16, 4]", "F32", 256).write(folder / "inputs.safetensors")}, {"--against", "stored"}));
  CHECK(stored.exit_code == 2);
  CHECK(contains(stored.error, "it has no outputs"));
  const Ran device = tool(replay({right}, {"--against", "tpu"}));
  CHECK(device.exit_code == 2);
  CHECK(contains(device.error, "--against tpu: expected stored, reference or a device"));
}

}  // namespace gdnjit::tool

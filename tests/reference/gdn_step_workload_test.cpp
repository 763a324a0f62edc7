#include "tests/reference/gdn_step_workload.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/gdn_step.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::reference;

namespace {

FieldMap problem_of(std::string_view text) {
  FieldMap problem = parse_fields("B=4 H=2 HV=4 K=16 V=8");
  for (const auto& [name, value] : parse_fields(text)) set_field(problem, name, value);
  return problem;
}

HostTensor& tensor_of(std::vector<HostTensor>& tensors, std::string_view name) {
  for (HostTensor& tensor : tensors) {
    if (tensor.spec.name == name) return tensor;
  }
  fail(ErrorCode::internal, "no tensor {}", name);
}

// What a perfect kernel leaves behind: the reference, rounded once to each output's dtype.
std::vector<HostTensor> perfect_results(const Workload& workload, const FieldMap& fields) {
  const auto problem = from_fields<gdn::StepProblem>(find_operator("gdn.step").complete(fields));
  std::vector<HostTensor> results = workload.tensors();
  const StepInputs inputs = unpack_inputs(problem, results);
  const StepOutputs expected = step(problem, inputs);
  if (problem.write_output) {
    HostTensor& o = tensor_of(results, "o");
    const std::int64_t per_row = static_cast<std::int64_t>(expected.o.size()) / problem.batch;
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(expected.o.size()); ++i) {
      const bool skipped = is_padded(problem, inputs, i / per_row) && problem.pad_policy == gdn::PadPolicy::skip;
      if (!skipped) store_element(o.spec.dtype, o.bytes.data(), i, expected.o[static_cast<std::size_t>(i)]);
    }
  }
  const auto put_rows = [&](std::string_view name, const std::vector<double>& states,
                            const std::vector<std::int64_t>& rows) {
    HostTensor& tensor = tensor_of(results, name);
    const std::size_t size = states.size() / rows.size();
    for (std::size_t row = 0; row < rows.size(); ++row) {
      for (std::size_t i = 0; rows[row] >= 0 && i < size; ++i) {
        store_element(tensor.spec.dtype, tensor.bytes.data(),
                      rows[row] * static_cast<std::int64_t>(size) + static_cast<std::int64_t>(i),
                      states[row * size + i]);
      }
    }
  };
  const bool pooled = problem.state_store == gdn::StateStore::pool;
  if (problem.update_state) put_rows(pooled ? "state_in" : "state_out", expected.state, expected.state_row);
  if (problem.state_steps != gdn::StatePlace::none) {
    const bool dense = problem.state_steps == gdn::StatePlace::dense;
    put_rows(dense ? "step_states" : "state_in", expected.steps, expected.step_row);
  }
  if (problem.conv_width == 0) return results;
  if (problem.update_state)
    put_rows(pooled ? "conv_state_in" : "conv_state_out", expected.conv_state, expected.state_row);
  if (problem.state_steps != gdn::StatePlace::none) {
    const bool dense = problem.state_steps == gdn::StatePlace::dense;
    put_rows(dense ? "step_conv_states" : "conv_state_in", expected.conv_steps, expected.step_row);
  }
  return results;
}

bool all_passed(const std::vector<OutputError>& errors) {
  return std::all_of(errors.begin(), errors.end(), [](const OutputError& error) { return error.passed(); });
}

const char* const kProblems[] = {
    "",
    "io=f32 output=f32 gate_dtype=f32 beta_dtype=f32",
    "io=f16 output=f16 state=f16",
    "state=bf16 state_layout=kv norm=none",
    "gate=log beta=given norm=max_eps",
    "gate=alpha beta=two_sigmoid norm=add_eps",
    "gate=none beta=none",
    "gate=channel_raw head_map=modulo",
    "gate=channel_log",
    "gate=channel_sigmoid",
    "input_layout=mixed_qkv",
    "input_layout=qkvz",
    "input_layout=qkvz head_map=modulo",
    "state_store=pool",
    "state_store=pool pad_sentinel=zero pad_policy=skip slot_dtype=i64",
    "T=5",
    "T=3 state_steps=dense num_accepted=dense update_state=false",
    "T=4 tree=true state_steps=dense state=bf16",
    "conv_width=4 gated_norm=silu input_layout=qkvz",
    "conv_width=3 conv_bias=true conv_state=f32 gated_norm=sigmoid state_store=pool T=3 state_steps=pool",
    "conv_width=2 T=4 tree=true state_steps=dense num_accepted=dense conv_state=f16",
    "conv_width=4 write_output=false norm=none",
    "B=6 T=4 tree=true state_store=pool state_steps=pool num_accepted=pool",
    "B=6 T=2 state_store=pool state_steps=pool num_accepted=pool pad_sentinel=zero update_state=false",
    "T=2 write_output=false",
};

}  // namespace

TEST_CASE("a perfectly rounded result passes and an untouched output fails, for typical and brutal inputs") {
  for (const char* text : kProblems) {
    for (Inputs inputs : {Inputs::typical, Inputs::brutal}) {
      CAPTURE(text);
      const FieldMap problem = problem_of(text);
      const auto workload = make_gdn_step_workload(problem, inputs, 3);
      const auto errors = workload->compare(perfect_results(*workload, problem));
      const auto& tensors = workload->tensors();
      CHECK(static_cast<std::ptrdiff_t>(errors.size()) ==
            std::count_if(tensors.begin(), tensors.end(),
                          [](const HostTensor& tensor) { return tensor.spec.role != TensorRole::input; }));
      for (const OutputError& error : errors) {
        CAPTURE(error.tensor);
        CAPTURE(error.rms_ratio);
        CHECK(error.passed());
      }
      CHECK_FALSE(all_passed(workload->compare(workload->tensors())));
    }
  }
}

TEST_CASE("inputs depend on the seed and on nothing else") {
  const FieldMap problem = problem_of("state_store=pool");
  const auto first = make_gdn_step_workload(problem, Inputs::brutal, 5);
  const auto again = make_gdn_step_workload(problem, Inputs::brutal, 5);
  const auto other = make_gdn_step_workload(problem, Inputs::brutal, 6);
  for (std::size_t i = 0; i < first->tensors().size(); ++i) {
    CHECK(first->tensors()[i].bytes == again->tensors()[i].bytes);
  }
  CHECK(first->tensors()[0].bytes != other->tensors()[0].bytes);
}

TEST_CASE("packed layouts hold the same numbers as separate tensors") {
  const auto numbers = [](const char* text) {
    const FieldMap fields = problem_of(text);
    const auto workload = make_gdn_step_workload(fields, Inputs::typical, 9);
    return unpack_inputs(from_fields<gdn::StepProblem>(fields), workload->tensors());
  };
  const StepInputs separate = numbers("");
  for (const char* layout : {"input_layout=mixed_qkv", "input_layout=qkvz"}) {
    const StepInputs packed = numbers(layout);
    CHECK(packed.q == separate.q);
    CHECK(packed.k == separate.k);
    CHECK(packed.v == separate.v);
    CHECK(packed.a == separate.a);
    CHECK(packed.b == separate.b);
  }
}

TEST_CASE("qkvz lies per key head as q, k, v, z and ba as b, a") {
  gdn::StepProblem p;
  p.heads_k = 2;
  p.heads_v = 6;
  p.head_dim_k = 4;
  p.head_dim_v = 5;
  p.input_layout = gdn::InputLayout::qkvz;
  constexpr int kGroup = 4 + 4 + 15 + 15;
  CHECK(place_of(p, Part::q).index(1, 1, 2) == 2 * kGroup + kGroup + 2);
  CHECK(place_of(p, Part::k).index(0, 1, 3) == kGroup + 4 + 3);
  CHECK(place_of(p, Part::v).index(1, 4, 2) == 2 * kGroup + kGroup + 8 + 5 + 2);
  CHECK(place_of(p, Part::b).index(1, 5, 0) == 12 + 6 + 2);
  CHECK(place_of(p, Part::a).index(1, 5, 0) == 12 + 6 + 3 + 2);
  p.head_map = gdn::HeadMap::modulo;  // key head 1 now serves value heads 1, 3 and 5
  CHECK(place_of(p, Part::q).index(1, 1, 2) == 2 * kGroup + kGroup + 2);
  CHECK(place_of(p, Part::v).index(1, 3, 2) == 2 * kGroup + kGroup + 8 + 5 + 2);
  CHECK(place_of(p, Part::a).index(1, 5, 0) == 12 + 6 + 3 + 2);
}

TEST_CASE("a large state repeats a drawn pattern, but no two heads are equal") {
  const FieldMap fields = problem_of("B=3 H=16 HV=32 K=128 V=128 state_layout=kv");
  const auto workload = make_gdn_step_workload(fields, Inputs::typical, 2);
  const auto& tensors = workload->tensors();
  const auto state =
      std::find_if(tensors.begin(), tensors.end(), [](const auto& t) { return t.spec.name == "state_in"; });
  REQUIRE(state != tensors.end());
  constexpr std::size_t kHeadBytes = 128 * 128 * 4;
  const auto head = [&](std::size_t index) {
    return state->bytes.begin() + static_cast<std::ptrdiff_t>(index * kHeadBytes);
  };
  for (std::size_t other = 1; other < 96; ++other) {
    CHECK_FALSE(std::equal(head(0), head(1), head(other)));
  }
}

TEST_CASE("a single wrong element, slot or padded row is found") {
  const FieldMap problem =
      problem_of("state_store=pool pad_policy=skip io=f32 output=f32 gate_dtype=f32 beta_dtype=f32");
  const auto workload = make_gdn_step_workload(problem, Inputs::typical, 3);
  const std::vector<HostTensor> good = perfect_results(*workload, problem);
  REQUIRE(all_passed(workload->compare(good)));
  const auto problem_struct = from_fields<gdn::StepProblem>(problem);
  const StepInputs inputs = unpack_inputs(problem_struct, good);
  const std::int64_t padded_row = 2;
  REQUIRE(is_padded(problem_struct, inputs, padded_row));

  const auto broken = [&](std::string_view name, std::int64_t index, double value) {
    std::vector<HostTensor> results = good;
    HostTensor& tensor = tensor_of(results, name);
    store_element(tensor.spec.dtype, tensor.bytes.data(), index, value);
    return !all_passed(workload->compare(results));
  };
  CHECK(broken("o", 5, std::nan("")));
  CHECK(broken("o", 5, 0.5));
  CHECK(broken("o", padded_row * 32, 0.0));                    // skip: even a zero is a trespass
  CHECK(broken("state_in", 0, 0.0));                           // slot 0 belongs to nobody
  CHECK(broken("state_in", inputs.write_slot[0] * 512, 7.0));  // the stored state
  REQUIRE(inputs.read_slot[0] != inputs.write_slot[0]);
  CHECK(broken("state_in", inputs.read_slot[0] * 512, 7.0));  // a state that was only read
  CHECK(broken("q", 0, 7.0));                                 // an input
}

TEST_CASE("slots are out of order, distinct where they are written, and one row is padding") {
  const FieldMap fields = problem_of("B=16 state_store=pool");
  const auto problem = from_fields<gdn::StepProblem>(fields);
  const auto workload = make_gdn_step_workload(fields, Inputs::typical, 1);
  const StepInputs inputs = unpack_inputs(problem, workload->tensors());
  std::vector<std::int64_t> writes;
  int moved = 0, padded = 0, dropped = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    if (is_padded(problem, inputs, static_cast<std::int64_t>(i))) {
      ++padded;
      continue;
    }
    CHECK(inputs.read_slot[i] > 0);
    if (is_sentinel(problem, inputs.write_slot[i])) {
      ++dropped;
      continue;
    }
    CHECK(inputs.write_slot[i] < 2 * 16 + 3);
    moved += inputs.read_slot[i] != inputs.write_slot[i] ? 1 : 0;
    // nobody writes a slot that another row reads
    for (std::size_t j = 0; j < 16; ++j) {
      if (j != i) CHECK(inputs.read_slot[j] != inputs.write_slot[i]);
    }
    writes.push_back(inputs.write_slot[i]);
  }
  CHECK(padded == 1);
  CHECK(dropped == 1);
  CHECK(moved > 4);
  CHECK_FALSE(std::is_sorted(writes.begin(), writes.end()));
  std::sort(writes.begin(), writes.end());
  CHECK(std::adjacent_find(writes.begin(), writes.end()) == writes.end());
}

TEST_CASE("an operator without a workload is an error that names it") {
  CHECK_THROWS_WITH_AS(
      make_workload("gdn.dance", {}, Inputs::typical, 0),
      doctest::Contains("operator 'gdn.dance' has no reference workload; known: gdn.step, gdn.recurrent"), Error);
}

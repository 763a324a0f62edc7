// Workloads of given tensors: the same judgement as of drawn ones, another run in place of the reference, and indices
// that nobody may follow.
#include "tests/reference/given_call.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "codegen/gdn/options_names.h"
#include "codegen/registry.h"
#include "tests/reference/gdn_step_layout.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using Contents = std::vector<std::vector<std::byte>>;

constexpr const char* kSmall = "H=1 HV=2 K=8 V=4 io=f32 output=f32 gate_dtype=f32 beta_dtype=f32";

std::vector<TensorView> views_of(const std::vector<HostTensor>& tensors) {
  std::vector<TensorView> views;
  for (const HostTensor& tensor : tensors) {
    TensorView& view = views.emplace_back();
    view.dtype = tensor.spec.dtype;
    view.rank = static_cast<int>(tensor.spec.shape.size());
    std::copy(tensor.spec.shape.begin(), tensor.spec.shape.end(), view.shape.begin());
  }
  return views;
}

// A drawn call as somebody else would hand it over.
struct Given {
  std::string op;
  CallDescription call;
  Contents contents;

  Given(const std::string& name, const std::string& fields) : op(name) {
    const FieldMap problem = parse_fields(fmt::format("{} {}", kSmall, fields));
    const auto drawn = make_workload(op, problem, Inputs::typical, 7);
    call = find_operator(op).describe_call(problem, views_of(drawn->tensors()));
    for (const HostTensor& tensor : drawn->tensors()) contents.push_back(tensor.bytes);
  }

  std::size_t index(std::string_view name) const {
    for (std::size_t i = 0; i < call.tensors.size(); ++i) {
      if (call.tensors[i].name == name) return i;
    }
    FAIL("no tensor ", std::string(name));
    return 0;
  }
  void set(std::string_view name, std::size_t at, std::int32_t value) {
    std::memcpy(contents[index(name)].data() + 4 * at, &value, 4);
  }
  std::unique_ptr<CallWorkload> workload() const { return make_call_workload(op, call, contents); }
  std::string refusal() const {
    try {
      workload();
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      return error.what();
    }
    return "nothing was thrown";
  }
};

// What a perfect device leaves of a dense call.
std::vector<HostTensor> perfect(const Given& given) {
  std::vector<HostTensor> results = given.workload()->tensors();
  const auto put = [&](std::string_view name, const std::vector<double>& numbers) {
    HostTensor& tensor = results[given.index(name)];
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      store_element(tensor.spec.dtype, tensor.bytes.data(), static_cast<std::int64_t>(i), numbers[i]);
    }
  };
  const auto put_all = [&](const auto& outputs) {
    put("o", outputs.o);
    put("state_out", outputs.state);
  };
  if (given.op == "gdn.step") {
    const auto problem = from_fields<gdn::StepProblem>(given.call.problem);
    put_all(step(problem, unpack_inputs(problem, results)));
  } else {
    const auto problem = from_fields<gdn::RecurrentProblem>(given.call.problem);
    put_all(recurrent(problem, unpack_inputs(problem, results)));
  }
  return results;
}

bool all_passed(const std::vector<OutputError>& errors) {
  return !errors.empty() && std::all_of(errors.begin(), errors.end(), [](const auto& error) { return error.passed(); });
}

TEST_CASE("given tensors are judged like drawn ones") {
  for (const Given& given : {Given("gdn.step", "B=3 T=2"), Given("gdn.recurrent", "B=3 T=5 ragged=true")}) {
    CAPTURE(given.op);
    const auto workload = given.workload();
    std::vector<HostTensor> results = perfect(given);
    CHECK(all_passed(workload->compare(results)));
    const HostTensor& o = results[given.index("o")];
    store_element(o.spec.dtype, results[given.index("o")].bytes.data(), 5, 1.0);
    CHECK_FALSE(all_passed(workload->compare(results)));
  }
}

TEST_CASE("a ragged batch may have any number of tokens") {
  Given given("gdn.recurrent", "B=2 T=3 ragged=true initial_state=dense");
  // Five tokens, the last of which belongs to nobody.
  for (const char* name : {"q", "k", "v", "a", "b", "o"}) {
    TensorSpec& spec = given.call.tensors[given.index(name)];
    spec.shape[1] = 5;
    given.contents[given.index(name)].resize(given.contents[given.index(name)].size() / 6 * 5);
  }
  given.set("cu_seqlens", 0, 0);
  given.set("cu_seqlens", 1, 1);
  given.set("cu_seqlens", 2, 4);
  const auto workload = given.workload();
  std::vector<HostTensor> results = perfect(given);
  CHECK(all_passed(workload->compare(results)));
  HostTensor& o = results[given.index("o")];
  store_element(o.spec.dtype, o.bytes.data(), 4 * 2 * 4, 0.0);  // the fifth token's output
  CHECK_FALSE(all_passed(workload->compare(results)));
}

TEST_CASE("another run is compared where the call writes, at twice the tolerance") {
  const Given given("gdn.step", "B=2 state_store=pool");
  const auto workload = given.workload();
  std::vector<HostTensor> other = workload->tensors();
  HostTensor& o = other[given.index("o")];
  HostTensor& pool = other[given.index("state_in")];
  for (std::int64_t i = 0; i < 16; ++i) store_element(DType::f32, o.bytes.data(), i, 1.0 + static_cast<double>(i));
  std::vector<HostTensor> results = other;
  const std::vector<OutputError> same = workload->compare_with(other, results);
  REQUIRE(same.size() == 2);
  for (const OutputError& error : same) {
    CHECK(error.passed());
    CHECK(error.max_ratio == 0);
  }
  CHECK(same.back().tolerance == doctest::Approx(2 * 2e-6));

  // Rows that no slot names may hold anything in the other run, and must be left alone in this one.
  store_element(DType::f32, pool.bytes.data(), 0, 3.0);
  CHECK(all_passed(workload->compare_with(other, results)));
  store_element(DType::f32, results[given.index("o")].bytes.data(), 3, 4.5);
  CHECK_FALSE(all_passed(workload->compare_with(other, results)));

  // A tensor that the other run does not have is left out.
  o.bytes.clear();
  CHECK(workload->compare_with(other, results).size() == 1);
}

TEST_CASE("indices that point outside are refused with their place, value and rule") {
  Given step("gdn.step", "B=2 T=3 state_store=pool num_accepted=pool state_steps=pool tree=true");
  const std::int64_t rows = step.call.tensors[step.index("state_in")].shape[0];
  const auto after = [&](const char* name, std::size_t at, std::int32_t value) {
    Given changed = step;
    changed.set(name, at, value);
    return changed.refusal();
  };
  for (const char* name : {"read_slot", "write_slot", "accepted_slot", "step_slot"}) {
    CHECK(after(name, 1, static_cast<std::int32_t>(rows)) ==
          fmt::format("{}[1]={}: the pool has {} rows", name, rows, rows));
  }
  CHECK(after("num_accepted", 1, 4) == "num_accepted[1]=4: must be 0 to 3");
  CHECK(after("num_accepted", 0, -1) == "num_accepted[0]=-1: must be 0 to 3");
  CHECK(after("parent", 4, 1) == "parent[4]=1: must be below 1, the token's own number");
  Given twice("gdn.step", "B=2 state_store=pool");
  twice.set("write_slot", 0, 2);
  twice.set("write_slot", 1, 2);
  CHECK(twice.refusal() == "state_in: row 2 is written twice");

  Given ragged("gdn.recurrent", "B=2 T=3 ragged=true final_state=pool");
  ragged.set("cu_seqlens", 1, 7);
  CHECK(ragged.refusal() == "cu_seqlens[1]=7: must be 0 to 6");
  ragged.set("cu_seqlens", 1, 5);
  ragged.set("cu_seqlens", 2, 4);
  CHECK(ragged.refusal() == "cu_seqlens[2]=4: must be 5 to 6");
  ragged.set("cu_seqlens", 2, 6);
  ragged.set("write_slot", 0, 99);
  CHECK(ragged.refusal().find("write_slot[0]=99: the pool has") == 0);
}

TEST_CASE("a tensor of another size than its shape is refused") {
  Given given("gdn.step", "B=2");
  given.contents[0].pop_back();
  CHECK(given.refusal().find("q: has 63 bytes, the problem asks for 64") == 0);
}

}  // namespace
}  // namespace gdnjit::reference

// Operator::describe_call(): what the shapes of a call say about it.
#include <doctest/doctest.h>

#include <string>

#include "codegen/registry.h"
#include "tests/support/error_of.h"

using namespace gdnjit;

namespace {

constexpr const char* kLayer = "H=2 HV=4 K=16 V=8";

std::vector<TensorView> views_of(const std::vector<TensorSpec>& specs) {
  std::vector<TensorView> views;
  for (const TensorSpec& spec : specs) {
    TensorView& view = views.emplace_back();
    view.dtype = spec.dtype;
    view.rank = static_cast<int>(spec.shape.size());
    std::copy(spec.shape.begin(), spec.shape.end(), view.shape.begin());
  }
  return views;
}

// A call of `made_for` seen from a plan for `planned`.
struct Seen {
  const Operator& op;
  FieldMap planned;
  std::vector<TensorView> views;

  Seen(const char* name, const std::string& planned_for, const std::string& made_for)
      : op(find_operator(name)),
        planned(op.complete(parse_fields(fmt::format("{} {}", kLayer, planned_for)))),
        views(views_of(op.tensors(op.complete(parse_fields(fmt::format("{} {}", kLayer, made_for)))))) {}

  TensorView& view(std::string_view name) {
    const std::vector<TensorSpec> specs = op.tensors(planned);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].name == name) return views[i];
    }
    FAIL("no tensor ", std::string(name));
    return views[0];
  }
  CallDescription describe() const { return op.describe_call(planned, views); }
  const TensorSpec& spec(const CallDescription& call, std::string_view name) const {
    for (const TensorSpec& candidate : call.tensors) {
      if (candidate.name == name) return candidate;
    }
    FAIL("no tensor ", std::string(name));
    return call.tensors[0];
  }
};

}  // namespace

TEST_CASE("a step's B and T are the call's, and so are a pool's rows and the accepted columns") {
  Seen seen("gdn.step", "B=64 state_store=pool num_accepted=pool", "B=3 T=2 state_store=pool num_accepted=pool");
  seen.view("state_in").shape[0] = 1000;
  seen.view("accepted_slot").shape[1] = 9;
  const CallDescription call = seen.describe();
  CHECK(find_field(call.problem, "B") == "3");
  CHECK(find_field(call.problem, "T") == "2");
  CHECK(find_field(call.problem, "HV") == "4");
  CHECK(seen.spec(call, "o").shape == std::vector<std::int64_t>{3, 2, 4, 8});
  CHECK(seen.spec(call, "state_in").shape == std::vector<std::int64_t>{1000, 4, 8, 16});
  CHECK(seen.spec(call, "accepted_slot").shape == std::vector<std::int64_t>{3, 9});
}

TEST_CASE("outputs are described though the call does not show them") {
  Seen seen("gdn.step", "state_steps=dense", "B=5 T=4 state_steps=dense");
  for (const char* output : {"o", "state_out", "step_states"}) seen.view(output) = {};
  const CallDescription call = seen.describe();
  CHECK(seen.spec(call, "o").shape == std::vector<std::int64_t>{5, 4, 4, 8});
  CHECK(seen.spec(call, "step_states").shape == std::vector<std::int64_t>{5, 4, 4, 8, 16});
}

TEST_CASE("an input that does not fit is described as the problem has it") {
  Seen seen("gdn.step", "B=1", "B=2");
  seen.view("v").shape[2] = 7;
  CHECK(seen.spec(seen.describe(), "v").shape == std::vector<std::int64_t>{2, 1, 4, 8});
}

TEST_CASE("packed inputs and calls without an output describe themselves as well") {
  const Seen packed("gdn.step", "input_layout=qkvz", "B=6 input_layout=qkvz");
  CHECK(find_field(packed.describe().problem, "B") == "6");
  const Seen rebuild("gdn.recurrent", "write_output=false", "B=2 T=11 write_output=false");
  CHECK(find_field(rebuild.describe().problem, "T") == "11");
}

TEST_CASE("a ragged batch has the sequences of cu_seqlens and their average length, rounded up") {
  const char* const fields = "ragged=true initial_state=pool final_state=dense";
  Seen seen("gdn.recurrent", fields, fmt::format("B=3 T=4 {}", fields));
  for (const char* name : {"q", "k", "v", "a", "b", "o"}) seen.view(name).shape[1] = 10;
  seen.view("state_in").shape[0] = 77;
  const CallDescription call = seen.describe();
  CHECK(find_field(call.problem, "B") == "3");
  CHECK(find_field(call.problem, "T") == "4");
  CHECK(seen.spec(call, "o").shape == std::vector<std::int64_t>{1, 10, 4, 8});
  CHECK(seen.spec(call, "state_in").shape[0] == 77);
  CHECK(seen.spec(call, "state_out").shape[0] == 3);
  seen.view("cu_seqlens").shape[0] = 1;
  CHECK(find_field(seen.describe().problem, "B") == "0");
}

TEST_CASE("a slot array names the pool that its values index") {
  const auto pool_of = [](const char* op, const std::string& fields, std::string_view name) {
    Seen seen(op, fields, fields);
    return seen.spec(seen.describe(), name).indexes;
  };
  CHECK(pool_of("gdn.step", "state_store=pool", "write_slot") == "state_in");
  CHECK(pool_of("gdn.step", "state_store=pool state_steps=pool", "step_slot") == "state_in");
  CHECK(pool_of("gdn.recurrent", "initial_state=pool final_state=pool", "write_slot") == "state_in");
  CHECK(pool_of("gdn.recurrent", "initial_state=dense final_state=pool", "write_slot") == "state_out");
  CHECK(pool_of("gdn.step", "", "state_in").empty());
}

TEST_CASE("a mixer's states of the convolution have the rows and columns of the others") {
  const char* const fields = "state_store=pool num_accepted=dense conv_width=4 gated_norm=silu";
  Seen seen("gdn.step", fields, fields);
  seen.view("state_in").shape[0] = seen.view("conv_state_in").shape[0] = 77;
  seen.view("accepted_states").shape[1] = seen.view("accepted_conv_states").shape[1] = 9;
  const CallDescription call = seen.describe();
  CHECK(seen.spec(call, "conv_state_in").shape[0] == 77);
  CHECK(seen.spec(call, "conv_state_in").rows_of == "state_in");
  CHECK(seen.spec(call, "accepted_conv_states").shape[1] == 9);
  CHECK(seen.spec(call, "z").shape == std::vector<std::int64_t>{1, 1, 4, 8});
}

TEST_CASE("a call of the wrong number of tensors, rank or T is refused") {
  Seen seen("gdn.step", "", "");
  seen.view("k").rank = 3;
  CHECK(says(error_of([&] { seen.describe(); }), "k: has rank 3, must be 4"));
  seen.view("k").rank = 4;
  seen.view("k").shape[1] = 1LL << 40;
  CHECK(says(error_of([&] { seen.describe(); }), "T=17: must be 1 to 16"));
  seen.views.pop_back();
  CHECK(says(error_of([&] { seen.describe(); }), "gdn.step: 9 tensors given, the problem has 10"));
}

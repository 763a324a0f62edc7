// moe.route against the double-precision reference: every shape and option pairwise; ties and NaN written out; keys,
// arguments, traffic.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

#include "codegen/moe/options_names.h"
#include "codegen/moe/route.h"
#include "runtime/moe_route.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/gdn/pairwise_check.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const Operator& route() { return find_operator("moe.route"); }

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"E", {"1", "8", "60", "160", "256", "384", "512", "513", "1024"}},
      {"k", {"1", "2", "6", "8", "10", "32"}},
      {"M", {"17", "0", "1", "2", "3", "33"}},
      {"scoring", {"softmax", "topk_softmax", "sigmoid"}},
      {"renormalize", {"false", "true"}},
      {"selection_bias", {"false", "true"}},
      {"router_bias", {"false", "true"}},
      {"groups", {"1 1", "8 4", "4 3", "32 8", "3 2", "10 5"}},
      {"group_score", {"top2_sum", "max"}},
      {"scaling", {"1", "2.5"}},
      {"softcap", {"0", "30", "0.5"}},
      {"logits", {"f32", "bf16", "f16"}},
      {"bias_dtype", {"f32", "bf16"}},
      {"id_dtype", {"i32", "i64"}},
      {"programmatic", {"false", "true"}},
      {"alignment", {"16", "4"}},
      {"inputs", {"typical", "brutal"}},
      {"tiles", {"default", "last"}},
      {"arch", {"sm_90a", "sm_80"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

int number(const std::string& text, int otherwise) { return text.empty() ? otherwise : std::stoi(text); }

bool allowed(const Case& built) {
  if (chosen(built, "arch") == "sm_80" && chosen(built, "programmatic") == "true") return false;
  const int E = number(chosen(built, "E"), 0), k = number(chosen(built, "k"), 1);
  if (E == 0) return true;
  if (k > E) return false;
  const std::string groups = chosen(built, "groups");
  if (groups.empty()) return true;
  const std::vector<std::string> pair = split(groups, ' ');
  const int count = std::stoi(pair[0]), kept = std::stoi(pair[1]);
  return E % count == 0 && E / count >= 2 - (count == 1 ? 1 : 0) && kept * (E / count) >= k;
}

FieldMap problem_of(const Case& built) {
  FieldMap problem;
  for (const char* name : {"E", "k", "M", "scoring", "renormalize", "selection_bias", "router_bias", "group_score",
                           "scaling", "softcap", "logits", "bias_dtype", "id_dtype", "programmatic", "alignment"}) {
    set_field(problem, name, chosen(built, name));
  }
  const std::vector<std::string> groups = split(chosen(built, "groups"), ' ');
  set_field(problem, "groups", groups[0]);
  set_field(problem, "groups_kept", groups[1]);
  return problem;
}

// One call of a problem with given logits on a runtime of its own; ids and weights.
struct Routed {
  std::vector<std::int64_t> ids;
  std::vector<double> weights;
};

Routed route_logits(Runtime::Impl& runtime, const std::string& text, const std::vector<double>& logits,
                    const std::vector<double>& selection_bias = {}) {
  const auto plan = make_plan(runtime, route(), parse_fields(text));
  HostCall call(reference::make_workload("moe.route", parse_fields(text), reference::Inputs::typical, 1)->tensors());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    reference::store_element(DType::f32, call["logits"].bytes.data(), static_cast<std::int64_t>(i), logits[i]);
  }
  for (std::size_t i = 0; i < selection_bias.size(); ++i) {
    reference::store_element(DType::f32, call["selection_bias"].bytes.data(), static_cast<std::int64_t>(i),
                             selection_bias[i]);
  }
  plan->run(call.views(), nullptr);
  Routed routed;
  for (const double id : reference::load_all(DType::i32, call["topk_ids"].bytes)) {
    routed.ids.push_back(static_cast<std::int64_t>(id));
  }
  routed.weights = reference::load_all(DType::f32, call["topk_weights"].bytes);
  return routed;
}

using Ids = std::vector<std::int64_t>;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

}  // namespace

TEST_CASE("every pair of shapes and options is right on the emulator") {
  const auto tiles_of = [](const Case& built, const FieldMap& problem,
                           const DeviceTraits& device) -> std::optional<FieldMap> {
    if (chosen(built, "tiles") == "last") return route().search_space(problem, device).back();
    return std::nullopt;
  };
  check_every_pair(route(), axes(), allowed, 2031, problem_of, tiles_of);
}

TEST_CASE("among equal logits the lower expert wins, and zeros of both signs are equal") {
  const auto runtime = emulator_runtime("sm_90a");
  CHECK(route_logits(*runtime, "E=6 k=4 scoring=topk_softmax", {1, 3, 3, 1, 3, 0}).ids == Ids{1, 2, 4, 0});
  CHECK(route_logits(*runtime, "E=6 k=3 scoring=sigmoid", {-0.0, 0.0, -0.0, -1, 0.0, -1}).ids == Ids{0, 1, 2});
  std::vector<double> equal(513, 0.5);
  CHECK(route_logits(*runtime, "E=513 k=8", equal).ids == Ids{0, 1, 2, 3, 4, 5, 6, 7});
  equal[512] = 0.75;
  CHECK(route_logits(*runtime, "E=513 k=4", equal).ids == Ids{512, 0, 1, 2});
  // Groups of equal worth: the first two. Group 2 is left out although its second expert is as good as any.
  CHECK(route_logits(*runtime, "E=6 k=3 groups=3 groups_kept=2 scoring=sigmoid", {0, 1, 1, 0, 1, 1}).ids ==
        Ids{1, 2, 0});
}

TEST_CASE("logits that are not numbers are never better than others, and weights stay finite") {
  const auto runtime = emulator_runtime("sm_90a");
  const Routed some =
      route_logits(*runtime, "E=5 k=3 scoring=softmax renormalize=true", {kNan, 2, kNan, 1, -kInfinity});
  CHECK(some.ids == Ids{1, 3, 0});  // a NaN is as low as -infinity, and then the lower id wins
  CHECK(some.weights[0] == doctest::Approx(1 / (1 + std::exp(-1.0))));
  CHECK(some.weights[2] == 0);
  for (const char* scoring : {"softmax renormalize=true", "topk_softmax"}) {
    const Routed none = route_logits(*runtime, fmt::format("E=40 k=4 scoring={}", scoring), std::vector(40, kNan));
    CHECK(none.ids == Ids{0, 1, 2, 3});
    CHECK(none.weights == std::vector<double>(4, 0.25));
  }
  const Routed sigmoid = route_logits(*runtime, "E=40 k=4 scoring=sigmoid renormalize=true", std::vector(40, kNan));
  CHECK(sigmoid.ids == Ids{0, 1, 2, 3});
  CHECK(sigmoid.weights == std::vector<double>(4, 0));
  const Routed infinite = route_logits(*runtime, "E=4 k=2", {0, kInfinity, 3e38, kInfinity});
  CHECK(infinite.ids == Ids{1, 3});
  CHECK(infinite.weights == std::vector<double>{0.5, 0.5});
}

TEST_CASE("a selection bias chooses, and the weight is the score without it") {
  const auto runtime = emulator_runtime("sm_90a");
  const Routed routed =
      route_logits(*runtime, "E=4 k=2 scoring=sigmoid selection_bias=true scaling=2.5 renormalize=true", {0, 1, 2, 3},
                   {1, 0, 0, -1});
  CHECK(routed.ids == Ids{0, 2});  // 1.5, 0.73, 0.88, -0.05
  const double first = 0.5, second = 1 / (1 + std::exp(-2.0));
  CHECK(routed.weights[0] == doctest::Approx(2.5 * first / (first + second)).epsilon(1e-6));
  CHECK(routed.weights[1] == doctest::Approx(2.5 * second / (first + second)).epsilon(1e-6));
}

TEST_CASE("rows of the tensors may lie apart, and one plan serves every M") {
  const auto runtime = emulator_runtime("sm_90a");
  const auto plan = make_plan(*runtime, route(), parse_fields("M=1 E=64 k=4 logits=bf16"));
  HostCall call(
      reference::make_workload("moe.route", parse_fields("M=5 E=64 k=4 logits=bf16"), reference::Inputs::typical, 3)
          ->tensors());
  plan->run(call.views(), nullptr);
  const std::vector<std::byte> dense = call["topk_ids"].bytes;
  std::vector<std::byte> wide(5 * 72 * 2), ids(5 * 9 * 4), weights(5 * 6 * 4);
  for (std::size_t m = 0; m < 5; ++m) std::memcpy(&wide[m * 144], &call["logits"].bytes[m * 128], 128);
  TensorView logits = call.view("logits"), out_ids = call.view("topk_ids"), out_weights = call.view("topk_weights");
  logits.data = wide.data(), logits.strides[0] = 72;
  out_ids.data = ids.data(), out_ids.strides[0] = 9;
  out_weights.data = weights.data(), out_weights.strides[0] = 6;
  plan->run(std::vector{logits, out_weights, out_ids}, nullptr);
  for (std::size_t m = 0; m < 5; ++m) {
    CHECK(std::memcmp(&ids[m * 36], &dense[m * 16], 16) == 0);
    CHECK(std::memcmp(&weights[m * 24], &call["topk_weights"].bytes[m * 16], 16) == 0);
  }
}

// A lane's experts lie in a row: of 16 bytes in bf16, so a warp's access is dense; of 32 or more in fp32, so two
// accesses share each sector, the second of which the L1 serves.
TEST_CASE("logits are read in whole sectors, and nothing spills") {
  const auto runtime = emulator_runtime("sm_90a");
  struct {
    const char* text;
    double accesses;  // of a sector
    double again;     // sectors looked up for the weights, and those that rows off a sector's edge share
  } const cases[] = {
      {"M=33 E=256 k=8 logits=bf16", 1, 33},
      {"M=33 E=512 k=10", 2, 0},
      {"M=33 E=1024 k=32", 2, 0},
      {"M=33 E=256 k=8 scoring=sigmoid selection_bias=true groups=8 groups_kept=4 group_score=top2_sum", 2, 33 * 9}};
  for (const auto& [text, accesses, again] : cases) {
    CAPTURE(text);
    const FieldMap fields = parse_fields(text);
    const auto plan = make_plan(*runtime, route(), fields);
    CHECK(plan->info().kernels[0].spill_bytes == 0);
    const auto workload = reference::make_workload("moe.route", fields, reference::Inputs::typical, 5);
    HostCall call(workload->tensors());
    plan->run(call.views(), nullptr);
    const double sectors = static_cast<double>(call["logits"].bytes.size()) / 32;
    bool seen = false;
    for (const BufferTraffic& buffer : runtime->device().last_traffic()) {
      if (buffer.name != "logits") continue;
      seen = true;
      CHECK(static_cast<double>(buffer.sectors_read) <= 1.04 * accesses * sectors + again);
    }
    CHECK(seen);
  }
}

TEST_CASE("every field of a problem that shapes the kernel changes its key, and no other does") {
  const auto key_of = [](const std::string& text) {
    const auto instance = route().instantiate(parse_fields(text), parse_fields("warps=1"), Target{"sm_90a"});
    return request_digest(instance->kernels()[0], TemplateSet::embedded()).hex();
  };
  const std::string base = "E=256 k=8 scoring=sigmoid selection_bias=true groups=8 groups_kept=4 ";
  std::set<std::string> keys{key_of(base)};
  for (const char* change :
       {"E=512", "k=6", "scoring=softmax", "renormalize=true", "selection_bias=false", "router_bias=true", "groups=4",
        "groups_kept=5", "group_score=top2_sum", "scaling=2.5", "softcap=30", "logits=bf16", "bias_dtype=bf16",
        "id_dtype=i64", "programmatic=true", "alignment=4"}) {
    CAPTURE(change);
    FieldMap problem = parse_fields(base);
    for (const auto& [name, value] : parse_fields(change)) set_field(problem, name, value);
    CHECK(keys.insert(key_of(fields_text(problem))).second);
  }
  // M is known at run time, and of a bias that is not there the dtype does not matter.
  CHECK(key_of("M=1 E=256 k=8") == key_of("M=4096 E=256 k=8"));
  CHECK(key_of("E=256 k=8 bias_dtype=bf16") == key_of("E=256 k=8"));
  CHECK(key_of("E=256 k=8 groups=8 groups_kept=8 group_score=top2_sum") == key_of("E=256 k=8"));
  CHECK(key_of("E=256 k=8 renormalize=true") == key_of("E=256 k=8 scoring=topk_softmax"));
}

TEST_CASE("flipping any field of the signature changes text and source") {
  const moe::RouteConfig base;
  std::size_t fields = 0;
  visit_fields(base, [&](std::string_view name, const auto&) {
    moe::RouteConfig changed;
    visit_fields(changed, [&](std::string_view other, auto& value) {
      using Value = std::remove_reference_t<decltype(value)>;
      if (other != name) return;
      if constexpr (std::is_same_v<Value, bool>) {
        value = !value;
      } else if constexpr (std::is_enum_v<Value>) {
        value = static_cast<Value>((static_cast<std::size_t>(value) + 1) % EnumNames<Value>::names.size());
      } else {
        value = static_cast<Value>(value * 2 + 1);
      }
    });
    CAPTURE(name);
    CHECK(fields_text(to_fields(changed)) != fields_text(to_fields(base)));
    CHECK(designated_initializer(changed) != designated_initializer(base));
    ++fields;
  });
  CHECK(fields == 17);
}

TEST_CASE("bad problems and arguments are refused by name, value and rule") {
  const auto refused = [](const char* text) { return thrown([&] { route().complete(parse_fields(text)); }); };
  CHECK(refused("M=-1") == "M=-1: must not be negative");
  CHECK(refused("E=1025") == "E=1025: must be 1 to 1024");
  CHECK(refused("k=33") == "k=33: must be 1 to 32");
  CHECK(refused("E=4 k=8") == "k=8: must be at most E=4");
  CHECK(refused("E=256 groups=7") == "groups=7: must divide E=256");
  CHECK(refused("E=256 groups=64") == "groups=64: must be 1 to 32");
  CHECK(refused("E=256 groups=8 groups_kept=9") == "groups_kept=9: must be 1 to groups=8");
  CHECK(refused("E=16 k=8 groups=8 groups_kept=3") == "groups_kept=3: 2 experts in each are fewer than k=8 together");
  CHECK(refused("E=8 k=4 groups=8 groups_kept=4 group_score=top2_sum") ==
        "group_score=top2_sum: groups=8 has one expert in each");
  CHECK(refused("softcap=-1") == "softcap=-1: must not be negative (0 is none)");
  CHECK(refused("id_dtype=f32") == "id_dtype=f32: must be i32 or i64");
  CHECK(refused("alignment=2") == "alignment=2: must hold one element of 4 bytes");

  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("M=3 E=64 k=4 router_bias=true");
  const auto plan = make_plan(*runtime, route(), fields);
  const auto spoiled = [&](std::string_view wanted, const std::function<void(TensorView&)>& spoil) {
    HostCall call(reference::make_workload("moe.route", fields, reference::Inputs::typical, 5)->tensors());
    return thrown([&] {
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, TensorView view) {
                                 if (name == wanted) spoil(view);
                                 return view;
                               }),
                nullptr);
    });
  };
  CHECK(spoiled("logits", [](TensorView& view) { view.dtype = DType::bf16; }) ==
        "logits: has dtype bf16, the problem says f32");
  CHECK(spoiled("logits", [](TensorView& view) { view.shape[1] = 32; }) == "logits: dimension 1 is 32, must be 64");
  CHECK(spoiled("logits", [](TensorView& view) {
          view.strides[0] = 65;
        }).starts_with("logits: stride 65 of dimension 0 is not a multiple of 2 elements"));
  CHECK(spoiled("router_bias", [](TensorView& view) { view.data = nullptr; }) ==
        "router_bias: is null; the problem needs it");
  CHECK(spoiled("topk_ids", [](TensorView& view) { view.shape[0] = 2; }) == "topk_ids: dimension 0 is 2, must be 3");
  CHECK(spoiled("topk_weights", [](TensorView& view) {
          view.strides[1] = 2;
        }).starts_with("topk_weights: stride 2 of dimension 1 must be 1"));
}

TEST_CASE("the C++ interface routes") {
  Runtime runtime(emulator_runtime("sm_90a"));
  const moe::RouteProblem problem{.experts = 8, .top_k = 2, .scoring = moe::Scoring::topk_softmax};
  std::vector<float> logits{0, 1, 2, 3, 4, 5, 6, 7}, weights(2);
  std::vector<std::int32_t> ids(2);
  const moe::RouteArgs args{.logits = TensorView::dense(logits.data(), DType::f32, {1, 8}),
                            .topk_weights = TensorView::dense(weights.data(), DType::f32, {1, 2}),
                            .topk_ids = TensorView::dense(ids.data(), DType::i32, {1, 2})};
  moe::route(runtime, problem, args);
  CHECK(ids == std::vector<std::int32_t>{7, 6});
  CHECK(weights[0] == doctest::Approx(1 / (1 + std::exp(-1.0))).epsilon(1e-6));
  CHECK(moe::plan(runtime, problem).info().operator_name == "moe.route");
  CHECK_THROWS_AS(moe::RoutePlan().run(args), Error);
}

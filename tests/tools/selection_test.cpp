#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "codegen/registry.h"
#include "tests/tools/messages.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {
namespace {

enum class Mode : unsigned char { plain, fancy };

struct FakeProblem {
  std::int64_t batch = 1;
  int heads_k = 16;
  int heads_v = 32;
  int head_dim_k = 128;
  int head_dim_v = 128;
  float lower_bound = 0;
  Mode gate = Mode::plain;
};

template <typename Self, typename Visitor>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("B", problem.batch);
  visit("H", problem.heads_k);
  visit("HV", problem.heads_v);
  visit("K", problem.head_dim_k);
  visit("V", problem.head_dim_v);
  visit("lower_bound", problem.lower_bound);
  visit("gate", problem.gate);
}

}  // namespace
}  // namespace gdnjit::tool

template <>
struct gdnjit::EnumNames<gdnjit::tool::Mode> {
  static constexpr std::string_view type = "Mode";
  static constexpr std::array<std::string_view, 2> names{"plain", "fancy"};
};

namespace gdnjit::tool {
namespace {

// Problems with two rules and nothing behind them: selection needs no more of an operator.
class FakeOperator : public Operator {
 public:
  explicit FakeOperator(std::string name) : name_(std::move(name)) {}
  std::string_view name() const override { return name_; }
  FieldMap complete(const FieldMap& fields) const override {
    const auto problem = from_fields<FakeProblem>(fields);
    require(problem.heads_v % problem.heads_k == 0, "HV={} is not a multiple of H={}", problem.heads_v,
            problem.heads_k);
    return to_fields(problem);
  }
  FieldMap tuning_bucket(const FieldMap& problem) const override { return problem; }
  FieldMap default_tiles(const FieldMap&, const DeviceTraits&) const override { return {}; }
  std::vector<FieldMap> search_space(const FieldMap&, const DeviceTraits&) const override { return {}; }
  std::shared_ptr<const Instance> instantiate(const FieldMap&, const FieldMap&, const Target&) const override {
    return nullptr;
  }
  std::vector<TensorSpec> tensors(const FieldMap&) const override { return {}; }
  CallDescription describe_call(const FieldMap& problem, std::span<const TensorView>) const override {
    return {problem, {}};
  }
  Footprint footprint(const FieldMap&) const override { return {}; }

 private:
  std::string name_;
};

const FakeOperator kOne("gdn.one");
const FakeOperator kTwo("gdn.two");
constexpr const Operator* kOnlyOne[] = {&kOne};
constexpr const Operator* kBoth[] = {&kOne, &kTwo};

// A file that lives as long as the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view text)
      : path_(std::filesystem::temp_directory_path() / fmt::format("gdn-tune-selection-{}", getpid())) {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr std::string_view kModels = R"({"models": [
  {"name": "small", "tp": [1, 2, 4],
   "operators": {"gdn.one": {"fields": {"H": 4, "HV": 8}, "divided_by_tp": ["H", "HV"]}}},
  {"name": "twin", "base": "small"},
  {"name": "odd", "operators": {"gdn.one": {"fields": {"H": 3, "HV": 3}, "divided_by_tp": ["H", "HV"]},
                                "gdn.two": {"fields": {"H": 3, "HV": 6}, "divided_by_tp": ["H", "HV"]}}}]})";

std::vector<std::string> shown(const Selection& selection, std::vector<std::string> names) {
  std::vector<std::string> texts;
  for (const SelectedProblem& selected : selection.problems) texts.push_back(short_problem(selected.problem, names));
  return texts;
}

Selection select(const SelectionArguments& arguments) { return select_problems(arguments, kOnlyOne); }

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("models, splits, set values and batches make the cross product, batch fastest") {
  const TemporaryFile models(kModels);
  const Selection selection = select({.models = {"small"},
                                      .tp = {"1", "4"},
                                      .batches = {"1", "8"},
                                      .sets = {"gate=plain,fancy"},
                                      .models_file = models.path()});
  CHECK(shown(selection, {"B", "H", "HV", "gate"}) == Texts{"B=1 H=4 HV=8 gate=plain", "B=8 H=4 HV=8 gate=plain",
                                                            "B=1 H=4 HV=8 gate=fancy", "B=8 H=4 HV=8 gate=fancy",
                                                            "B=1 H=1 HV=2 gate=plain", "B=8 H=1 HV=2 gate=plain",
                                                            "B=1 H=1 HV=2 gate=fancy", "B=8 H=1 HV=2 gate=fancy"});
  CHECK(selection.problems.front().origins == Texts{"small tp=1"});
  CHECK(selection.problems.back().origins == Texts{"small tp=4"});
  CHECK(selection.problems.front().problem.size() == 7);
}

TEST_CASE("a field set twice takes the values of both") {
  const Selection selection = select({.operators = {"gdn.one"}, .batches = {"2"}, .sets = {"B=1", "B=4,1"}});
  CHECK(shown(selection, {"B"}) == Texts{"B=1", "B=4", "B=2"});
}

TEST_CASE("a problem posed by several models appears once with all its origins") {
  const TemporaryFile models(kModels);
  const Selection selection = select({.models = {"small", "twin"}, .tp = {"all"}, .models_file = models.path()});
  CHECK(shown(selection, {"H"}) == Texts{"H=4", "H=2", "H=1"});
  CHECK(selection.problems.front().origins == Texts{"small tp=1", "twin tp=1"});
}

TEST_CASE("a set value is laid over the split field of a model") {
  const TemporaryFile models(kModels);
  const Selection selection =
      select({.models = {"small"}, .tp = {"2"}, .sets = {"HV=6"}, .models_file = models.path()});
  CHECK(shown(selection, {"H", "HV"}) == Texts{"H=2 HV=6"});
}

TEST_CASE("one split for all models leaves out those it does not fit and says so") {
  const TemporaryFile models(kModels);
  ModelTable built_in = ModelTable::built_in();
  const Selection selection = select({.all_models = true, .tp = {"2"}, .models_file = models.path()});
  CHECK(shown(selection, {"H", "HV"}) == Texts{"H=2 HV=4"});
  std::string notes = fmt::format("{}", fmt::join(selection.notes, "\n"));
  CHECK(contains(notes, "left out: model odd with tp=2: H=3 must be divisible by tp"));
  CHECK(contains(notes, "gdn.step, which this build does not have"));
  // Asked for by name, the same is an error.
  CHECK(contains(message_of([&] { select({.models = {"odd"}, .tp = {"2"}, .models_file = models.path()}); }),
                 "model odd with tp=2: H=3 must be divisible by tp"));
}

TEST_CASE("an operator restricts a model, and must be one it has") {
  const TemporaryFile models(kModels);
  SelectionArguments arguments{.models = {"odd"}, .operators = {"gdn.two"}, .models_file = models.path()};
  const Selection selection = select_problems(arguments, kBoth);
  REQUIRE(selection.problems.size() == 1);
  CHECK(selection.problems.front().op == &kTwo);
  arguments.models = {"small"};
  CHECK(contains(message_of([&] { select_problems(arguments, kBoth); }), "model small has no operator 'gdn.two'"));
  arguments.operators = {"gdn.on"};
  CHECK(contains(message_of([&] { select_problems(arguments, kBoth); }), "unknown operator 'gdn.on' (did you mean"));
}

TEST_CASE("a problem is given field by field, with its operator in front, by --op, or the only one there is") {
  CHECK(shown(select({.problems = {"H=2 HV=6 gate=fancy"}}), {"H", "HV", "gate"}) == Texts{"H=2 HV=6 gate=fancy"});
  const auto both = [](SelectionArguments arguments) { return select_problems(arguments, kBoth); };
  CHECK(both({.problems = {" gdn.two H=2"}}).problems.front().op == &kTwo);
  CHECK(both({.operators = {"gdn.two"}, .problems = {"H=2"}}).problems.front().op == &kTwo);
  CHECK(contains(message_of([&] { both({.problems = {"H=2"}}); }), "name the operator with --op"));
  CHECK(shown(both({.operators = {"gdn.one"}, .batches = {"3"}}), {"B", "H"}) == Texts{"B=3 H=16"});
}

TEST_CASE("batches are M of an operator that has tokens in their place") {
  const Selection selection =
      select_problems({.operators = {"moe.route", "gdn.step"}, .batches = {"1", "8"}}, operators());
  CHECK(shown(selection, {"B", "M"}) == Texts{"M=1", "M=8", "B=1", "B=8"});
  CHECK(selection.named_fields == Texts{"M", "B"});
}

TEST_CASE("a model without a named operator means its main layer; a pattern means a kind of layer") {
  const auto names = [](const SelectionArguments& arguments) {
    Texts result;
    for (const SelectedProblem& selected : select_problems(arguments, operators()).problems) {
      if (result.empty() || result.back() != selected.op->name()) result.emplace_back(selected.op->name());
    }
    return result;
  };
  CHECK(names({.models = {"qwen3.5-35b"}}) == Texts{"gdn.step", "gdn.recurrent", "gdn.chunk", "gdn.forward"});
  CHECK(names({.models = {"mixtral-8x7b"}, .operators = {"moe.u*", "moe.d*"}}) == Texts{"moe.up", "moe.down"});
  CHECK(names({.models = {"mixtral-8x7b"}}).front() == "moe.route");
  CHECK(names({.operators = {"moe.u*"}}) == Texts{"moe.up"});
  CHECK(contains(message_of([&] { names({.models = {"qwen3.5-4b"}, .operators = {"moe.*"}}); }), "has no operator"));
  CHECK(contains(message_of([&] { names({.operators = {"mo.*"}}); }), "unknown operator"));
  // Models that lack it are left out of all models.
  const Selection all = select_problems({.all_models = true, .operators = {"moe.up"}}, operators());
  CHECK(all.problems.size() == 12);
  CHECK(all.notes.empty());
}

TEST_CASE("weights are a model's first format, or those asked for, of operators that have any") {
  const auto formats = [](const SelectionArguments& arguments) {
    return shown(select_problems(arguments, operators()), {"I", "shared_size", "weights", "group_size"});
  };
  CHECK(formats({.models = {"gpt-oss-20b"}, .tp = {"8"}, .operators = {"moe.up"}}) ==
        Texts{"I=360 weights=mxfp4 group_size=128 shared_size=0"});
  CHECK(
      formats({.models = {"qwen3.5-35b-a3b"}, .tp = {"2"}, .weights = {"int4:64", "bf16"}, .operators = {"moe.up"}}) ==
      Texts{"I=256 weights=int4 group_size=64 shared_size=256", "I=256 weights=bf16 group_size=128 shared_size=256"});
  CHECK(formats({.models = {"kimi-k2"}, .weights = {"all"}, .operators = {"moe.down"}}) ==
        Texts{"I=2048 weights=fp8_block group_size=128 shared_size=2048",
              "I=2048 weights=int4 group_size=32 shared_size=2048"});
  CHECK(formats({.weights = {"int8:0"}, .operators = {"moe.up"}, .problems = {"I=8"}}) ==
        Texts{"I=8 weights=int8 group_size=0 shared_size=0"});
  CHECK(contains(message_of([&] { formats({.weights = {"bf16"}, .operators = {"moe.route"}}); }),
                 "none of the operators has expert weights"));
  CHECK(contains(message_of([&] { formats({.weights = {"all"}, .operators = {"moe.up"}}); }), "name one with --model"));
}

TEST_CASE("a split that leaves an expert no multiple of 8 is refused with the rule and the splits in use") {
  SelectionArguments arguments{.models = {"gemma4-26b"}, .tp = {"16"}, .operators = {"moe.up"}};
  CHECK(message_of([&] { select_problems(arguments, operators()); }) ==
        "model gemma4-26b with tp=16: I=44: must be a multiple of 8, 8 to 1048576; splits in use: 1, 2, 4, 8");
  arguments.tp = {"5"};
  CHECK(contains(message_of([&] { select_problems(arguments, operators()); }), "I=704 must be divisible by tp"));
}

TEST_CASE("misses become problems") {
  const TemporaryFile misses(
      "{\"operator\":\"gdn.one\",\"problem\":\"B=4 H=2 HV=4\",\"arch\":\"sm_90a\"}\n\n"
      "{\"operator\":\"gdn.one\",\"problem\":\"B=8 H=2 HV=4\"}\n");
  CHECK(shown(select({.misses = misses.path()}), {"B", "H"}) == Texts{"B=4 H=2", "B=8 H=2"});
}

TEST_CASE("a bad line of a miss file is named") {
  const TemporaryFile misses("{\"operator\":\"gdn.one\",\"problem\":\"B=4\"}\nnonsense\n");
  const std::string message = message_of([&] { select({.misses = misses.path()}); });
  CHECK(contains(message, ":2: expected a JSON object"));
  CHECK(code_of([] { select({.misses = "/nowhere/misses.jsonl"}); }) == ErrorCode::io);
}

TEST_CASE("rules of the operator are reported with the problem's origin") {
  const TemporaryFile models(kModels);
  CHECK(message_of([&] { select({.models = {"small"}, .sets = {"HV=10"}, .models_file = models.path()}); }) ==
        "small tp=1: HV=10 is not a multiple of H=4");
  CHECK(contains(message_of([] { select({.operators = {"gdn.one"}, .sets = {"gat=plain"}}); }),
                 "unknown field 'gat' (did you mean 'gate'?)"));
  CHECK(contains(message_of([] { select({.operators = {"gdn.one"}, .sets = {"gate=fanzy"}}); }),
                 "gate=fanzy: unknown value (did you mean 'fancy'?)"));
}

TEST_CASE("options that make no sense are refused") {
  CHECK(contains(message_of([] { select({}); }), "no problem given"));
  CHECK(contains(message_of([] { select({.models = {"x"}, .all_models = true}); }), "exclude each other"));
  CHECK(contains(message_of([] { select({.tp = {"2"}, .operators = {"gdn.one"}}); }), "--tp splits a model"));
  CHECK(contains(message_of([] { select({.models = {"qwen3.5-27b"}, .tp = {"two"}}); }), "--tp two"));
  CHECK(contains(message_of([] { select({.operators = {"gdn.one"}, .sets = {"H"}}); }), "expected name=value"));
  CHECK(contains(message_of([] { select({.operators = {"gdn.one"}, .sets = {"H=1,,2"}}); }), "an empty value"));
}

TEST_CASE("a cross product beyond reason is refused before it is made") {
  SelectionArguments arguments{.operators = {"gdn.one"}};
  for (const char* field : {"B", "K", "V"}) {
    std::string set = fmt::format("{}=1", field);
    for (int value = 2; value <= 100; ++value) set += fmt::format(",{}", value);
    arguments.sets.push_back(set);
  }
  CHECK(contains(message_of([&] { select(arguments); }), "more than 100000 problems"));
}

TEST_CASE("worth showing is what was varied or differs from the defaults") {
  const Selection selection = select({.operators = {"gdn.one"}, .batches = {"1"}, .sets = {"gate=plain,fancy"}});
  const Texts fields = fields_worth_showing(selection);
  CHECK(short_problem(selection.problems.front().problem, fields) == "B=1 gate=plain");
  CHECK(short_problem(selection.problems.front().problem, {}) == "(all defaults)");
}

}  // namespace gdnjit::tool

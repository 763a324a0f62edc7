#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/tools/messages.h"
#include "tools/gdn-tune/models.h"

namespace gdnjit::tool {
namespace {

// "H/HV" for each split in use.
std::vector<std::string> heads(std::string_view model_name) {
  const ModelTable table = ModelTable::built_in();
  const Model& model = table.find(model_name);
  std::vector<std::string> result;
  for (int tp : model.tp) {
    const FieldMap fields = split_fields(model, model.find_operator("gdn.step"), tp);
    result.push_back(fmt::format("{}/{}", *find_field(fields, "H"), *find_field(fields, "HV")));
  }
  return result;
}

std::string field(std::string_view model, std::string_view name) {
  const ModelTable table = ModelTable::built_in();
  return std::string(find_field(table.find(model).find_operator("gdn.step").fields, name).value_or(""));
}

std::string error_of_adding(std::string_view text) {
  ModelTable table = ModelTable::built_in();
  return message_of([&] { table.add(text, "mine.json"); });
}

using Heads = std::vector<std::string>;

}  // namespace

TEST_CASE("the built-in models have the published heads and splits") {
  for (const char* name : {"qwen3-next-80b", "qwen3.5-4b", "qwen3.5-9b", "qwen3.5-35b"}) {
    CHECK(heads(name) == Heads{"16/32", "8/16", "4/8", "2/4"});
  }
  for (const char* name : {"qwen3.5-0.8b", "qwen3.5-2b"}) CHECK(heads(name) == Heads{"16/16", "8/8", "4/4"});
  CHECK(heads("qwen3.5-27b") == Heads{"16/48", "8/24", "4/12", "2/6", "1/3"});
  for (const char* name : {"qwen3.5-122b", "qwen3.5-397b"}) {
    CHECK(heads(name) == Heads{"16/64", "8/32", "4/16", "2/8", "1/4"});
  }
  CHECK(heads("ratio-8") == Heads{"16/128", "4/32", "1/8"});
  CHECK(heads("olmo-hybrid-7b") == Heads{"30/30", "15/15", "10/10", "5/5"});
  CHECK(heads("fla-default") == Heads{"6/6"});
  CHECK(heads("kimi-linear-48b") == Heads{"32/32", "16/16", "8/8", "4/4"});
  CHECK(heads("kimi-k3") == Heads{"96/96", "48/48", "24/24", "12/12"});
}

TEST_CASE("models with their own dimensions and gates say so") {
  CHECK(field("olmo-hybrid-7b", "K") == "96");
  CHECK(field("olmo-hybrid-7b", "V") == "192");
  CHECK(field("olmo-hybrid-7b", "beta") == "two_sigmoid");
  CHECK(field("fla-default", "K") == "256");
  CHECK(field("fla-default", "V") == "512");
  CHECK(field("kimi-linear-48b", "gate") == "channel_raw");
  CHECK(field("kimi-k3", "gate") == "channel_sigmoid");
  CHECK(field("kimi-k3", "gate_lower_bound") == "-5");
}

// "I", or "I/shared_size", for each split in use.
std::vector<std::string> expert_sizes(std::string_view model_name) {
  const ModelTable table = ModelTable::built_in();
  const Model& model = table.find(model_name);
  std::vector<std::string> result;
  for (int tp : {1, 2, 4, 8}) {
    const FieldMap fields = split_fields(model, model.find_operator("moe.forward"), tp);
    const auto shared = find_field(fields, "shared_size");
    result.push_back(std::string(*find_field(fields, "I")) + (shared ? "/" + std::string(*shared) : ""));
  }
  return result;
}

TEST_CASE("the built-in models have the published experts and splits") {
  using Sizes = std::vector<std::string>;
  for (const char* name : {"qwen3-next-80b", "qwen3.5-35b-a3b", "qwen3.6-35b-a3b"}) {
    CHECK(expert_sizes(name) == Sizes{"512/512", "256/256", "128/128", "64/64"});
  }
  for (const char* name : {"qwen3.5-122b", "qwen3.5-397b"}) {
    CHECK(expert_sizes(name) == Sizes{"1024/1024", "512/512", "256/256", "128/128"});
  }
  CHECK(expert_sizes("qwen3-30b-a3b") == Sizes{"768", "384", "192", "96"});
  CHECK(expert_sizes("mixtral-8x7b") == Sizes{"14336", "7168", "3584", "1792"});
  for (const char* name : {"deepseek-v3", "kimi-k2"}) {
    CHECK(expert_sizes(name) == Sizes{"2048/2048", "1024/1024", "512/512", "256/256"});
  }
  for (const char* name : {"gpt-oss-20b", "gpt-oss-120b"}) {
    CHECK(expert_sizes(name) == Sizes{"2880", "1440", "720", "360"});
  }
  CHECK(expert_sizes("glm-4.5-air") == Sizes{"1408/1408", "704/704", "352/352", "176/176"});
  CHECK(expert_sizes("gemma4-26b") == Sizes{"704", "352", "176", "88"});
}

TEST_CASE("a model's MoE operators agree with each other and are problems of the library") {
  const ModelTable table = ModelTable::built_in();
  std::size_t models = 0;
  for (const Model& model : table.models()) {
    const auto has_experts = [](const ModelOperator& op) { return op.name == "moe.forward"; };
    if (std::none_of(model.operators.begin(), model.operators.end(), has_experts)) continue;
    ++models;
    INFO(model.name);
    const ModelOperator& forward = model.find_operator("moe.forward");
    CHECK_FALSE(forward.weights.empty());
    for (const char* name : {"moe.route", "moe.up", "moe.down", "moe.forward"}) {
      const ModelOperator& part = model.find_operator(name);
      for (const auto& [field, value] : part.fields) CHECK(find_field(forward.fields, field) == value);
      for (int tp : model.tp) {
        const FieldMap fields = split_fields(model, part, tp);
        CHECK_NOTHROW(find_operator(name).complete(fields));
      }
      if (part.name != "moe.route") CHECK(part.weights == forward.weights);
    }
  }
  CHECK(models == 12);
}

TEST_CASE("a format of weights is a name, with a group where there is a choice") {
  CHECK(fields_text(weight_fields("bf16")) == "weights=bf16");
  CHECK(fields_text(weight_fields("int4:128")) == "weights=int4 group_size=128");
  CHECK(fields_text(weight_fields("int8:0")) == "weights=int8 group_size=0");
  CHECK(contains(message_of([] { weight_fields("mxfp4:32"); }), "only int4 and int8 have groups to choose"));
  CHECK(contains(message_of([] { weight_fields("int4:row"); }), "the group must be a whole number"));
  CHECK(contains(message_of([] { weight_fields(":32"); }), "expected FORMAT or FORMAT:GROUP"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x", "operators": {"o": {"weights": ["int4:"]}}}]})"),
                 "the group must be a whole number"));
}

TEST_CASE("names and aliases of models are unique") {
  const ModelTable table = ModelTable::built_in();
  std::set<std::string> names;
  for (const Model& model : table.models()) {
    CHECK(names.insert(model.name).second);
    for (const std::string& alias : model.aliases) CHECK(names.insert(alias).second);
  }
}

TEST_CASE("operators that share an entry have its fields each") {
  ModelTable table;
  table.add(R"({"models": [{"name": "a", "operators": {"gdn.x gdn.y": {"fields": {"H": 4}, "divided_by_tp": ["H"]},)"
            R"( "gdn.y": {"fields": {"T": 7}}}}]})",
            "mine.json");
  CHECK(fields_text(table.find("a").find_operator("gdn.x").fields) == "H=4");
  CHECK(fields_text(table.find("a").find_operator("gdn.y").fields) == "H=4 T=7");
  CHECK(contains(error_of_adding(R"({"models": [{"name": "a", "operators": {"gdn.x  gdn.y": {}}}]})"),
                 "separated by single blanks"));
}

TEST_CASE("a model is found by name or alias whatever the case, and a typing error gets the nearest name") {
  const ModelTable table = ModelTable::built_in();
  CHECK(table.find("Qwen3-Next-80B-A3B").name == "qwen3-next-80b");
  const std::string message = message_of([&] { table.find("qwen3-nxt-80b"); });
  CHECK(contains(message, "unknown model 'qwen3-nxt-80b' (did you mean 'qwen3-next-80b'?)"));
  CHECK(contains(message, "gdn-tune models"));
}

TEST_CASE("a split that does not divide the heads names field, value and rule") {
  const ModelTable table = ModelTable::built_in();
  const Model& model = table.find("olmo-hybrid-7b");
  const std::string message = message_of([&] { split_fields(model, model.find_operator("gdn.step"), 4); });
  CHECK(message == "model olmo-hybrid-7b with tp=4: H=30 must be divisible by tp; splits in use: 1, 2, 3, 6");
  CHECK(contains(message_of([&] { split_fields(model, model.find_operator("gdn.step"), 0); }), "tp=0"));
  // Whole splits that nobody uses are allowed.
  CHECK(find_field(split_fields(model, model.find_operator("gdn.step"), 30), "H") == "1");
}

TEST_CASE("a user's file adds models, replaces them, and builds on them") {
  ModelTable table = ModelTable::built_in();
  const std::size_t before = table.models().size();
  table.add(R"({"models": [
    // comments are welcome
    {"name": "Mine", "base": "qwen3.5-27b", "tp": [1, 2], "operators": {"gdn.step": {"fields": {"V": 64}}}},
    {"name": "kimi-k3", "operators": {"gdn.step": {"fields": {"H": 2, "HV": 2, "exact_batch": true}}}}]})",
            "mine.json");
  CHECK(table.models().size() == before + 1);
  const ModelOperator& mine = table.find("mine").find_operator("gdn.step");
  CHECK(find_field(mine.fields, "V") == "64");
  CHECK(find_field(mine.fields, "HV") == "48");
  CHECK(table.find("mine").tp == std::vector<int>{1, 2});
  CHECK(table.find("kimi-k3").tp == std::vector<int>{1});
  CHECK(find_field(table.find("kimi-k3").find_operator("gdn.step").fields, "exact_batch") == "true");
  CHECK_FALSE(find_field(table.find("kimi-k3").find_operator("gdn.step").fields, "gate").has_value());
}

TEST_CASE("a wrong models file is refused with the place of the error") {
  CHECK(contains(error_of_adding("{"), "mine.json: not JSON"));
  CHECK(contains(error_of_adding("[]"), "mine.json: expected an object"));
  CHECK(contains(error_of_adding("{}"), "no \"models\""));
  CHECK(contains(error_of_adding(R"({"models": [3]})"), "model number 1: expected an object"));
  CHECK(contains(error_of_adding(R"({"models": [{"title": "x"}]})"), "model number 1: a model needs a name"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x"}]})"), "model x: no operators"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x", "operator": {}}]})"),
                 "unknown member 'operator' (did you mean 'operators'?)"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x", "base": "y"}]})"), "base 'y' is not a model above it"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x", "tp": [0], "operators": {"o": {}}}]})"),
                 "model x, tp: expected whole numbers from 1 on"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x", "operators": {"o": {"fields": {"H": [1]}}}}]})"),
                 "H must be a number"));
  CHECK(contains(error_of_adding(R"({"models": [{"name": "x", "operators": {"o": {"divided_by_tp": ["H"]}}}]})"),
                 "divided_by_tp names H"));
  CHECK(contains(
      error_of_adding(
          R"({"models": [{"name": "x", "tp": [3], "operators": {"o": {"fields": {"H": 4}, "divided_by_tp": ["H"]}}}]})"),
      "H=4 must be divisible by tp"));
}

TEST_CASE("a refused models file leaves the table as it was, and a missing one is an io error") {
  ModelTable table = ModelTable::built_in();
  const std::size_t before = table.models().size();
  message_of([&] { table.add(R"({"models": [{"name": "a", "operators": {"o": {}}}, {"name": "b"}]})", "mine.json"); });
  CHECK(table.models().size() == before);
  CHECK(code_of([&] { table.add_file("/nowhere/models.json"); }) == ErrorCode::io);
  CHECK(code_of([&] { table.add_file(std::filesystem::temp_directory_path()); }) != ErrorCode::ok);
}

}  // namespace gdnjit::tool

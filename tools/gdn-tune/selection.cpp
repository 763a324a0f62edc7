#include "tools/gdn-tune/selection.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit::tool {
namespace {

// More than anybody tunes; a cross product beyond this is a typing error.
constexpr std::size_t kMostProblems = 100'000;

struct Choice {
  std::string field;
  std::vector<std::string> values;
};

// Before the cross product: fields of one device, still incomplete.
struct Base {
  const Operator* op = nullptr;
  FieldMap fields;
  std::string origin;
  std::vector<std::string> named;  // fields worth showing whatever their values
};

void add_unique(std::vector<std::string>& list, const std::string& item) {
  if (std::find(list.begin(), list.end(), item) == list.end()) list.push_back(item);
}

const Operator* find(std::span<const Operator* const> operators, std::string_view name) {
  const auto found =
      std::find_if(operators.begin(), operators.end(), [&](const Operator* op) { return op->name() == name; });
  return found == operators.end() ? nullptr : *found;
}

const Operator& require_operator(std::span<const Operator* const> operators, std::string_view name) {
  if (const Operator* op = find(operators, name)) return *op;
  std::vector<std::string> known;
  for (const Operator* op : operators) known.emplace_back(op->name());
  fail(ErrorCode::invalid_argument, "unknown operator '{}'{}", name, suggestion(name, known));
}

// --set and --batch as lists of values per field; a field named twice gets the values of both.
std::vector<Choice> choices_of(const SelectionArguments& arguments, const Operator& op) {
  std::vector<Choice> choices;
  const auto add = [&](const std::string& field, const std::vector<std::string>& values, const std::string& text) {
    auto found = std::find_if(choices.begin(), choices.end(), [&](const Choice& c) { return c.field == field; });
    if (found == choices.end()) {
      choices.push_back({field, {}});
      found = std::prev(choices.end());
    }
    for (const std::string& value : values) {
      require(!value.empty(), "{}: an empty value", text);
      add_unique(found->values, value);
    }
  };
  for (const std::string& set : arguments.sets) {
    const std::size_t equals = set.find('=');
    require(equals != std::string::npos && equals > 0, "--set {}: expected name=value or name=value,value", set);
    add(set.substr(0, equals), split(std::string_view(set).substr(equals + 1), ','), "--set " + set);
  }
  if (!arguments.batches.empty()) add(std::string(batch_field(op.complete({}))), arguments.batches, "--batch");
  return choices;
}

std::vector<int> splits_of(const Model& model, const SelectionArguments& arguments) {
  if (arguments.tp.empty()) return {1};
  std::vector<int> splits;
  for (const std::string& text : arguments.tp) {
    if (text == "all") {
      splits.insert(splits.end(), model.tp.begin(), model.tp.end());
      continue;
    }
    int tp = 0;
    require(detail::parse_value(text, tp) && tp >= 1, "--tp {}: expected whole numbers from 1 on, or 'all'", text);
    splits.push_back(tp);
  }
  return splits;
}

bool is_pattern(std::string_view name) { return name.ends_with('*'); }
bool matches(std::string_view pattern, std::string_view name) {
  return is_pattern(pattern) ? name.starts_with(pattern.substr(0, pattern.size() - 1)) : name == pattern;
}

// The operators of this build that the names of --op stand for.
std::vector<const Operator*> operators_of(const std::vector<std::string>& names,
                                          std::span<const Operator* const> operators) {
  std::vector<const Operator*> result;
  for (const std::string& name : names) {
    const std::size_t before = result.size();
    std::copy_if(operators.begin(), operators.end(), std::back_inserter(result),
                 [&](const Operator* op) { return matches(name, op->name()); });
    if (result.size() == before) require_operator(operators, name);
  }
  return result;
}

// One of every model's operators as `name` says. With --all-models a model may lack them.
void add_operators(const Model& model, const std::string& name, bool may_lack,
                   std::vector<const ModelOperator*>& wanted) {
  const std::size_t before = wanted.size();
  for (const ModelOperator& op : model.operators) {
    if (matches(name, op.name)) wanted.push_back(&op);
  }
  if (wanted.size() == before && !may_lack) model.find_operator(name);
}

std::string main_layer_of(const Model& model) { return fmt::format("{}.*", family_of(model.operators.front().name)); }

std::vector<const ModelOperator*> operators_of(const Model& model, const SelectionArguments& arguments,
                                               std::span<const Operator* const> operators) {
  std::vector<const ModelOperator*> wanted;
  operators_of(arguments.operators, operators);  // typing errors
  for (const std::string& name : arguments.operators) add_operators(model, name, arguments.all_models, wanted);
  if (arguments.operators.empty()) add_operators(model, main_layer_of(model), false, wanted);
  return wanted;
}

// Fields to lay over a problem, one map for each format of weights; a single empty one if nothing is to be laid over.
std::vector<FieldMap> formats_of(const SelectionArguments& arguments, const Operator& op,
                                 const std::vector<std::string>& of_model) {
  if (!find_field(op.complete({}), "weights")) return {{}};
  std::vector<FieldMap> formats;
  for (const std::string& text : arguments.weights) {
    require(text != "all" || !of_model.empty(), "--weights all: means a model's formats: name one with --model");
    for (const std::string& format : text == "all" ? of_model : std::vector<std::string>{text}) {
      formats.push_back(weight_fields(format));
    }
  }
  if (formats.empty()) formats.push_back(of_model.empty() ? FieldMap{} : weight_fields(of_model.front()));
  return formats;
}

// `base` with each of its formats.
void add_formats(const SelectionArguments& arguments, Base base, const std::vector<std::string>& of_model,
                 std::vector<Base>& bases) {
  for (const FieldMap& format : formats_of(arguments, *base.op, of_model)) {
    Base& added = bases.emplace_back(base);
    for (const auto& [name, value] : format) {
      set_field(added.fields, name, value);
      add_unique(added.named, name);
    }
  }
}

// The fields of one device. A split may also break a rule of the operator, as "I must be a multiple of 8".
FieldMap fields_of(const Model& model, const ModelOperator& model_op, int tp, const Operator& op) {
  FieldMap fields = split_fields(model, model_op, tp);
  if (tp == 1) return fields;
  try {
    op.complete(fields);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("model {} with tp={}: {}; splits in use: {}", model.name, tp, error.what(),
                                          fmt::join(model.tp, ", ")));
  }
  return fields;
}

void add_model(const Model& model, const SelectionArguments& arguments, std::span<const Operator* const> operators,
               std::vector<Base>& bases, std::vector<std::string>& notes) {
  const std::vector<const ModelOperator*> wanted = operators_of(model, arguments, operators);
  for (int tp : splits_of(model, arguments)) {
    for (const ModelOperator* model_op : wanted) {
      const Operator* op = find(operators, model_op->name);
      if (op == nullptr) {
        notes.push_back(
            fmt::format("model {}: left out {}, which this build does not have", model.name, model_op->name));
        continue;
      }
      try {
        add_formats(arguments,
                    {op, fields_of(model, *model_op, tp, *op), fmt::format("{} tp={}", model.name, tp),
                     model_op->divided_by_tp},
                    model_op->weights, bases);
      } catch (const Error& error) {
        // One split for every model cannot fit them all; for a model asked for by name it is the user's error.
        if (!arguments.all_models) throw;
        notes.push_back(fmt::format("left out: {}", error.what()));
      }
    }
  }
}

// "gdn.step H=16 HV=32" or "H=16 HV=32" with the only operator there is, or the one of --op.
void add_problem(const std::string& text, const SelectionArguments& arguments,
                 std::span<const Operator* const> operators, std::vector<Base>& bases) {
  const std::size_t begin = text.find_first_not_of(' ');
  std::string fields_part = begin == std::string::npos ? "" : text.substr(begin);
  const std::string first = split(fields_part, ' ').front();
  const std::string origin = fmt::format("--problem \"{}\"", text);
  std::vector<const Operator*> meant = operators_of(arguments.operators, operators);
  if (!first.empty() && first.find('=') == std::string::npos) {
    meant = {&require_operator(operators, first)};
    fields_part = fields_part.substr(first.size());
  }
  if (meant.empty() && operators.size() == 1) meant.push_back(operators.front());
  require(!meant.empty(), "{}: name the operator with --op", origin);
  const FieldMap fields = parse_fields(fields_part);
  std::vector<std::string> named;
  for (const auto& [name, value] : fields) named.push_back(name);
  for (const Operator* op : meant) add_formats(arguments, {op, fields, origin, named}, {}, bases);
}

// One JSON object a line with "operator" and "problem", as policy `strict` writes them.
void add_misses(const std::filesystem::path& file, std::span<const Operator* const> operators,
                std::vector<Base>& bases) {
  std::ifstream stream(file);
  if (!stream.is_open()) fail(ErrorCode::io, "reading misses from {}: cannot be read", file.string());
  std::string line;
  for (int number = 1; std::getline(stream, line); ++number) {
    if (line.empty()) continue;
    const std::string origin = fmt::format("{}:{}", file.string(), number);
    const auto miss = nlohmann::json::parse(line, nullptr, false);
    const auto text_of = [&](const char* member) -> std::string {
      require(miss.is_object() && miss.contains(member) && miss[member].is_string(),
              "{}: expected a JSON object with the texts \"operator\" and \"problem\"", origin);
      return miss[member].get<std::string>();
    };
    bases.push_back({&require_operator(operators, text_of("operator")), parse_fields(text_of("problem")), origin, {}});
  }
  if (stream.bad()) fail(ErrorCode::io, "reading misses from {}: cannot be read", file.string());
}

// Calls `use` with every combination, the last choice changing fastest.
template <typename Use>
void each_combination(const FieldMap& fields, std::span<const Choice> choices, const Use& use) {
  if (choices.empty()) {
    use(fields);
    return;
  }
  for (const std::string& value : choices.front().values) {
    FieldMap chosen = fields;
    set_field(chosen, choices.front().field, value);
    each_combination(chosen, choices.subspan(1), use);
  }
}

FieldMap complete(const Base& base, const FieldMap& fields) {
  try {
    return base.op->complete(fields);
  } catch (const Error& error) {
    if (base.origin.empty()) throw;
    throw Error(error.code(), fmt::format("{}: {}", base.origin, error.what()));
  }
}

std::vector<Base> bases_of(const SelectionArguments& arguments, std::span<const Operator* const> operators,
                           std::vector<std::string>& notes) {
  std::vector<Base> bases;
  require(!arguments.all_models || arguments.models.empty(), "--all-models and --model exclude each other");
  require(arguments.tp.empty() || arguments.all_models || !arguments.models.empty(),
          "--tp splits a model: name one with --model");
  if (arguments.all_models || !arguments.models.empty()) {
    ModelTable table = ModelTable::built_in();
    if (!arguments.models_file.empty()) table.add_file(arguments.models_file);
    if (arguments.all_models) {
      SelectionArguments of_all = arguments;
      if (of_all.operators.empty()) of_all.operators.push_back(main_layer_of(table.models().front()));
      for (const Model& model : table.models()) add_model(model, of_all, operators, bases, notes);
    }
    for (const std::string& name : arguments.models) add_model(table.find(name), arguments, operators, bases, notes);
  }
  for (const std::string& text : arguments.problems) add_problem(text, arguments, operators, bases);
  if (!arguments.misses.empty()) add_misses(arguments.misses, operators, bases);
  const bool from_elsewhere =
      arguments.all_models || !arguments.models.empty() || !arguments.problems.empty() || !arguments.misses.empty();
  if (!from_elsewhere) {
    for (const Operator* op : operators_of(arguments.operators, operators)) {
      add_formats(arguments, {op, {}, "", {}}, {}, bases);
    }
  }
  require(!bases.empty() || from_elsewhere,
          "no problem given: use --model NAME ('gdn-tune models' lists them), --problem \"H=16 HV=32\" or "
          "--from-misses FILE");
  const bool any_weights = std::any_of(bases.begin(), bases.end(),
                                       [](const Base& base) { return find_field(base.op->complete({}), "weights"); });
  require(arguments.weights.empty() || bases.empty() || any_weights,
          "--weights {}: none of the operators has expert weights", fmt::join(arguments.weights, ","));
  return bases;
}

}  // namespace

void SelectionArguments::declare(Arguments& arguments) {
  arguments.group("Problems");
  arguments.list("model", models, "NAME,..", "Problems of these models ('gdn-tune models')");
  arguments.flag("all-models", all_models, "Problems of every model");
  arguments.list("tp", tp, "N,..|all", "Tensor-parallel splits (default 1)");
  arguments.list("weights", weights, "FORMAT[:GROUP],..|all", "Of expert weights (default: the model's first)");
  arguments.list("op", operators, "NAME,..", "Operators, or \"moe.*\" (default: all of the model's main layer)");
  arguments.list("batch", batches, "N,..", "Batch sizes, short for --set B=N,.. (of moe operators M)");
  arguments.repeated("set", sets, "FIELD=VALUE,..", "Lay values over a field; lists make the cross product");
  arguments.repeated("problem", problems, "\"FIELD=VALUE ..\"", "A problem field by field; the rest is default");
  arguments.option("from-misses", misses, "FILE", "Problems that policy 'strict' found missing");
  arguments.option("models", models_file, "FILE", "More models, in the form of models.json");
}

Selection select_problems(const SelectionArguments& arguments, std::span<const Operator* const> operators) {
  Selection selection;
  const std::vector<Base> bases = bases_of(arguments, operators, selection.notes);
  std::vector<std::vector<Choice>> choices;  // of each base
  std::size_t sum = 0;
  for (const Base& base : bases) {
    choices.push_back(choices_of(arguments, *base.op));
    std::size_t product = 1;
    for (const Choice& choice : choices.back()) {
      product *= choice.values.size();
      require(sum + product <= kMostProblems, "more than {} problems: give fewer values to --set {}", kMostProblems,
              choice.field);
    }
    sum += product;
  }
  std::map<std::string, std::size_t> seen;
  for (std::size_t i = 0; i < bases.size(); ++i) {
    const Base& base = bases[i];
    for (const std::string& name : base.named) add_unique(selection.named_fields, name);
    each_combination(base.fields, choices[i], [&](const FieldMap& fields) {
      FieldMap problem = complete(base, fields);
      const auto [place, fresh] =
          seen.emplace(fmt::format("{} {}", base.op->name(), fields_text(problem)), selection.problems.size());
      if (fresh) selection.problems.push_back({base.op, std::move(problem), {}});
      if (!base.origin.empty()) add_unique(selection.problems[place->second].origins, base.origin);
    });
  }
  for (const std::vector<Choice>& list : choices) {
    for (const Choice& choice : list) add_unique(selection.named_fields, choice.field);
  }
  return selection;
}

std::vector<std::string> fields_worth_showing(const Selection& selection) {
  std::vector<std::string> shown;
  std::map<const Operator*, FieldMap> defaults;
  for (const SelectedProblem& selected : selection.problems) {
    FieldMap& usual = defaults.try_emplace(selected.op).first->second;
    if (usual.empty()) usual = selected.op->complete({});
    for (const auto& [name, value] : selected.problem) {
      if (find_field(usual, name) != value) add_unique(shown, name);
    }
  }
  for (const std::string& name : selection.named_fields) add_unique(shown, name);
  return shown;
}

std::string short_problem(const FieldMap& problem, std::span<const std::string> shown) {
  FieldMap fields;
  for (const auto& [name, value] : problem) {
    if (std::find(shown.begin(), shown.end(), name) != shown.end()) fields.emplace_back(name, value);
  }
  return fields.empty() ? "(all defaults)" : fields_text(fields);
}

}  // namespace gdnjit::tool

#include "tools/gdn-tune/models.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "runtime/support/check.h"
#include "runtime/support/text.h"
#include "tools/gdn-tune/embedded_models.h"

namespace gdnjit::tool {
namespace {

using Json = nlohmann::ordered_json;

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return std::tolower(c); });
  return result;
}

// A JSON value with the path that led to it, so that every message can say where it is.
class Node {
 public:
  Node(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {}

  const Json& json() const { return *json_; }
  const std::string& where() const { return where_; }

  // Throws for a member that the form does not have: a typing error must not pass as a default.
  void only(const std::vector<std::string>& known) const {
    require(json_->is_object(), "{}: expected an object", where_);
    for (const auto& [name, value] : json_->items()) {
      require(std::find(known.begin(), known.end(), name) != known.end(), "{}: unknown member '{}'{}", where_, name,
              suggestion(name, known));
    }
  }

  bool has(const char* name) const { return json_->contains(name); }
  Node at(const char* name) const { return Node(json_->at(name), fmt::format("{}, {}", where_, name)); }

  std::string text() const {
    require(json_->is_string() && !json_->get_ref<const std::string&>().empty(), "{}: expected a text", where_);
    return json_->get<std::string>();
  }

  std::vector<std::string> texts() const {
    std::vector<std::string> result;
    for (const Json& item : array()) result.push_back(Node(item, where_).text());
    return result;
  }

  std::vector<int> positive_numbers() const {
    std::vector<int> result;
    for (const Json& item : array()) {
      require(item.is_number_integer() && item.get<std::int64_t>() >= 1 && item.get<std::int64_t>() <= 1 << 20,
              "{}: expected whole numbers from 1 on", where_);
      result.push_back(item.get<int>());
    }
    return result;
  }

  FieldMap fields() const {
    require(json_->is_object(), "{}: expected an object of fields", where_);
    FieldMap result;
    for (const auto& [name, value] : json_->items()) {
      require(value.is_primitive() && !value.is_null(), "{}: {} must be a number, a text or a boolean", where_, name);
      result.emplace_back(name, value.is_string() ? value.get<std::string>() : value.dump());
    }
    return result;
  }

  const Json& array() const {
    require(json_->is_array(), "{}: expected a list", where_);
    return *json_;
  }

 private:
  const Json* json_;
  std::string where_;
};

void read_operator(const Node& node, Model& model, const std::string& name) {
  node.only({"fields", "divided_by_tp", "weights"});
  auto found = std::find_if(model.operators.begin(), model.operators.end(),
                            [&](const ModelOperator& op) { return op.name == name; });
  if (found == model.operators.end()) {
    model.operators.push_back({name, {}, {}, {}});
    found = std::prev(model.operators.end());
  }
  if (node.has("fields")) {
    for (auto& [field, value] : node.at("fields").fields()) set_field(found->fields, field, value);
  }
  if (node.has("divided_by_tp")) found->divided_by_tp = node.at("divided_by_tp").texts();
  if (node.has("weights")) found->weights = node.at("weights").texts();
  for (const std::string& format : found->weights) weight_fields(format);
  for (const std::string& field : found->divided_by_tp) {
    const auto value = find_field(found->fields, field);
    require(value.has_value(), "{}: divided_by_tp names {}, which is not among the fields", node.where(), field);
    std::int64_t whole = 0;
    parse_field(field, *value, whole);
  }
}

Model read_model(const Node& node, const std::vector<Model>& known) {
  node.only({"name", "title", "aliases", "base", "tp", "operators"});
  require(node.has("name"), "{}: a model needs a name", node.where());
  Model model;
  const std::string name = lower(node.at("name").text());
  if (node.has("base")) {
    const std::string base = lower(node.at("base").text());
    const auto found = std::find_if(known.begin(), known.end(), [&](const Model& m) { return m.name == base; });
    require(found != known.end(), "{}: base '{}' is not a model above it", node.where(), base);
    model = *found;
    model.aliases.clear();
  } else {
    model.tp = {1};
  }
  model.name = name;
  model.title = node.has("title") ? node.at("title").text() : name;
  if (node.has("aliases")) {
    for (const std::string& alias : node.at("aliases").texts()) model.aliases.push_back(lower(alias));
  }
  if (node.has("tp")) model.tp = node.at("tp").positive_numbers();
  if (node.has("operators")) {
    const Node operators = node.at("operators");
    require(operators.json().is_object(), "{}: expected an object", operators.where());
    for (const auto& [op, value] : operators.json().items()) {
      const Node entry(value, fmt::format("{}, {}", operators.where(), op));
      for (const std::string& operator_name : split(op, ' ')) {
        require(!operator_name.empty(), "{}: expected names of operators, separated by single blanks", entry.where());
        read_operator(entry, model, operator_name);
      }
    }
  }
  require(!model.operators.empty(), "{}: no operators", node.where());
  for (int tp : model.tp) {
    for (const ModelOperator& op : model.operators) split_fields(model, op, tp);
  }
  return model;
}

}  // namespace

const ModelOperator& Model::find_operator(std::string_view wanted) const {
  std::vector<std::string> known;
  for (const ModelOperator& op : operators) {
    if (op.name == wanted) return op;
    known.push_back(op.name);
  }
  fail(ErrorCode::invalid_argument, "model {} has no operator '{}'{}", name, wanted, suggestion(wanted, known));
}

ModelTable ModelTable::built_in() {
  ModelTable table;
  table.add(kModelsJson, "models.json");
  return table;
}

void ModelTable::add(std::string_view text, std::string_view origin) {
  Json root;
  try {
    root = Json::parse(text, nullptr, true, true);
  } catch (const Json::parse_error& error) {
    fail(ErrorCode::invalid_argument, "{}: not JSON: {}", origin, error.what());
  }
  const Node top(root, std::string(origin));
  top.only({"models"});
  require(top.has("models"), "{}: no \"models\"", origin);
  std::vector<Model> models = models_;
  std::size_t index = 0;
  for (const Json& item : top.at("models").array()) {
    ++index;
    const bool named = item.is_object() && item.contains("name") && item["name"].is_string();
    const std::string where = named ? fmt::format("{}: model {}", origin, item["name"].get<std::string>())
                                    : fmt::format("{}: model number {}", origin, index);
    Model model = read_model(Node(item, where), models);
    const auto same = std::find_if(models.begin(), models.end(), [&](const Model& m) { return m.name == model.name; });
    if (same == models.end()) {
      models.push_back(std::move(model));
    } else {
      *same = std::move(model);
    }
  }
  models_ = std::move(models);
}

void ModelTable::add_file(const std::filesystem::path& file) {
  std::ostringstream text;
  std::ifstream stream(file, std::ios::binary);
  text << stream.rdbuf();  // fails, without throwing, for a folder
  if (!stream.is_open() || stream.bad() || text.fail()) {
    fail(ErrorCode::io, "reading models from {}: cannot be read", file.string());
  }
  add(text.str(), file.string());
}

const Model& ModelTable::find(std::string_view name) const {
  const std::string wanted = lower(name);
  std::vector<std::string> known;
  for (const Model& model : models_) {
    if (model.name == wanted) return model;
    known.push_back(model.name);
  }
  for (const Model& model : models_) {
    for (const std::string& alias : model.aliases) {
      if (alias == wanted) return model;
      known.push_back(alias);
    }
  }
  fail(ErrorCode::invalid_argument, "unknown model '{}'{}; 'gdn-tune models' lists them", name,
       suggestion(wanted, known));
}

FieldMap split_fields(const Model& model, const ModelOperator& op, int tp) {
  FieldMap fields = op.fields;
  for (const std::string& name : op.divided_by_tp) {
    std::int64_t whole = 0;
    parse_field(name, find_field(fields, name).value_or(""), whole);
    require(tp >= 1 && whole % tp == 0, "model {} with tp={}: {}={} must be divisible by tp; splits in use: {}",
            model.name, tp, name, whole, fmt::join(model.tp, ", "));
    set_field(fields, name, fmt::format("{}", whole / tp));
  }
  return fields;
}

FieldMap weight_fields(std::string_view format) {
  const std::size_t colon = format.find(':');
  const std::string name(format.substr(0, colon));
  require(!name.empty(), "weights '{}': expected FORMAT or FORMAT:GROUP", format);
  FieldMap fields{{"weights", name}};
  if (colon == std::string_view::npos) return fields;
  require(name == "int4" || name == "int8", "weights '{}': only int4 and int8 have groups to choose", format);
  int group = 0;
  require(detail::parse_value(std::string(format.substr(colon + 1)), group) && group >= 0,
          "weights '{}': the group must be a whole number, 0 for whole rows", format);
  fields.emplace_back("group_size", fmt::format("{}", group));
  return fields;
}

std::string_view family_of(std::string_view operator_name) { return operator_name.substr(0, operator_name.find('.')); }

}  // namespace gdnjit::tool

// gdn-tune models: the table of models.
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/models.h"

#include <fmt/format.h>

namespace gdnjit::tool {
namespace {

class ModelsCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.group("Models");
    arguments.option("models", file_, "FILE", "More models, in the form of models.json");
    arguments.list("model", names_, "NAME,..", "Only these models");
  }

  Result run(Console& console) override {
    ModelTable models = ModelTable::built_in();
    if (!file_.empty()) models.add_file(file_);
    std::vector<Model> shown = models.models();
    if (!names_.empty()) {
      shown.clear();
      for (const std::string& name : names_) shown.push_back(models.find(name));
    }
    Table table({{"model"},
                 {"title", Table::Align::left, true},
                 {"operator"},
                 {"fields", Table::Align::left, true},
                 {"weights", Table::Align::left, true},
                 {"tp"}});
    Result result;
    result.report["models"] = Json::array();
    for (const Model& model : shown) {
      for (const ModelOperator& op : model.operators) {
        table.add_row({{model.name, Style::strong},
                       model.title,
                       op.name,
                       fields_text(op.fields),
                       fmt::format("{}", fmt::join(op.weights, " ")),
                       fmt::format("{}", fmt::join(model.tp, " "))});
      }
      result.report["models"].push_back(json_of(model));
    }
    console.print(table);
    return result;
  }

 private:
  // In the form that --models reads.
  static Json json_of(const Model& model) {
    Json operators = Json::object();
    for (const ModelOperator& op : model.operators) {
      Json fields = Json::object();
      for (const auto& [name, value] : op.fields) fields[name] = value;
      operators[op.name] = {{"fields", fields}, {"divided_by_tp", op.divided_by_tp}};
      if (!op.weights.empty()) operators[op.name]["weights"] = op.weights;
    }
    return {{"name", model.name},
            {"title", model.title},
            {"aliases", model.aliases},
            {"tp", model.tp},
            {"operators", operators}};
  }

  std::filesystem::path file_;
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Command> make_models_command() { return std::make_unique<ModelsCommand>(); }

}  // namespace gdnjit::tool

// Models as data: which problems a model poses to which operators. The table ships in models.json, inside the
// executable; a user's file in the same form adds models and replaces those of equal name.
//
//   {"models": [{
//      "name": "qwen3-next-80b",             what --model takes, in lower case
//      "title": "Qwen3-Next-80B-A3B",        for people; default: the name
//      "aliases": ["..."],                   other names that --model takes
//      "base": "other-model",                what is left out comes from there, and fields are laid over its fields
//      "tp": [1, 2, 4, 8],                   tensor-parallel splits in use (what `--tp all` means); default: [1]
//      "operators": {"gdn.step gdn.chunk": {  several, separated by a blank, may share an entry
//         "fields": {"H": 16, ...},          problem fields; what is left out is the operator's default
//         "divided_by_tp": ["H", "HV"]       fields that each device has a part of
//      }}}]}
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/fields.h"

namespace gdnjit::tool {

struct ModelOperator {
  std::string name;  // "gdn.step"
  FieldMap fields;   // of the whole model
  std::vector<std::string> divided_by_tp;
};

struct Model {
  std::string name;
  std::string title;
  std::vector<std::string> aliases;
  std::vector<int> tp;
  std::vector<ModelOperator> operators;

  // Throws invalid_argument naming the operators the model has.
  const ModelOperator& find_operator(std::string_view name) const;
};

class ModelTable {
 public:
  // The models of models.json as built in.
  static ModelTable built_in();

  // Adds the models of a JSON text; `origin` names it in messages. Throws invalid_argument for text that is not
  // of the form above, and leaves the table as it was.
  void add(std::string_view text, std::string_view origin);
  // Throws io for a file that cannot be read.
  void add_file(const std::filesystem::path& file);

  const std::vector<Model>& models() const { return models_; }
  // By name or alias, whatever the case. Throws invalid_argument with the nearest name.
  const Model& find(std::string_view name) const;

 private:
  std::vector<Model> models_;
};

// The fields of one device when the model is split over `tp`. Throws invalid_argument naming the field that `tp`
// does not divide, the rule, and the splits in use.
FieldMap split_fields(const Model& model, const ModelOperator& op, int tp);

}  // namespace gdnjit::tool

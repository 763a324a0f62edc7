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
//         "divided_by_tp": ["H", "HV"],      fields that each device has a part of
//         "weights": ["bf16", "int4:128"]    formats that the model is handed out in, FORMAT or FORMAT:GROUP: values
//                                            of the fields weights and group_size. The first is meant unless the
//                                            user says otherwise
//      }}}]}
//
// An operator may stand in several entries of a model: each adds its fields. A model with layers of several kinds
// names the operators of its main one first.
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
  std::vector<std::string> weights;  // "bf16", "int4:128"; empty: the operator has no format or its default
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

// "int4:128" as the fields weights=int4 group_size=128; "bf16" as weights=bf16. Throws invalid_argument for a group
// that is not a number, and for one of a format whose groups are fixed.
FieldMap weight_fields(std::string_view format);

// The kind of layer that an operator belongs to: "gdn" of "gdn.step".
std::string_view family_of(std::string_view operator_name);

}  // namespace gdnjit::tool

// Which problems a command is about: from models, from fields, or from a file of misses. Everything about a
// problem's fields comes from its Operator.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "codegen/operator.h"
#include "tools/gdn-tune/arguments.h"
#include "tools/gdn-tune/models.h"

namespace gdnjit::tool {

// The options shared by tune, compile, verify and explain.
struct SelectionArguments {
  std::vector<std::string> models{};     // --model
  bool all_models = false;               // --all-models
  std::vector<std::string> tp{};         // --tp: numbers, or "all"
  std::vector<std::string> weights{};    // --weights: FORMAT, FORMAT:GROUP, or "all"
  std::vector<std::string> operators{};  // --op: names, or "moe.*"
  std::vector<std::string> batches{};    // --batch, short for --set B=, of moe operators M=
  std::vector<std::string> sets{};       // --set name=value,value
  std::vector<std::string> problems{};   // --problem "H=16 HV=32", with the operator's name in front if need be
  std::filesystem::path misses{};        // --from-misses
  std::filesystem::path models_file{};   // --models

  void declare(Arguments& arguments);
};

struct SelectedProblem {
  const Operator* op = nullptr;
  FieldMap problem;                  // complete
  std::vector<std::string> origins;  // "qwen3-next-80b tp=4", "--problem"; several models may pose the same problem
};

struct Selection {
  std::vector<SelectedProblem> problems;  // each once, in the order asked for
  std::vector<std::string> notes;         // what was left out and why
  std::vector<std::string> named_fields;  // fields to show whatever their values: varied, given, or split
};

// The cross product of models x splits x operators x --set x --batch; --problem and --op alone stand in for a model.
// Without --op, a model's problems are those of all operators of its main layer (models.h) that `operators` knows, and
// with --all-models those of the first model's kind of layer. Operators over expert weights get the formats of
// --weights, a model's without it the first that it is handed out in.
// Throws invalid_argument with the origin of the problem that breaks a rule, or if nothing was selected; io for
// files that cannot be read.
Selection select_problems(const SelectionArguments& arguments, std::span<const Operator* const> operators);

// A problem in short: `named` fields and those that differ from the operator's defaults in one of `selection`.
std::vector<std::string> fields_worth_showing(const Selection& selection);
std::string short_problem(const FieldMap& problem, std::span<const std::string> shown);

}  // namespace gdnjit::tool

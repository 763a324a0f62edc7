#include "tools/gdn-tune/arguments.h"

#include <CLI/CLI.hpp>
#include <limits>

namespace gdnjit::tool {
namespace {

// "json,j" -> "--json,-j", as the parser wants it.
std::string dashed(const std::string& names) {
  const std::size_t comma = names.find(',');
  const std::string text = "--" + names.substr(0, comma);
  return comma == std::string::npos ? text : text + ",-" + names.substr(comma + 1);
}

// Without its description, which the parser would add to the value's name in the help.
template <typename Number>
CLI::Validator from(Number least) {
  CLI::Validator range = CLI::Range(least, std::numeric_limits<Number>::max());
  range.description("");
  return range;
}

}  // namespace

void Arguments::place(CLI::Option* option) const { option->group(group_); }

void Arguments::flag(const std::string& name, bool& variable, const std::string& help) {
  place(app_.add_flag(dashed(name), variable, help));
}

void Arguments::option(const std::string& name, std::string& variable, const std::string& value,
                       const std::string& help) {
  place(app_.add_option(dashed(name), variable, help)->type_name(value));
}

void Arguments::option(const std::string& name, std::filesystem::path& variable, const std::string& value,
                       const std::string& help) {
  const auto store = [&variable](const std::string& text) { variable = text; };
  place(app_.add_option_function<std::string>(dashed(name), store, help)->type_name(value));
}

void Arguments::option(const std::string& name, int& variable, int least, const std::string& help) {
  place(app_.add_option(dashed(name), variable, help)->check(from(least))->type_name("N"));
}

void Arguments::option(const std::string& name, std::int64_t& variable, std::int64_t least, const std::string& help) {
  place(app_.add_option(dashed(name), variable, help)->check(from(least))->type_name("N"));
}

void Arguments::option(const std::string& name, double& variable, const std::string& help) {
  place(app_.add_option(dashed(name), variable, help)->type_name("X"));
}

void Arguments::list(const std::string& name, std::vector<std::string>& variable, const std::string& value,
                     const std::string& help) {
  place(app_.add_option(dashed(name), variable, help)->type_name(value)->delimiter(',')->allow_extra_args(false));
}

void Arguments::repeated(const std::string& name, std::vector<std::string>& variable, const std::string& value,
                         const std::string& help) {
  place(app_.add_option(dashed(name), variable, help)->type_name(value)->allow_extra_args(false));
}

void Arguments::positional(const std::string& name, std::vector<std::filesystem::path>& variable, int least, int most,
                           const std::string& help) {
  const auto store = [&variable](const std::vector<std::string>& texts) {
    variable.assign(texts.begin(), texts.end());
  };
  CLI::Option* option = app_.add_option_function<std::vector<std::string>>(name, store, help);
  option->type_name("")->expected(least, most)->required(least > 0);
}

}  // namespace gdnjit::tool

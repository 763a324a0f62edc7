// A command's options, declared without the parser's headers: only command_line.cpp knows CLI11.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace gdnjit::tool {

// Variables bound here must outlive the parsing. Names are given without dashes; a one-letter alias as "json,j".
// `value` names what follows an option in the help: "NAME", "FILE".
class Arguments {
 public:
  explicit Arguments(CLI::App& app) : app_(app) {}

  // Options declared from here on stand under `title` in the help.
  void group(std::string title) { group_ = std::move(title); }

  void flag(const std::string& name, bool& variable, const std::string& help);
  void option(const std::string& name, std::string& variable, const std::string& value, const std::string& help);
  void option(const std::string& name, std::filesystem::path& variable, const std::string& value,
              const std::string& help);
  // Whole numbers from `least` on.
  void option(const std::string& name, int& variable, int least, const std::string& help);
  void option(const std::string& name, std::int64_t& variable, std::int64_t least, const std::string& help);
  void option(const std::string& name, double& variable, const std::string& help);
  // Repeatable; commas separate as well: --tp 1,4 --tp 8.
  void list(const std::string& name, std::vector<std::string>& variable, const std::string& value,
            const std::string& help);
  // Repeatable, each value as it is.
  void repeated(const std::string& name, std::vector<std::string>& variable, const std::string& value,
                const std::string& help);
  void positional(const std::string& name, std::vector<std::filesystem::path>& variable, int least, int most,
                  const std::string& help);

 private:
  void place(CLI::Option* option) const;

  CLI::App& app_;
  std::string group_ = "Options";
};

}  // namespace gdnjit::tool

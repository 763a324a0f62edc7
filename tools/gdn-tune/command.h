// What a subcommand is. Each has one file, `<name>.cpp`, and one line in command_table.cpp.
#pragma once

#include <gdnjit/error.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "tools/gdn-tune/arguments.h"
#include "tools/gdn-tune/console.h"

namespace gdnjit::tool {

using Json = nlohmann::ordered_json;

// How a command ended: the process's exit code and, for --json, the one object on standard output.
struct Result {
  int exit_code = 0;
  Json report = Json::object();
};

class Command {
 public:
  virtual ~Command() = default;
  virtual void declare(Arguments& arguments) = 0;
  // Throws gdnjit::Error, whose code becomes the exit code.
  virtual Result run(Console& console) = 0;
};

enum class CommandGroup : unsigned char { kernels, cache, machine, hidden };

struct CommandEntry {
  std::string_view name;
  CommandGroup group;
  std::string_view summary;   // one line, no full stop
  std::string_view examples;  // of the help; lines, each without indentation
  std::unique_ptr<Command> (*make)();
};

// Every subcommand, in the order of the help.
std::span<const CommandEntry> command_table();

std::unique_ptr<Command> make_tune_command();
std::unique_ptr<Command> make_compile_command();
std::unique_ptr<Command> make_verify_command();
std::unique_ptr<Command> make_replay_command();
std::unique_ptr<Command> make_explain_command();
std::unique_ptr<Command> make_inspect_command();
std::unique_ptr<Command> make_models_command();
std::unique_ptr<Command> make_doctor_command();
std::unique_ptr<Command> make_list_command();
std::unique_ptr<Command> make_stats_command();
std::unique_ptr<Command> make_prune_command();
std::unique_ptr<Command> make_check_command();
std::unique_ptr<Command> make_diff_command();
std::unique_ptr<Command> make_merge_command();
std::unique_ptr<Command> make_export_command();
std::unique_ptr<Command> make_import_command();
std::unique_ptr<Command> make_worker_command();

}  // namespace gdnjit::tool

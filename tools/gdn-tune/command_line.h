// The command line: from words to a command that is ready to run, or to help and errors.
#pragma once

#include <gdnjit/error.h>

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "tools/gdn-tune/command.h"

namespace gdnjit::tool {

struct ParsedCommandLine {
  const CommandEntry* entry = nullptr;  // null: there is only `text` to print
  std::unique_ptr<Command> command;
  bool json = false;
  bool quiet = false;
  bool no_color = false;
  std::string text;  // help or version
};

// Throws Error(invalid_argument), with the nearest name for an unknown command or option.
ParsedCommandLine parse_command_line(int argc, const char* const* argv, std::span<const CommandEntry> table);

// "invalid_argument" for ErrorCode::invalid_argument.
std::string error_code_name(ErrorCode code);

// The whole tool: parses, runs, prints, and returns the exit code. Never throws.
int run_tool(int argc, const char* const* argv);

}  // namespace gdnjit::tool

#include "tools/gdn-tune/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>

#include "runtime/support/check.h"
#include "runtime/support/text.h"
#include "tools/gdn-tune/interrupt.h"
#include "tools/gdn-tune/version.h"

namespace gdnjit::tool {
namespace {

struct NamedCode {
  ErrorCode code;
  std::string_view name;
  std::string_view meaning;
};

constexpr NamedCode kCodes[] = {
    {ErrorCode::ok, "ok", "done"},
    {ErrorCode::invalid_argument, "invalid_argument", "an option or a problem breaks a rule"},
    {ErrorCode::unsupported, "unsupported", "a valid request that this build or device cannot serve"},
    {ErrorCode::nvrtc_missing, "nvrtc_missing", "something must be compiled and there is no NVRTC"},
    {ErrorCode::compile_failed, "compile_failed", "NVRTC refused a kernel"},
    {ErrorCode::device_unavailable, "device_unavailable", "the device asked for is not there"},
    {ErrorCode::device_failed, "device_failed", "a launch, copy or load failed"},
    {ErrorCode::out_of_memory, "out_of_memory", "not enough memory"},
    {ErrorCode::strict_miss, "strict_miss", "policy strict and something is not in the cache"},
    {ErrorCode::io, "io", "a file could not be read or written"},
    {ErrorCode::mismatch, "mismatch", "outputs differ from the reference by more than the tolerance"},
    {ErrorCode::internal, "internal", "a bug: please report it"},
};

std::string exit_code_help() {
  std::string text = "Exit codes:\n";
  for (const NamedCode& known : kCodes) {
    text += fmt::format("  {:>3}  {}\n", static_cast<int>(known.code), known.meaning);
  }
  return text + fmt::format("  {:>3}  stopped by Ctrl-C; what was finished is stored\n", kInterruptedExitCode);
}

// Help with options as "--tp N" where the parser's own form adds types and defaults.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    const std::string value = option->get_type_name();
    return value.empty() ? "" : " " + value;
  }
  // The parser's own form has two empty lines between groups.
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override {
    std::string text = CLI::Formatter::make_help(app, name, mode);
    for (std::size_t at; (at = text.find("\n\n\n")) != std::string::npos;) text.erase(at, 1);
    return text;
  }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    if (app->get_parent() == nullptr) return "Usage: gdn-tune COMMAND [OPTIONS]\n";
    std::string usage = fmt::format("Usage: gdn-tune {}", app->get_name().empty() ? name : app->get_name());
    for (const CLI::Option* option : app->get_options([](const CLI::Option* o) { return o->get_positional(); })) {
      const std::string shown = option->get_items_expected_max() > 1 ? option->get_name() + "..." : option->get_name();
      usage += option->get_required() ? " " + shown : " [" + shown + "]";
    }
    return usage + " [OPTIONS]\n";
  }
};

std::string indented_lines(std::string_view lines) {
  std::string text;
  for (const std::string& line : split(lines, '\n')) text += line.empty() ? "\n" : "  " + line + "\n";
  return text;
}

std::string_view group_title(CommandGroup group) {
  switch (group) {
    case CommandGroup::kernels: return "Kernels";
    case CommandGroup::cache: return "Cache";
    case CommandGroup::machine: return "Machine and models";
    case CommandGroup::hidden: break;
  }
  return "";
}

void declare_root(CLI::App& root) {
  root.name("gdn-tune");
  root.description("Compiles, tunes, checks and explains the kernels of Gated DeltaNet layers.");
  root.set_help_flag("--help,-h", "Print this help and exit");
  root.set_version_flag("--version", fmt::format("gdn-tune {}", kVersion), "Print the version and exit");
  root.formatter(std::make_shared<HelpFormatter>());
  root.get_formatter()->column_width(34);
  root.footer("'gdn-tune COMMAND --help' shows a command's options and examples.\n\n" + exit_code_help());
  root.require_subcommand(0, 1);
}

// The word that the parser did not know, with the nearest name it does know.
std::string with_suggestion(const CLI::App& root, const std::string& message, int argc, const char* const* argv) {
  const CLI::App* app = &root;
  std::vector<std::string> known;
  for (const CLI::App* sub : root.get_subcommands([](const CLI::App*) { return true; })) {
    if (argc > 1 && sub->get_name() == argv[1]) app = sub;
    if (!sub->get_group().empty()) known.push_back(sub->get_name());
  }
  if (app == &root && argc > 1 && argv[1][0] != '-') {
    return fmt::format("unknown command '{}'{}", argv[1], suggestion(argv[1], known));
  }
  known.clear();
  for (const CLI::Option* option : app->get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (int index = 1; index < argc; ++index) {
    const std::string word = split(argv[index], '=').front();
    if (!word.starts_with("--") || std::find(known.begin(), known.end(), word) != known.end()) continue;
    const std::string near = nearest(word, known);
    return fmt::format("unknown option '{}'{}", word,
                       near.empty() ? fmt::format("; '{}--help' lists the options",
                                                  app == &root ? "gdn-tune " : "gdn-tune " + app->get_name() + " ")
                                    : fmt::format(" (did you mean '{}'?)", near));
  }
  return message;
}

int failed(const Console& console, int exit_code, std::string_view name, const std::string& message) {
  console.error(message);
  if (console.json()) {
    const Json report = {{"error", {{"code", exit_code}, {"name", name}, {"message", message}}}};
    fmt::print("{}\n", report.dump(2, ' ', false, Json::error_handler_t::replace));
  }
  return exit_code;
}

int run_command(const ParsedCommandLine& parsed, Console& console) {
  try {
    const Result result = parsed.command->run(console);
    if (console.json()) {
      fmt::print("{}\n", result.report.dump(2, ' ', false, Json::error_handler_t::replace));
    }
    return result.exit_code;
  } catch (const Error& error) {
    return failed(console, static_cast<int>(error.code()), error_code_name(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(console, static_cast<int>(ErrorCode::out_of_memory), "out_of_memory", "out of host memory");
  } catch (const std::exception& error) {
    return failed(console, static_cast<int>(ErrorCode::internal), "internal",
                  fmt::format("internal error: {}; please report it", error.what()));
  }
}

}  // namespace

std::string error_code_name(ErrorCode code) {
  for (const NamedCode& known : kCodes) {
    if (known.code == code) return std::string(known.name);
  }
  return "internal";
}

ParsedCommandLine parse_command_line(int argc, const char* const* argv, std::span<const CommandEntry> table) {
  CLI::App root;
  declare_root(root);
  ParsedCommandLine parsed;
  struct Declared {
    const CommandEntry* entry;
    CLI::App* app;
    std::unique_ptr<Command> command;
  };
  std::vector<Declared> declared;
  for (const CommandEntry& entry : table) {
    CLI::App* app = root.add_subcommand(std::string(entry.name), std::string(entry.summary));
    app->group(std::string(group_title(entry.group)));
    if (!entry.examples.empty()) app->footer("Examples:\n" + indented_lines(entry.examples));
    auto command = entry.make();
    Arguments arguments(*app);
    command->declare(arguments);
    arguments.group("Output");
    arguments.flag("json", parsed.json, "Print one JSON object on standard output");
    arguments.flag("quiet,q", parsed.quiet, "No progress and no notes on standard error");
    arguments.flag("no-color", parsed.no_color, "No colours (NO_COLOR does the same)");
    declared.push_back({&entry, app, std::move(command)});
  }
  try {
    root.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    parsed.text = root.help();
    return parsed;
  } catch (const CLI::CallForVersion&) {
    parsed.text = fmt::format("gdn-tune {}\n", kVersion);
    return parsed;
  } catch (const CLI::ExtrasError& error) {
    fail(ErrorCode::invalid_argument, "{}", with_suggestion(root, error.what(), argc, argv));
  } catch (const CLI::ParseError& error) {
    fail(ErrorCode::invalid_argument, "{}", error.what());
  }
  for (Declared& each : declared) {
    if (!each.app->parsed()) continue;
    parsed.entry = each.entry;
    parsed.command = std::move(each.command);
  }
  if (parsed.entry == nullptr) parsed.text = root.help();
  return parsed;
}

int run_tool(int argc, const char* const* argv) {
  Terminal terminal = Terminal::detect();
  ParsedCommandLine parsed;
  try {
    parsed = parse_command_line(argc, argv, command_table());
  } catch (const std::exception& exception) {
    const auto* error = dynamic_cast<const Error*>(&exception);
    const ErrorCode code = error == nullptr ? ErrorCode::internal : error->code();
    const bool json = std::any_of(argv, argv + argc, [](std::string_view word) { return word == "--json"; });
    const Console console(terminal, json, false);
    return failed(console, static_cast<int>(code), error_code_name(code), exception.what());
  }
  if (parsed.entry == nullptr) {
    fmt::print("{}", parsed.text);
    return 0;
  }
  if (parsed.no_color) terminal.out_color = terminal.error_color = false;
  if (parsed.entry->group == CommandGroup::hidden) {
    leave_interrupts_to_parent();
  } else {
    catch_interrupts();
  }
  Console console(terminal, parsed.json, parsed.quiet);
  const int exit_code = run_command(parsed, console);
  if (std::fflush(stdout) != 0 && exit_code == 0) {
    return failed(console, static_cast<int>(ErrorCode::io), "io", "standard output could not be written");
  }
  return exit_code;
}

}  // namespace gdnjit::tool

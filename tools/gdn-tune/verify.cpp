// gdn-tune verify: kernels against the double-precision reference.
#include <fmt/format.h>

#include <map>
#include <optional>

#include "autotune/checker.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "runtime/support/text.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/command_line.h"
#include "tools/gdn-tune/interrupt.h"
#include "tools/gdn-tune/jobs.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/runtime_arguments.h"
#include "tools/gdn-tune/tiles_choice.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

struct Check {
  const SelectedProblem* selected = nullptr;
  FieldMap tiles;
  reference::Inputs inputs = reference::Inputs::typical;
  bool ran = false;
  autotune::CheckResult result;
  std::optional<Error> error;  // could not be compiled or launched

  bool passed() const { return ran && !error && result.passed(); }
};

std::string_view inputs_text(reference::Inputs inputs) {
  return inputs == reference::Inputs::typical ? "typical" : "brutal";
}

class VerifyCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    selection_.declare(arguments);
    arguments.group("Checks");
    arguments.list("inputs", inputs_, "NAME,..", "typical, brutal (default: both)");
    arguments.option("seed", seed_, 0, "Of the random inputs (default 1)");
    arguments.flag("failures-only", failures_only_, "Leave passed checks out of the table");
    tiles_.declare(arguments);
    runtime_.declare_device(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    const Selection selection = select_problems(selection_, operators());
    for (const std::string& note : selection.notes) console.note(note);
    runtime_.captures = true;
    const Options options = runtime_.options();
    Runtime::Impl runtime(options);
    std::vector<Check> checks = plan_checks(selection, runtime);
    const std::vector<std::string> shown = fields_worth_showing(selection);
    run_jobs(console, {.title = "verifying",
                       .count = checks.size(),
                       .threads = options.compile_threads,
                       .name = [&](std::size_t index) { return short_problem(checks[index].selected->problem, shown); },
                       .work = [&](std::size_t index) { run_check(runtime, checks[index]); }});
    throw_if_nothing_worked(checks);
    const Table table = table_of(checks, shown);
    if (!table.empty()) console.print(table);
    return conclude(console, runtime, selection, checks);
  }

 private:
  std::vector<Check> plan_checks(const Selection& selection, const Runtime::Impl& runtime) const {
    std::vector<reference::Inputs> inputs;
    for (const std::string& name : inputs_) {
      require(name == "typical" || name == "brutal", "--inputs {}: expected typical or brutal", name);
      inputs.push_back(name == "typical" ? reference::Inputs::typical : reference::Inputs::brutal);
    }
    std::vector<Check> checks;
    for (const SelectedProblem& selected : selection.problems) {
      for (const FieldMap& tiles : tiles_.tiles_of(selected, runtime)) {
        for (reference::Inputs kind : inputs) {
          Check& check = checks.emplace_back();
          check.selected = &selected;
          check.tiles = tiles;
          check.inputs = kind;
        }
      }
    }
    return checks;
  }

  void run_check(Runtime::Impl& runtime, Check& check) const {
    try {
      const Operator& op = *check.selected->op;
      const auto plan = make_plan(runtime, op, check.selected->problem, check.tiles);
      const auto workload =
          reference::make_workload(op.name(), check.selected->problem, check.inputs, static_cast<std::uint64_t>(seed_));
      check.result = autotune::check(*plan, *workload);
    } catch (const Error& error) {
      check.error = error;
    }
    check.ran = true;
  }

  // A missing NVRTC or GPU is not a table of a thousand errors.
  static void throw_if_nothing_worked(const std::vector<Check>& checks) {
    if (checks.empty()) return;
    for (const Check& check : checks) {
      if (!check.error || check.error->code() != checks.front().error->code()) return;
    }
    throw Error(*checks.front().error);
  }

  Table table_of(const std::vector<Check>& checks, const std::vector<std::string>& shown) const {
    Table table({{"model", Table::Align::left, true},
                 {"problem", Table::Align::left, true},
                 {"tiles", Table::Align::left, true},
                 {"inputs"},
                 {"tensor"},
                 {"rms ratio", Table::Align::right},
                 {"largest", Table::Align::right},
                 {"tolerance", Table::Align::right},
                 {"result"}});
    for (const Check& check : checks) {
      if (!check.ran || (failures_only_ && check.passed())) continue;
      const std::string problem = short_problem(check.selected->problem, shown);
      const std::string tiles = fields_text(check.tiles);
      const std::string inputs(inputs_text(check.inputs));
      if (check.error) {
        table.add_row({origin_text(*check.selected), problem, tiles, inputs, "", "", "", "", {"error", Style::bad}});
      }
      for (const reference::OutputError& output : check.result.errors) {
        const std::string verdict = verdict_of(check.result, output);
        table.add_row({origin_text(*check.selected),
                       problem,
                       tiles,
                       inputs,
                       output.tensor,
                       error_text(output.rms_ratio),
                       error_text(output.max_ratio),
                       error_text(output.tolerance),
                       {verdict, verdict == "pass" ? Style::good : Style::bad}});
      }
    }
    return table;
  }

  static Json json_of_check(const Check& check) {
    Json outputs = Json::array();
    for (const reference::OutputError& output : check.result.errors) {
      outputs.push_back(json_of(output));
    }
    Json json = {{"operator", check.selected->op->name()},
                 {"origins", check.selected->origins},
                 {"problem", json_of(check.selected->problem)},
                 {"tiles", json_of(check.tiles)},
                 {"inputs", inputs_text(check.inputs)},
                 {"passed", check.passed()},
                 {"guards_intact", check.result.guards_intact},
                 {"repeatable", check.result.repeatable},
                 {"outputs", outputs}};
    if (check.error) json["error"] = json_of(*check.error);
    return json;
  }

  static Result conclude(const Console& console, const Runtime::Impl& runtime, const Selection& selection,
                         const std::vector<Check>& checks) {
    Result result;
    std::size_t ran = 0, passed = 0;
    std::optional<Error> first_error;
    std::map<std::string, double> worst;  // by tensor, as a share of its tolerance
    result.report["device"] = runtime.device().info().name;
    result.report["checks"] = Json::array();
    for (const Check& check : checks) {
      if (!check.ran) continue;
      ++ran;
      passed += check.passed() ? 1 : 0;
      if (check.error && !first_error) first_error = check.error;
      for (const reference::OutputError& output : check.result.errors) {
        double& share = worst[output.tensor];
        share = std::max(share, output.tolerance > 0 ? output.rms_ratio / output.tolerance : 0);
      }
      result.report["checks"].push_back(json_of_check(check));
    }
    result.report["passed"] = passed;
    result.report["failed"] = ran - passed;
    result.report["left_out"] = checks.size() - ran;
    std::string shares;
    for (const auto& [tensor, share] : worst) {
      shares +=
          fmt::format("{} {} {:.0f} % of its tolerance", shares.empty() ? "; at worst" : ",", tensor, 100 * share);
    }
    if (first_error) console.error(first_error->what());
    const std::string outcome =
        fmt::format("{} of {} of {} passed on {}{}.", passed, plural(ran, "check"),
                    plural(selection.problems.size(), "problem"), runtime.device().info().name, shares);
    console.print("\n" + console.styled(outcome, passed == ran ? Style::good : Style::bad) + "\n");
    if (passed < ran) {
      const bool only_errors = first_error && std::all_of(checks.begin(), checks.end(), [](const Check& check) {
                                 return !check.ran || check.passed() || check.error;
                               });
      result.exit_code = static_cast<int>(only_errors ? first_error->code() : ErrorCode::mismatch);
    } else if (interrupted()) {
      console.note(fmt::format("stopped: {} left out", plural(checks.size() - ran, "check")));
      result.exit_code = kInterruptedExitCode;
    }
    return result;
  }

  SelectionArguments selection_;
  RuntimeArguments runtime_;
  TilesArguments tiles_{"default"};
  std::vector<std::string> inputs_{"typical", "brutal"};
  std::int64_t seed_ = 1;
  bool failures_only_ = false;
};

}  // namespace

std::unique_ptr<Command> make_verify_command() { return std::make_unique<VerifyCommand>(); }

}  // namespace gdnjit::tool

// gdn-tune tune: finds the best tiles of problems and stores them with their binaries.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "autotune/tuner.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "runtime/support/text.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/interrupt.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/runtime_arguments.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

using autotune::TuneOutcome;

// "3/16" -> 3 of 16, counted from 0.
void parse_shard(const std::string& text, autotune::TunerOptions& options) {
  if (text.empty()) return;
  const std::vector<std::string> parts = split(text, '/');
  const bool read = parts.size() == 2 && detail::parse_value(parts[0], options.shard_index) &&
                    detail::parse_value(parts[1], options.shard_count);
  require(read && options.shard_count >= 1 && options.shard_index >= 0 && options.shard_index < options.shard_count,
          "--shard {}: expected INDEX/COUNT with INDEX from 0 to COUNT-1, such as 3/16", text);
}

bool usable(const TuneOutcome& outcome) {
  return outcome.best.status == cache::TuningStatus::ok && !outcome.best.tiles.empty();
}

class TuneCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    selection_.declare(arguments);
    arguments.group("Tuning");
    arguments.flag("force", tuner_.force, "Tune again what is already recorded");
    arguments.option("deployment", tuner_.deployment, "KIND", "How kernels are launched: graph (default) or stream");
    arguments.option("margin", margin_percent_, "Percent by which the default must be beaten (default 3)");
    arguments.option("rounds", tuner_.rounds, 1, "Interleaved timing rounds (default 9)");
    arguments.option("timeout-ms", tuner_.worker_timeout_ms, 1, "For one candidate (default 60000)");
    arguments.flag("warm-l2", warm_l2_, "Time with inputs in the L2 (default: rotated past it)");
    arguments.option("shard", shard_, "I/N", "Only part I of N, counted from 0; 'merge' joins the parts");
    runtime_.declare_device(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    const auto started = std::chrono::steady_clock::now();
    finish_tuner_options();
    const Selection selection = select_problems(selection_, operators());
    for (const std::string& note : selection.notes) console.note(note);
    const Options options = runtime_.options();
    tuner_.compile_threads = options.compile_threads;
    Runtime::Impl runtime(options);
    // A kernel cannot harm the emulator, so only a GPU's candidates run in a process of their own.
    if (runtime.device().info().kind == DeviceKind::cuda) tuner_.worker_command = {"/proc/self/exe", "worker"};
    std::vector<autotune::TuneRequest> requests;
    for (const SelectedProblem& selected : selection.problems) requests.push_back({selected.op, selected.problem});
    const auto progress = console.progress("tuning");
    const std::vector<TuneOutcome> outcomes = autotune::tune(
        runtime, requests, tuner_,
        [&](const autotune::TuneProgress& at) { progress->update(at.done, at.total, at.current, at.eta_s); },
        interrupted);
    progress->clear();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    console.print(table_of(outcomes, selection));
    return conclude(console, runtime, selection, outcomes, elapsed.count());
  }

 private:
  void finish_tuner_options() {
    require(tuner_.deployment == "graph" || tuner_.deployment == "stream", "--deployment {}: expected graph or stream",
            tuner_.deployment);
    require(std::isfinite(margin_percent_) && margin_percent_ >= 0 && margin_percent_ < 100,
            "--margin {}: expected percent from 0 to 99", margin_percent_);
    tuner_.margin = margin_percent_ / 100;
    tuner_.cold_l2 = !warm_l2_;
    parse_shard(shard_, tuner_);
  }

  // The origin of an outcome's problem: outcomes are a subsequence of the selection.
  static const SelectedProblem* selected_of(const Selection& selection, const TuneOutcome& outcome) {
    for (const SelectedProblem& selected : selection.problems) {
      if (selected.op == outcome.op && selected.problem == outcome.problem) return &selected;
    }
    return nullptr;
  }

  static Table table_of(const std::vector<TuneOutcome>& outcomes, const Selection& selection) {
    const std::vector<std::string> shown = fields_worth_showing(selection);
    Table table({{"model", Table::Align::left, true},
                 {"problem", Table::Align::left, true},
                 {"best tiles", Table::Align::left, true},
                 {"time", Table::Align::right},
                 {"basis"},
                 {"gain", Table::Align::right},
                 {"error", Table::Align::right},
                 {"binary", Table::Align::right},
                 {"from"}});
    for (const TuneOutcome& outcome : outcomes) {
      const SelectedProblem* selected = selected_of(selection, outcome);
      const std::string origin = selected == nullptr ? "" : origin_text(*selected);
      const std::string problem = short_problem(outcome.problem, shown);
      if (!usable(outcome)) {
        table.add_row({origin, problem, {"no candidate passed", Style::bad}, "", "", "", "", "", ""});
        continue;
      }
      const bool won = !outcome.best.is_default;
      table.add_row({origin,
                     problem,
                     outcome.best.tiles + (won ? "" : " (default)"),
                     microseconds_text(outcome.best.time_us),
                     std::string(basis_text(outcome.best.basis)),
                     {ratio_text(outcome.gain()), won ? Style::good : Style::plain},
                     error_text(outcome.best.error),
                     bytes_text(outcome.binary_bytes),
                     outcome.cached ? "cache" : "tuned"});
    }
    return table;
  }

  static Json json_of_outcome(const TuneOutcome& outcome, const SelectedProblem* selected) {
    Json candidates = Json::array();
    for (const cache::TuningRecord& record : outcome.candidates) candidates.push_back(json_of(record));
    Json json = {{"operator", outcome.op->name()},
                 {"origins", selected == nullptr ? std::vector<std::string>{} : selected->origins},
                 {"problem", json_of(outcome.problem)},
                 {"usable", usable(outcome)},
                 {"cached", outcome.cached},
                 {"binary_bytes", outcome.binary_bytes},
                 {"best", json_of(outcome.best)},
                 {"default", json_of(outcome.default_record)},
                 {"candidates", candidates}};
    if (usable(outcome)) json["gain"] = outcome.gain();
    return json;
  }

  static Result conclude(const Console& console, const Runtime::Impl& runtime, const Selection& selection,
                         const std::vector<TuneOutcome>& outcomes, double elapsed_s) {
    Result result;
    std::size_t tuned = 0, cached = 0, failed = 0, better = 0;
    double gains = 0;  // sum of logarithms
    result.report["device"] = runtime.device().info().name;
    result.report["cache"] = runtime.cache().file().string();
    result.report["outcomes"] = Json::array();
    for (const TuneOutcome& outcome : outcomes) {
      result.report["outcomes"].push_back(json_of_outcome(outcome, selected_of(selection, outcome)));
      if (!usable(outcome)) {
        ++failed;
        console.error(fmt::format("{} {}: no candidate passed: {}", outcome.op->name(), fields_text(outcome.problem),
                                  outcome.best.reason.empty() ? "see --json for the reasons" : outcome.best.reason));
        continue;
      }
      ++(outcome.cached ? cached : tuned);
      better += outcome.best.is_default ? 0 : 1;
      gains += std::log(outcome.gain());
    }
    const std::size_t good = tuned + cached;
    const double mean_gain = good == 0 ? 1 : std::exp(gains / static_cast<double>(good));
    result.report["tuned"] = tuned;
    result.report["cached"] = cached;
    result.report["failed"] = failed;
    result.report["mean_gain"] = mean_gain;
    result.report["seconds"] = elapsed_s;
    console.print(
        fmt::format("\n{} on {} in {}: {} tuned, {} from the cache, {} failed. {} better than the default, "
                    "{} on the mean. Cache: {}\n",
                    plural(outcomes.size(), "problem"), runtime.device().info().name, duration_text(elapsed_s), tuned,
                    cached, failed, better, ratio_text(mean_gain), runtime.cache().file().string()));
    if (failed > 0) result.exit_code = static_cast<int>(ErrorCode::mismatch);
    if (interrupted()) {
      console.note("stopped; what was finished is stored, and the same command goes on from there");
      result.exit_code = kInterruptedExitCode;
    }
    return result;
  }

  SelectionArguments selection_;
  RuntimeArguments runtime_;
  autotune::TunerOptions tuner_;
  double margin_percent_ = 3;
  bool warm_l2_ = false;
  std::string shard_;
};

}  // namespace

std::unique_ptr<Command> make_tune_command() { return std::make_unique<TuneCommand>(); }

}  // namespace gdnjit::tool

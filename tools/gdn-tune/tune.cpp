// gdn-tune tune: finds the best tiles of problems and stores them with their binaries.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

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

// A problem as the user posed it, with the outcome of the bucket it belongs to.
struct Tuned {
  const SelectedProblem* selected = nullptr;
  TuneOutcome outcome;

  // False: no candidate was right.
  bool usable() const { return outcome.best.chosen && outcome.best.status == cache::TuningStatus::ok; }
};

// The exit code for a problem whose default tiles ended so, when no other candidate did better.
ErrorCode code_of(cache::TuningStatus status) {
  switch (status) {
    case cache::TuningStatus::crashed:
    case cache::TuningStatus::hung: return ErrorCode::device_failed;
    case cache::TuningStatus::rejected: return ErrorCode::compile_failed;
    case cache::TuningStatus::ok:
    case cache::TuningStatus::wrong: break;
  }
  return ErrorCode::mismatch;
}

// Outcomes come in the order of the problems, without those of other shards and those cut short.
std::vector<Tuned> pair_up(const Selection& selection, std::vector<TuneOutcome> outcomes) {
  std::vector<Tuned> tuned;
  auto outcome = outcomes.begin();
  for (const SelectedProblem& selected : selection.problems) {
    if (outcome == outcomes.end()) break;
    const Operator& op = *selected.op;
    if (outcome->op != &op || outcome->problem != op.complete(op.tuning_bucket(selected.problem))) continue;
    tuned.push_back({&selected, std::move(*outcome++)});
  }
  GDNJIT_CHECK(outcome == outcomes.end(), "{} outcomes belong to no problem", outcomes.end() - outcome);
  return tuned;
}

class TuneCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    selection_.declare(arguments);
    arguments.group("Tuning");
    arguments.flag("force", tuner_.force, "Tune again what is already recorded");
    arguments.option("deployment", tuner_.deployment, "KIND", "How kernels are launched: graph (default) or stream");
    arguments.option("margin", margin_percent_, "Percent by which the default must be beaten (default 3)");
    arguments.option("rounds", tuner_.rounds, 3, "Interleaved timing rounds (default 9)");
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
    std::vector<TuneOutcome> outcomes = autotune::tune(
        runtime, requests, tuner_,
        [&](const autotune::TuneProgress& at) {
          progress->update(at.done, at.total, at.current, at.done == 0 ? std::nullopt : std::optional(at.eta_s));
        },
        interrupted);
    progress->clear();
    const std::vector<Tuned> tuned = pair_up(selection, std::move(outcomes));
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    console.print(table_of(tuned, fields_worth_showing(selection)));
    return conclude(console, runtime, tuned, fields_worth_showing(selection), elapsed.count());
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

  static Table table_of(const std::vector<Tuned>& all, const std::vector<std::string>& shown) {
    Table table({{"model", Table::Align::left, true},
                 {"problem", Table::Align::left, true},
                 {"best tiles", Table::Align::left, true},
                 {"time", Table::Align::right},
                 {"basis"},
                 {"gain", Table::Align::right},
                 {"error", Table::Align::right},
                 {"binary", Table::Align::right},
                 {"from"}});
    for (const Tuned& tuned : all) {
      const std::string origin = origin_text(*tuned.selected);
      const std::string problem = short_problem(tuned.selected->problem, shown);
      if (!tuned.usable()) {
        table.add_row({origin, problem, {"no candidate passed", Style::bad}, "", "", "", "", "", ""});
        continue;
      }
      const cache::TuningRecord& best = tuned.outcome.best;
      table.add_row({origin,
                     problem,
                     best.tiles + (best.is_default ? " (default)" : ""),
                     microseconds_text(best.time_us),
                     std::string(basis_text(best.basis)),
                     {ratio_text(tuned.outcome.gain()), best.is_default ? Style::plain : Style::good},
                     error_text(best.error),
                     bytes_text(tuned.outcome.binary_bytes),
                     tuned.outcome.cached ? "cache" : "tuned"});
    }
    return table;
  }

  static Json json_of_tuned(const Tuned& tuned) {
    const TuneOutcome& outcome = tuned.outcome;
    Json candidates = Json::array();
    for (const cache::TuningRecord& record : outcome.candidates) candidates.push_back(json_of(record));
    Json json = {{"operator", outcome.op->name()},
                 {"origins", tuned.selected->origins},
                 {"problem", json_of(tuned.selected->problem)},
                 {"bucket", json_of(outcome.problem)},
                 {"usable", tuned.usable()},
                 {"cached", outcome.cached},
                 {"binary_bytes", outcome.binary_bytes},
                 {"best", json_of(outcome.best)},
                 {"default", json_of(outcome.default_record)},
                 {"candidates", candidates}};
    if (tuned.usable()) json["gain"] = outcome.gain();
    return json;
  }

  static Result conclude(const Console& console, const Runtime::Impl& runtime, const std::vector<Tuned>& all,
                         const std::vector<std::string>& shown, double elapsed_s) {
    Result result;
    std::size_t fresh = 0, cached = 0, failed = 0, better = 0;
    double log_gains = 0;
    result.report["device"] = runtime.device().info().name;
    result.report["cache"] = runtime.cache().file().string();
    result.report["outcomes"] = Json::array();
    for (const Tuned& tuned : all) {
      result.report["outcomes"].push_back(json_of_tuned(tuned));
      if (!tuned.usable()) {
        ++failed;
        console.error(fmt::format("{} {}: no candidate passed; the default: {}", tuned.outcome.op->name(),
                                  short_problem(tuned.selected->problem, shown), tuned.outcome.best.reason));
        result.exit_code = static_cast<int>(code_of(tuned.outcome.best.status));
        continue;
      }
      ++(tuned.outcome.cached ? cached : fresh);
      better += tuned.outcome.best.is_default ? 0 : 1;
      log_gains += std::log(tuned.outcome.gain());
    }
    const std::size_t good = fresh + cached;
    const double mean_gain = good == 0 ? 1 : std::exp(log_gains / static_cast<double>(good));
    result.report["tuned"] = fresh;
    result.report["cached"] = cached;
    result.report["failed"] = failed;
    result.report["mean_gain"] = mean_gain;
    result.report["seconds"] = elapsed_s;
    console.print(
        fmt::format("\n{} on {} in {}: {} tuned, {} from the cache, {} failed. {} better than the default, "
                    "by {} on the mean of all. Cache: {}\n",
                    plural(all.size(), "problem"), runtime.device().info().name, duration_text(elapsed_s), fresh,
                    cached, failed, better, ratio_text(mean_gain), runtime.cache().file().string()));
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

// gdn-tune replay: saved calls, run again and compared.
#include "autotune/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "autotune/saved_call.h"
#include "runtime/support/check.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/interrupt.h"
#include "tools/gdn-tune/jobs.h"
#include "tools/gdn-tune/report.h"
#include "tools/gdn-tune/runtime_arguments.h"
#include "tools/gdn-tune/tiles_choice.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

constexpr std::string_view kStored = "stored";
constexpr std::string_view kReference = "reference";
constexpr std::string_view kRecorded = "recorded";

struct File {
  std::filesystem::path path;
  autotune::SavedCall saved;
  std::unique_ptr<reference::CallWorkload> workload;
  SelectedProblem selected;
  std::map<std::string, std::vector<reference::HostTensor>> elsewhere;  // what other devices left, by name
  std::vector<autotune::Basis> bases;
};

struct Replay {
  std::filesystem::path path;
  const File* file = nullptr;  // null: it could not be read
  FieldMap tiles;
  bool ran = false;
  autotune::ReplayResult result;
  std::optional<Error> error;

  bool passed() const { return ran && !error && result.run.passed(); }
};

class ReplayCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    arguments.positional("FILE", files_, 1, 1 << 20, "Files of GDNJIT_CAPTURE, or in their form (docs/capture.md)");
    arguments.group("Comparing");
    arguments.list(
        "against", against_, "NAME,..",
        "stored, reference, or a device such as emulator:sm_80\n(default: stored if the file has outputs, and "
        "reference)");
    arguments.flag("failures-only", failures_only_, "Leave what passed out of the table");
    tiles_.declare(arguments);
    runtime_.declare_device(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    const Options options = runtime_.options();
    Runtime::Impl runtime(options);
    open_other_devices(options);
    std::vector<Replay> replays = read_files(console, runtime);
    run_elsewhere(console, options);
    run_jobs(console, {.title = "replaying",
                       .count = replays.size(),
                       .threads = options.compile_threads,
                       .name = [&](std::size_t index) { return replays[index].path.filename().string(); },
                       .work = [&](std::size_t index) { run_replay(runtime, replays[index]); }});
    const Table table = table_of(replays);
    if (!table.empty()) console.print(table);
    return conclude(console, runtime, replays);
  }

 private:
  void open_other_devices(const Options& options) {
    for (const std::string& name : against_) {
      if (name == kStored || name == kReference || others_.contains(name)) continue;
      Options other = options;
      try {
        other.set("device", name);
      } catch (const Error& error) {
        fail(error.code(), "--against {}: expected stored, reference or a device: {}", name, error.what());
      }
      others_[name] = std::make_unique<Runtime::Impl>(other);
    }
  }

  // One entry for each file and its tiles, or for a file that cannot be replayed.
  std::vector<Replay> read_files(const Console& console, const Runtime::Impl& runtime) {
    std::vector<Replay> replays;
    for (const std::filesystem::path& path : files_) {
      try {
        const File& file = read_file(path);
        for (const FieldMap& tiles : tiles_of(console, file, runtime)) {
          Replay& replay = replays.emplace_back();
          replay.path = path;
          replay.file = &file;
          replay.tiles = tiles;
        }
      } catch (const Error& error) {
        Replay& replay = replays.emplace_back();
        replay.path = path;
        replay.error = error;
      }
    }
    return replays;
  }

  const File& read_file(const std::filesystem::path& path) {
    auto file = std::make_unique<File>();
    file->path = path;
    file->saved = autotune::read_call(path);
    autotune::SavedCall& saved = file->saved;
    try {
      file->workload = reference::make_call_workload(saved.op->name(), saved.call, std::move(saved.before));
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{}: {}", path.string(), error.what()));
    }
    file->selected = {saved.op, saved.call.problem, {path.filename().string()}};
    for (const std::string& name : against_) {
      if (name == kStored) {
        require(saved.has_outputs(), "{}: --against stored: it has no outputs{}", path.string(),
                saved.failed.empty() ? "" : fmt::format(", for the call failed: {}", saved.failed));
      }
      add_basis(name, *file);
    }
    if (against_.empty() && saved.has_outputs()) add_basis(std::string(kStored), *file);
    if (against_.empty()) add_basis(std::string(kReference), *file);
    return *files_read_.emplace_back(std::move(file));
  }

  static void add_basis(const std::string& name, File& file) {
    if (name == kReference) {
      file.bases.push_back({name, nullptr});
    } else {
      file.bases.push_back({name, name == kStored ? &file.saved.after : &file.elsewhere[name]});
    }
  }

  std::vector<FieldMap> tiles_of(const Console& console, const File& file, const Runtime::Impl& runtime) const {
    if (tiles_.all || tiles_.which != kRecorded) return tiles_.tiles_of(file.selected, runtime);
    const DeviceTraits& traits = runtime.device().info().traits;
    const Operator& op = *file.saved.op;
    if (file.saved.tiles) {
      try {
        op.instantiate(file.saved.call.problem, *file.saved.tiles, Target{traits.arch});
        return {*file.saved.tiles};
      } catch (const Error& error) {
        console.note(fmt::format("{}: its tiles do not serve on {}, the default ones are taken: {}", file.path.string(),
                                 runtime.device().info().name, error.what()));
      }
    }
    return {op.default_tiles(file.saved.call.problem, traits)};
  }

  void run_elsewhere(Console& console, const Options& options) {
    if (others_.empty()) return;
    run_jobs(console, {.title = "running elsewhere",
                       .count = files_read_.size(),
                       .threads = options.compile_threads,
                       .name = [&](std::size_t index) { return files_read_[index]->path.filename().string(); },
                       .work =
                           [&](std::size_t index) {
                             File& file = *files_read_[index];
                             for (auto& [name, tensors] : file.elsewhere) {
                               const auto plan = make_plan(*others_.at(name), *file.saved.op, file.saved.call.problem);
                               tensors = autotune::run_once(*plan, *file.workload);
                             }
                           }});
  }

  static void run_replay(Runtime::Impl& runtime, Replay& replay) {
    replay.ran = true;
    if (replay.file == nullptr) return;
    try {
      const auto plan = make_plan(runtime, *replay.file->saved.op, replay.file->saved.call.problem, replay.tiles);
      replay.result = autotune::replay(*plan, *replay.file->workload, replay.file->bases);
    } catch (const Error& error) {
      replay.error = Error(error.code(), fmt::format("{}: {}", replay.path.string(), error.what()));
    }
  }

  Table table_of(const std::vector<Replay>& replays) const {
    Table table({{"file", Table::Align::left, true},
                 {"problem", Table::Align::left, true},
                 {"tiles", Table::Align::left, true},
                 {"against"},
                 {"tensor"},
                 {"rms ratio", Table::Align::right},
                 {"largest", Table::Align::right},
                 {"tolerance", Table::Align::right},
                 {"result"}});
    Selection selection;
    for (const auto& file : files_read_) selection.problems.push_back(file->selected);
    const std::vector<std::string> shown = fields_worth_showing(selection);
    for (const Replay& replay : replays) {
      if (!replay.ran || (failures_only_ && replay.passed())) continue;
      const std::string name = replay.path.filename().string();
      const std::string problem = replay.file == nullptr
                                      ? ""
                                      : fmt::format("{} {}", replay.file->saved.op->name(),
                                                    short_problem(replay.file->selected.problem, shown));
      const std::string tiles = fields_text(replay.tiles);
      if (replay.error) table.add_row({name, problem, tiles, "", "", "", "", "", {"error", Style::bad}});
      for (const autotune::Comparison& comparison : replay.result.comparisons) {
        for (const reference::OutputError& output : comparison.errors) {
          const std::string verdict = verdict_of(replay.result.run, output);
          table.add_row({name,
                         problem,
                         tiles,
                         comparison.against,
                         output.tensor,
                         error_text(output.rms_ratio),
                         error_text(output.max_ratio),
                         error_text(output.tolerance),
                         {verdict, verdict == "pass" ? Style::good : Style::bad}});
        }
      }
    }
    return table;
  }

  static Json json_of_replay(const Replay& replay) {
    Json json = {{"file", replay.path.string()}, {"passed", replay.passed()}};
    if (replay.file != nullptr) {
      const autotune::SavedCall& saved = replay.file->saved;
      json["operator"] = saved.op->name();
      json["problem"] = json_of(saved.call.problem);
      json["tiles"] = json_of(replay.tiles);
      json["recorded"] = {{"device", saved.device}, {"gdnjit", saved.version}, {"failed", saved.failed}};
      json["guards_intact"] = replay.result.run.guards_intact;
      json["repeatable"] = replay.result.run.repeatable;
      json["comparisons"] = Json::array();
      for (const autotune::Comparison& comparison : replay.result.comparisons) {
        Json outputs = Json::array();
        for (const reference::OutputError& output : comparison.errors) outputs.push_back(json_of(output));
        json["comparisons"].push_back({{"against", comparison.against}, {"outputs", outputs}});
      }
    }
    if (replay.error) json["error"] = json_of(*replay.error);
    return json;
  }

  Result conclude(const Console& console, const Runtime::Impl& runtime, const std::vector<Replay>& replays) const {
    Result result;
    std::size_t ran = 0, passed = 0;
    bool mismatch = false;
    const Error* first_error = nullptr;
    result.report["device"] = runtime.device().info().name;
    result.report["replays"] = Json::array();
    for (const Replay& replay : replays) {
      if (!replay.ran) continue;
      ++ran;
      passed += replay.passed() ? 1 : 0;
      mismatch = mismatch || (!replay.error && !replay.passed());
      if (replay.error) console.error(replay.error->what());
      if (replay.error && first_error == nullptr) first_error = &*replay.error;
      result.report["replays"].push_back(json_of_replay(replay));
    }
    result.report["passed"] = passed;
    result.report["failed"] = ran - passed;
    const std::string outcome = fmt::format("{} of {} of {} passed on {}.", passed, plural(ran, "replay"),
                                            plural(files_.size(), "file"), runtime.device().info().name);
    console.print("\n" + console.styled(outcome, passed == ran ? Style::good : Style::bad) + "\n");
    if (mismatch || first_error != nullptr) {
      result.exit_code = static_cast<int>(mismatch ? ErrorCode::mismatch : first_error->code());
    } else if (interrupted()) {
      console.note(fmt::format("stopped: {} left out", plural(replays.size() - ran, "replay")));
      result.exit_code = kInterruptedExitCode;
    }
    return result;
  }

  RuntimeArguments runtime_;
  TilesArguments tiles_{std::string(kRecorded)};
  std::vector<std::filesystem::path> files_;
  std::vector<std::string> against_;
  bool failures_only_ = false;
  std::map<std::string, std::unique_ptr<Runtime::Impl>> others_;
  std::vector<std::unique_ptr<File>> files_read_;
};

}  // namespace

std::unique_ptr<Command> make_replay_command() { return std::make_unique<ReplayCommand>(); }

}  // namespace gdnjit::tool

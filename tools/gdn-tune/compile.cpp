// gdn-tune compile: fills the cache for architectures that this machine need not have.
#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "codegen/registry.h"
#include "runtime/build.h"
#include "runtime/support/check.h"
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

struct Job {
  Runtime::Impl* runtime = nullptr;
  const SelectedProblem* selected = nullptr;
  FieldMap tiles;
  std::vector<Built> kernels;  // empty while the job is not done, or if it failed
  std::optional<Error> error;
};

class CompileCommand : public Command {
 public:
  void declare(Arguments& arguments) override {
    selection_.declare(arguments);
    arguments.group("Target");
    arguments.list("arch", archs_, "ARCH,..|all", "Architectures to compile for (default: the device's)");
    tiles_.declare(arguments);
    runtime_.declare_cache(arguments);
    runtime_.declare_compiler(arguments);
  }

  Result run(Console& console) override {
    const Selection selection = select_problems(selection_, operators());
    for (const std::string& note : selection.notes) console.note(note);
    const Options options = runtime_.options();
    require(options.policy != Policy::strict, "policy strict forbids compiling: use --policy cached");
    const std::vector<std::unique_ptr<Runtime::Impl>> runtimes = open_runtimes(options, archs_);
    std::vector<Job> jobs;
    for (const auto& runtime : runtimes) {
      for (const SelectedProblem& selected : selection.problems) {
        for (FieldMap& tiles : tiles_.tiles_of(selected, *runtime)) {
          jobs.push_back({runtime.get(), &selected, std::move(tiles), {}, std::nullopt});
        }
      }
    }
    const auto started = std::chrono::steady_clock::now();
    const std::vector<std::string> shown = fields_worth_showing(selection);
    run_jobs(console, {.title = "compiling",
                       .count = jobs.size(),
                       .threads = options.compile_threads,
                       .name = [&](std::size_t index) { return name_of(jobs[index], shown); },
                       .work = [&](std::size_t index) { build(jobs[index]); }});
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started;
    console.print(table_of(jobs, shown));
    return conclude(console, *runtimes.front(), jobs, elapsed.count());
  }

 private:
  static const std::string& arch_of(const Job& job) { return job.runtime->device().info().traits.arch; }

  static std::string name_of(const Job& job, const std::vector<std::string>& shown) {
    return fmt::format("{} {}", arch_of(job), short_problem(job.selected->problem, shown));
  }

  // A kernel that NVRTC refuses is a line of the table; a missing NVRTC ends the command.
  static void build(Job& job) {
    try {
      const auto instance = job.selected->op->instantiate(job.selected->problem, job.tiles, Target{arch_of(job)});
      job.kernels = build_kernels(*job.runtime, *job.selected->op, job.selected->problem, instance->kernels());
    } catch (const Error& error) {
      if (error.code() == ErrorCode::nvrtc_missing) throw;
      job.error = error;
    }
  }

  static Table table_of(const std::vector<Job>& jobs, const std::vector<std::string>& shown) {
    Table table({{"arch"},
                 {"model", Table::Align::left, true},
                 {"problem", Table::Align::left, true},
                 {"tiles", Table::Align::left, true},
                 {"kernel"},
                 {"regs", Table::Align::right},
                 {"spills", Table::Align::right},
                 {"size", Table::Align::right},
                 {"compile", Table::Align::right},
                 {"result"}});
    for (const Job& job : jobs) {
      const std::string problem = short_problem(job.selected->problem, shown);
      const std::string tiles = fields_text(job.tiles);
      const std::string origin = origin_text(*job.selected);
      for (const Built& kernel : job.kernels) {
        const cache::BinaryRecord& binary = *kernel.binary;
        table.add_row({arch_of(job), origin, problem, tiles, binary.entry, fmt::format("{}", binary.registers),
                       fmt::format("{} B", binary.spill_store_bytes + binary.spill_load_bytes),
                       bytes_text(static_cast<std::int64_t>(binary.cubin.size())),
                       fmt::format("{:.0f} ms", binary.compile_ms),
                       kernel.compiled ? Table::Cell{"compiled", Style::good} : Table::Cell{"cached"}});
      }
      if (job.error) {
        table.add_row({arch_of(job),
                       origin,
                       problem,
                       tiles,
                       "",
                       "",
                       "",
                       "",
                       "",
                       {error_code_name(job.error->code()), Style::bad}});
      }
    }
    return table;
  }

  static Result conclude(const Console& console, const Runtime::Impl& runtime, const std::vector<Job>& jobs,
                         double elapsed_s) {
    Result result;
    std::size_t compiled = 0, cached = 0, failed = 0, left_out = 0;
    result.report["cache"] = runtime.cache().file().string();
    result.report["kernels"] = Json::array();
    for (const Job& job : jobs) {
      const Json call = {{"operator", job.selected->op->name()},
                         {"origins", job.selected->origins},
                         {"problem", json_of(job.selected->problem)},
                         {"tiles", json_of(job.tiles)},
                         {"arch", arch_of(job)}};
      for (const Built& built : job.kernels) {
        Json kernel = call;
        kernel["binary"] = json_of(*built.binary);
        kernel["compiled"] = built.compiled;
        ++(built.compiled ? compiled : cached);
        result.report["kernels"].push_back(std::move(kernel));
      }
      if (job.error) {
        Json kernel = call;
        kernel["error"] = {{"code", static_cast<int>(job.error->code())}, {"message", job.error->what()}};
        if (++failed <= 3) console.error(job.error->what());
        if (result.exit_code == 0) result.exit_code = static_cast<int>(job.error->code());
        result.report["kernels"].push_back(std::move(kernel));
      }
      if (job.kernels.empty() && !job.error) ++left_out;
    }
    result.report["compiled"] = compiled;
    result.report["cached"] = cached;
    result.report["failed"] = failed;
    result.report["seconds"] = elapsed_s;
    console.print(fmt::format("\n{} compiled, {} already there, {} failed, in {}; cache: {}\n",
                              plural(compiled, "kernel"), cached, failed, duration_text(elapsed_s),
                              runtime.cache().file().string()));
    if (result.exit_code == 0 && left_out > 0) {
      console.note(fmt::format("stopped: {} left out", plural(left_out, "problem")));
      result.exit_code = kInterruptedExitCode;
    }
    return result;
  }

  SelectionArguments selection_;
  RuntimeArguments runtime_;
  TilesArguments tiles_{"chosen"};
  std::vector<std::string> archs_;
};

}  // namespace

std::unique_ptr<Command> make_compile_command() { return std::make_unique<CompileCommand>(); }

}  // namespace gdnjit::tool

#include "autotune/crossover_search.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "autotune/choose.h"
#include "codegen/kernel_spec.h"
#include "runtime/support/check.h"
#include "runtime/tile_lookup.h"

namespace gdnjit::autotune {
namespace {

using cache::TuningBasis;
using cache::TuningRecord;
using cache::TuningStatus;

// Close together where the times of gdn.recurrent and gdn.chunk meet.
constexpr std::int64_t kLadder[] = {1, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512};

// Beyond it a crossover is of no interest: so much work fills the device whatever runs it.
constexpr std::int64_t kMostTokens = 1 << 16;

// Rungs that the second must win one after another before the rest are left out.
constexpr std::size_t kEnough = 3;

std::int64_t number_of(const FieldMap& fields, std::string_view field) {
  std::int64_t value = 0;
  parse_field(field, find_field(fields, field).value_or("missing"), value);
  return value;
}

}  // namespace

std::int64_t crossover_of(std::span<const Rung> rungs) {
  std::size_t after = rungs.size();  // of the last rung that `below` holds
  while (after > 0 && rungs[after - 1].below_us > rungs[after - 1].above_us) --after;
  if (after == 0) return 0;
  const Rung& last = rungs[after - 1];
  if (after == rungs.size()) return last.value;
  const Rung& next = rungs[after];
  const double here = last.above_us - last.below_us, there = next.below_us - next.above_us;
  const double share = here / (here + there);
  return last.value + static_cast<std::int64_t>(share * static_cast<double>(next.value - last.value));
}

CrossoverSearch::CrossoverSearch(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                 const TunerOptions& options)
    : runtime_(&runtime),
      op_(&op),
      problem_(op.complete(op.tuning_bucket(op.complete(problem)))),
      options_(options),
      toolchain_(runtime.toolchain()),
      crossover_(op.crossover(problem_)) {
  const FieldMap tiles = without_subfields(op.default_tiles(problem_, runtime.device().info().traits));
  default_ = record_of(fields_text(tiles));
  default_.is_default = true;
  if (crossover_) build_ladder();
  if (contests_.empty()) {
    default_.reason = "its options and this device leave one way only";
    default_.chosen = true;
    best_ = default_;
    complete_ = true;
    return;
  }
  std::vector<Digest> requests;
  for (const Contest& contest : contests_) {
    for (const KernelSpec& spec : contest.instance->kernels()) {
      requests.push_back(request_digest(spec, runtime.templates()));
    }
  }
  key_ = kernel_key(call_digest(requests), toolchain_);
  default_.key = key_;
  if (!options_.force) read_record();
}

void CrossoverSearch::build_ladder() {
  try {
    for (const std::int64_t value : kLadder) {
      if (value * batch_of(problem_) <= kMostTokens) add_contests(value);
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    contests_.clear();  // a part that the device refuses leaves nothing to compare
  }
}

// The parts with the tiles that a plan would give them.
void CrossoverSearch::add_contests(std::int64_t value) {
  FieldMap at = problem_;
  set_field(at, crossover_->field, std::to_string(value));
  const DeviceInfo& device = runtime_->device().info();
  for (const OperatorPart& part : op_->parts(at)) {
    if (part.name != crossover_->below && part.name != crossover_->above) continue;
    FieldMap problem = part.problem;
    set_field(problem, crossover_->field, std::to_string(value));
    problem = part.op->complete(problem);
    const TileChoice choice = choose_tiles(runtime_->cache(), device, *part.op, problem, true);
    contests_.push_back({.rung = rungs_.size(),
                         .above = part.name == crossover_->above,
                         .op = part.op,
                         .problem = problem,
                         .tiles = choice.tiles,
                         .instance = choice.instance});
  }
  rungs_.push_back({.value = value});
}

TuningRecord CrossoverSearch::record_of(const std::string& tiles) const {
  const DeviceInfo& device = runtime_->device().info();
  TuningRecord record;
  record.operator_name = op_->name();
  record.problem = fields_text(problem_);
  record.device = device.tuning_identity();
  record.arch = device.traits.arch;
  record.deployment = options_.deployment;
  record.tiles = tiles;
  record.basis = tuning_basis_of(device);
  record.toolchain = toolchain_;
  record.key = key_;
  return record;
}

void CrossoverSearch::read_record() {
  for (TuningRecord& row : runtime_->cache().find_tuning(op_->name(), fields_text(problem_), default_.device)) {
    if (row.basis != default_.basis || row.deployment != options_.deployment || row.arch != default_.arch) continue;
    if (row.key != key_ || row.status != TuningStatus::ok) continue;
    if (row.is_default) default_ = row;
    if (row.chosen && !complete_) {
      best_ = row;
      complete_ = true;
    }
  }
}

std::string CrossoverSearch::step_text(std::size_t step) const {
  const Contest& contest = contests_[step];
  return fmt::format("{} {}={}", contest.op->name(), crossover_->field, rungs_[contest.rung].value);
}

// The second has won so often in a row that the rest of the ladder would tell nothing new.
bool CrossoverSearch::decided() const {
  std::size_t won = 0;
  for (const Rung& rung : rungs_) {
    won = rung.above_us > 0 && rung.below_us > rung.above_us ? won + 1 : 0;
    if (won == kEnough) return true;
  }
  return false;
}

void CrossoverSearch::run(std::size_t step, Evaluator& evaluator) {
  const Contest& contest = contests_[step];
  Rung& rung = rungs_[contest.rung];
  if (status_ != TuningStatus::ok || decided()) return;
  const auto failed = [&](TuningStatus status, const std::string& why) {
    status_ = status;
    reason_ = fmt::format("{}: {}", step_text(step), why);
  };
  const Checked checked = evaluator.check(*contest.op, contest.problem, contest.tiles);
  error_ = std::max(error_, checked.error);
  double time_us = checked.modelled_us;
  if (checked.status != TuningStatus::ok) {
    failed(checked.status, checked.reason);
  } else if (default_.basis == TuningBasis::measured) {
    const TimingOptions timing{
        .cold_l2 = options_.cold_l2, .graph = options_.deployment == "graph", .rounds = options_.rounds};
    const Timed timed = evaluator.time(*contest.op, contest.problem, {contest.tiles}, timing).at(0);
    if (timed.status != TuningStatus::ok) failed(timed.status, timed.reason);
    time_us = summarize(timed.samples_us).median;
  }
  (contest.above ? rung.above_us : rung.below_us) = time_us;
}

// Of the rungs that were timed, each by the part that serves it.
double CrossoverSearch::mean_us(std::int64_t crossover) const {
  double logs = 0;
  for (const Rung& rung : rungs_) logs += std::log(rung.value > crossover ? rung.above_us : rung.below_us);
  return std::exp(logs / static_cast<double>(rungs_.size()));
}

void CrossoverSearch::finish(Evaluator&) {
  const auto store = [&](TuningRecord& record) {
    using std::chrono::system_clock;
    record.created_unix_s =
        std::chrono::duration_cast<std::chrono::seconds>(system_clock::now().time_since_epoch()).count();
    record.error = error_;
    runtime_->cache().put_tuning(record);
  };
  if (status_ != TuningStatus::ok) {
    default_.status = status_;
    default_.reason = reason_;
    store(default_);
    best_ = default_;
    return;
  }
  std::erase_if(rungs_, [](const Rung& rung) { return rung.above_us == 0 || rung.below_us == 0; });
  std::string times = fmt::format("{} against {}, us", crossover_->below, crossover_->above);
  for (const Rung& rung : rungs_) {
    times += fmt::format("; {}={} {:.1f} {:.1f}", crossover_->field, rung.value, rung.below_us, rung.above_us);
  }
  default_.time_us = mean_us(number_of(parse_fields(default_.tiles), crossover_->tile));
  const std::int64_t crossover = crossover_of(rungs_);
  best_ = record_of(fields_text({{crossover_->tile, std::to_string(crossover)}}));
  best_.time_us = mean_us(crossover);
  best_.reason = times;
  best_.chosen = true;
  best_.is_default = best_.tiles == default_.tiles;
  if (!best_.is_default) store(default_);
  store(best_);
  runtime_->cache().choose_tuning(best_);
  if (best_.is_default) default_ = best_;
}

TuneOutcome CrossoverSearch::outcome() const {
  TuneOutcome outcome;
  outcome.op = op_;
  outcome.problem = problem_;
  outcome.cached = complete_;
  outcome.best = best_;
  outcome.default_record = default_;
  outcome.candidates = {best_};
  if (!best_.is_default) outcome.candidates.push_back(default_);
  return outcome;
}

}  // namespace gdnjit::autotune

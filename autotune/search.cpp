#include "autotune/search.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "autotune/choose.h"
#include "runtime/support/check.h"
#include "runtime/tile_lookup.h"

namespace gdnjit::autotune {

using cache::TuningBasis;
using cache::TuningRecord;
using cache::TuningStatus;

Search::Search(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, const TunerOptions& options)
    : runtime_(&runtime),
      op_(&op),
      problem_(op.complete(op.tuning_bucket(op.complete(problem)))),
      options_(options),
      toolchain_(runtime.toolchain()),
      measured_(tuning_basis_of(runtime.device().info()) == TuningBasis::measured),
      candidates_(make_candidates(op, problem_, runtime.device().info().traits, runtime.templates())) {
  if (op.runs_all_parts()) add_tuned_parts();
  if (!options_.force) read_records();
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    if (!candidates_[i].record) open_.push_back(i);
  }
}

// Beside the default: what a plan gives the parts now.
void Search::add_tuned_parts() {
  const DeviceInfo& device = runtime_->device().info();
  const FieldMap tiles = choose_tiles(runtime_->cache(), device, *op_, problem_, true).tiles;
  const auto same = [&](const Candidate& candidate) { return candidate.text == fields_text(tiles); };
  if (std::any_of(candidates_.begin(), candidates_.end(), same)) return;
  candidates_.push_back(make_candidate(*op_, problem_, tiles, device.traits, runtime_->templates()));
}

void Search::read_records() {
  const DeviceInfo& device = runtime_->device().info();
  const TuningBasis basis = tuning_basis_of(device);
  for (const TuningRecord& row :
       runtime_->cache().find_tuning(op_->name(), fields_text(problem_), device.tuning_identity())) {
    if (row.basis != basis || row.deployment != options_.deployment || row.arch != device.traits.arch) continue;
    const auto own = std::find_if(candidates_.begin(), candidates_.end(),
                                  [&](const Candidate& candidate) { return speaks_of(row, candidate, toolchain_); });
    // The user's layer comes first; what lower layers say about the same tiles, or chose, does not count.
    if (own == candidates_.end() || own->record) continue;
    own->record = row;
    own->record->chosen = row.chosen && row.status == TuningStatus::ok && !complete_;
    complete_ = complete_ || own->record->chosen;
  }
}

TuningRecord Search::blank_record(const Candidate& candidate) const {
  const DeviceInfo& device = runtime_->device().info();
  TuningRecord record;
  record.operator_name = op_->name();
  record.problem = fields_text(problem_);
  record.device = device.tuning_identity();
  record.arch = device.traits.arch;
  record.deployment = options_.deployment;
  record.tiles = candidate.text;
  record.basis = tuning_basis_of(device);
  record.is_default = candidate.is_default;
  record.toolchain = toolchain_;
  if (candidate.instance != nullptr) record.key = kernel_key(request_of(candidate), toolchain_);
  return record;
}

void Search::store(Candidate& candidate, TuningRecord record) {
  using std::chrono::system_clock;
  record.created_unix_s =
      std::chrono::duration_cast<std::chrono::seconds>(system_clock::now().time_since_epoch()).count();
  runtime_->cache().put_tuning(record);
  candidate.record = std::move(record);
}

void Search::check(std::size_t index, Evaluator& evaluator) {
  Candidate& candidate = candidates_[index];
  TuningRecord record = blank_record(candidate);
  if (candidate.instance == nullptr) {
    record.status = TuningStatus::rejected;
    record.reason = candidate.refusal;
    store(candidate, std::move(record));
    return;
  }
  const Checked checked = evaluator.check(*op_, problem_, candidate.tiles);
  record.status = checked.status;
  record.reason = checked.reason;
  record.error = checked.error;
  record.time_us = checked.modelled_us;
  store(candidate, std::move(record));
  if (checked.device_lost) {
    fail(ErrorCode::device_failed,
         "checking {} with tiles {}: {}; the device takes no more work from this process. Tune with a worker process: "
         "it is recorded as crashed and will be passed over",
         text(), candidate.text, checked.reason);
  }
}

void Search::finish(Evaluator& evaluator) {
  if (measured_) time(evaluator);
  choose_winner();
}

// All that are right, together: times of different runs do not compare.
void Search::time(Evaluator& evaluator) {
  std::vector<std::size_t> racing;
  std::vector<FieldMap> tiles;
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    if (!candidates_[i].record || candidates_[i].record->status != TuningStatus::ok) continue;
    racing.push_back(i);
    tiles.push_back(candidates_[i].tiles);
  }
  if (racing.empty()) return;
  const TimingOptions timing{
      .cold_l2 = options_.cold_l2, .graph = options_.deployment == "graph", .rounds = options_.rounds};
  const std::vector<Timed> timed = evaluator.time(*op_, problem_, tiles, timing);
  GDNJIT_CHECK(timed.size() == racing.size(), "{} times for {} candidates", timed.size(), racing.size());
  for (std::size_t i = 0; i < racing.size(); ++i) {
    TuningRecord record = *candidates_[racing[i]].record;
    const Summary summary = summarize(timed[i].samples_us);
    record.status = timed[i].status;
    record.reason = timed[i].reason;
    record.time_us = summary.median;
    record.spread_us = summary.spread;
    record.samples = static_cast<int>(timed[i].samples_us.size());
    store(candidates_[racing[i]], std::move(record));
  }
}

void Search::choose_winner() {
  std::vector<Contender> contenders;
  for (const Candidate& candidate : candidates_) {
    Contender contender{.right = false, .is_default = candidate.is_default};
    if (candidate.record && candidate.record->status == TuningStatus::ok) {
      contender.time_us = candidate.record->time_us;
      contender.spread_us = candidate.record->spread_us;
      contender.right = true;
    }
    contenders.push_back(contender);
  }
  for (Candidate& candidate : candidates_) {
    if (candidate.record) candidate.record->chosen = false;
  }
  const std::optional<Choice> choice = choose(contenders, options_.margin);
  if (!choice) return;
  Candidate& winner = candidates_[choice->winner];
  TuningRecord record = *winner.record;
  record.reason = choice->reason;
  record.chosen = true;
  store(winner, std::move(record));
  runtime_->cache().choose_tuning(*winner.record);
}

int Search::binary_bytes(const Candidate& candidate) const {
  if (candidate.instance == nullptr || !candidate.record) return 0;
  const std::span<const KernelSpec> specs = candidate.instance->kernels();
  std::size_t bytes = 0;
  for (std::size_t index = 0; index < specs.size(); ++index) {
    const Digest key = kernel_key(candidate.requests[index], candidate.record->toolchain);
    const auto binary = runtime_->cache().find(key, specs[index].signature);
    bytes += binary == nullptr ? 0 : binary->cubin.size();
  }
  return static_cast<int>(bytes);
}

TuneOutcome Search::outcome() const {
  TuneOutcome outcome;
  outcome.op = op_;
  outcome.problem = problem_;
  outcome.cached = complete_;
  for (const Candidate& candidate : candidates_) {
    if (!candidate.record) continue;
    outcome.candidates.push_back(*candidate.record);
    if (candidate.is_default) outcome.default_record = *candidate.record;
    if (candidate.record->chosen) {
      outcome.best = *candidate.record;
      outcome.binary_bytes = binary_bytes(candidate);
    }
  }
  // Nothing is right: what became of the default says why.
  if (!outcome.best.chosen) outcome.best = outcome.default_record;
  return outcome;
}

}  // namespace gdnjit::autotune

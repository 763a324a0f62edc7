// The crossover between two operators that serve the same calls: both are timed over a ladder of the field that
// decides, and calls up to the value where their times meet run the first.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "autotune/task.h"

namespace gdnjit::autotune {

// Times of both at one rung.
struct Rung {
  std::int64_t value = 0;  // of the field
  double below_us = 0;
  double above_us = 0;
};

// Where `above` begins to win for good: after the last rung at which `below` is no slower, between it and the next
// where the straight lines through their times meet. 0 if `above` wins everywhere, the last rung's value if nowhere.
// REQUIRES: rungs in rising order.
std::int64_t crossover_of(std::span<const Rung> rungs);

class CrossoverSearch : public Task {
 public:
  CrossoverSearch(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, const TunerOptions& options);

  const Operator& op() const override { return *op_; }
  const FieldMap& problem() const override { return problem_; }
  bool complete() const override { return complete_; }
  std::size_t steps() const override { return contests_.size(); }
  std::string step_text(std::size_t step) const override;
  std::shared_ptr<const Instance> instance_of(std::size_t step) const override { return contests_[step].instance; }
  void run(std::size_t step, Evaluator& evaluator) override;
  void finish(Evaluator& evaluator) override;
  TuneOutcome outcome() const override;

 private:
  // One part at one rung.
  struct Contest {
    std::size_t rung = 0;
    bool above = false;
    const Operator* op = nullptr;
    FieldMap problem, tiles;
    std::shared_ptr<const Instance> instance;
  };

  void build_ladder();
  void add_contests(std::int64_t value);
  void read_record();
  bool decided() const;
  cache::TuningRecord record_of(const std::string& tiles) const;
  double mean_us(std::int64_t crossover) const;

  Runtime::Impl* runtime_;
  const Operator* op_;
  FieldMap problem_;
  TunerOptions options_;
  std::string toolchain_;
  std::optional<Crossover> crossover_;  // nothing to find out without it
  std::vector<Rung> rungs_;
  std::vector<Contest> contests_;
  Digest key_;
  double error_ = 0;
  cache::TuningStatus status_ = cache::TuningStatus::ok;
  std::string reason_;
  bool complete_ = false;
  cache::TuningRecord best_, default_;
};

}  // namespace gdnjit::autotune

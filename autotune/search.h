// The search of one problem: which candidates are known, what remains to be done, who wins.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autotune/candidate.h"
#include "autotune/evaluator.h"
#include "autotune/task.h"
#include "autotune/tuner.h"

namespace gdnjit::autotune {

// A step checks a candidate without a record; the end times them all and chooses.
class Search : public Task {
 public:
  // Reads the records.
  Search(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, const TunerOptions& options);

  const Operator& op() const override { return *op_; }
  const FieldMap& problem() const override { return problem_; }
  bool complete() const override { return complete_; }
  std::size_t steps() const override { return open_.size(); }
  std::string step_text(std::size_t step) const override { return candidates_[open_[step]].text; }
  std::shared_ptr<const Instance> instance_of(std::size_t step) const override {
    return candidates_[open_[step]].instance;
  }
  void run(std::size_t step, Evaluator& evaluator) override { check(open_[step], evaluator); }
  void finish(Evaluator& evaluator) override;
  TuneOutcome outcome() const override;

 private:
  void check(std::size_t index, Evaluator& evaluator);
  cache::TuningRecord blank_record(const Candidate& candidate) const;
  void add_tuned_parts();
  void read_records();
  void store(Candidate& candidate, cache::TuningRecord record);
  void time(Evaluator& evaluator);
  void choose_winner();
  int binary_bytes(const Candidate& candidate) const;

  Runtime::Impl* runtime_;
  const Operator* op_;
  FieldMap problem_;
  TunerOptions options_;
  std::string toolchain_;
  bool measured_;  // else modelled
  std::vector<Candidate> candidates_;
  std::vector<std::size_t> open_;
  bool complete_ = false;
};

}  // namespace gdnjit::autotune

// The search of one problem: which candidates are known, what remains to be done, who wins.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autotune/candidate.h"
#include "autotune/evaluator.h"
#include "autotune/tuner.h"

namespace gdnjit::autotune {

// Not thread-safe. The order of calls: the constructor reads the records; if not complete(), check() every index of
// open_candidates(), then time_and_choose(). Every result is stored when it is known.
class Search {
 public:
  Search(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem, const TunerOptions& options);

  // Chosen before, by this toolchain, from these sources: nothing to do.
  bool complete() const { return complete_; }
  const std::vector<std::size_t>& open_candidates() const { return open_; }
  const Candidate& candidate(std::size_t index) const { return candidates_[index]; }
  const Operator& op() const { return *op_; }
  const FieldMap& problem() const { return problem_; }
  std::string text() const;  // "gdn.step B=64 H=16 ..."

  void check(std::size_t index, Evaluator& evaluator);
  void time_and_choose(Evaluator& evaluator);

  TuneOutcome outcome() const;

 private:
  cache::TuningRecord blank_record(const Candidate& candidate) const;
  void read_records();
  void store(Candidate& candidate, cache::TuningRecord record);
  void time(Evaluator& evaluator);
  void choose_winner();
  int binary_bytes(const Candidate& candidate) const;

  Runtime::Impl* runtime_;
  const Operator* op_;
  FieldMap problem_;  // the tuning bucket: what is searched and what records name
  TunerOptions options_;
  std::string toolchain_;
  bool measured_;  // else modelled
  std::vector<Candidate> candidates_;
  std::vector<std::size_t> open_;
  bool complete_ = false;
};

}  // namespace gdnjit::autotune

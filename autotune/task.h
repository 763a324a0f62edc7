// What the tuner does for one problem, in steps that can be stopped between.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "autotune/evaluator.h"
#include "autotune/tuner.h"
#include "codegen/operator.h"

namespace gdnjit::autotune {

// Not thread-safe. The order of calls: if not complete(), run() every step, then finish(). Every result is stored when
// it is known.
class Task {
 public:
  virtual ~Task() = default;
  virtual const Operator& op() const = 0;
  virtual const FieldMap& problem() const = 0;  // the tuning bucket: what is searched and what records name
  std::string text() const { return fmt::format("{} {}", op().name(), fields_text(problem())); }

  // Chosen before, by this toolchain, from these sources: nothing to do.
  virtual bool complete() const = 0;
  virtual std::size_t steps() const = 0;
  virtual std::string step_text(std::size_t step) const = 0;
  // Whose kernels the step runs, so that they can be compiled ahead; null if it runs none.
  virtual std::shared_ptr<const Instance> instance_of(std::size_t step) const = 0;
  virtual void run(std::size_t step, Evaluator& evaluator) = 0;
  virtual void finish(Evaluator& evaluator) = 0;
  virtual TuneOutcome outcome() const = 0;
};

// The search of tiles, or of a crossover for an operator that is made of others.
std::unique_ptr<Task> make_task(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                const TunerOptions& options);

}  // namespace gdnjit::autotune

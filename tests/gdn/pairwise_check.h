// Runs the cases of a pairwise search on the emulator. The axes "arch" and "inputs" belong to the loop, the others to
// the caller.
#pragma once

#include <doctest/doctest.h>

#include <map>

#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/pairwise.h"

namespace gdnjit::tests {

// `problem_of(case)` gives the problem, `tiles_of(case, problem, traits)` the tiles or nothing for the default.
template <typename ProblemOf, typename TilesOf>
void check_cases(const Operator& op, const std::vector<Axis>& axes, const std::vector<Case>& cases,
                 ProblemOf problem_of, TilesOf tiles_of) {
  std::map<std::string, std::unique_ptr<Runtime::Impl>> runtimes;
  MESSAGE(cases.size() << " cases");
  std::uint64_t input_seed = 0;
  for (const Case& built : cases) {
    const std::string arch = chosen(axes, built, "arch");
    auto& runtime = runtimes[arch];
    if (!runtime) runtime = emulator_runtime(arch);
    const FieldMap problem = problem_of(built);
    const std::optional<FieldMap> tiles = tiles_of(built, problem, runtime->device().info().traits);
    const auto inputs =
        chosen(axes, built, "inputs") == "brutal" ? reference::Inputs::brutal : reference::Inputs::typical;
    INFO("arch " << arch << ", " << fields_text(problem) << ", tiles " << (tiles ? fields_text(*tiles) : "default"));
    CHECK(check_problem(*runtime, op, problem, tiles, inputs, ++input_seed) == "");
  }
}

template <typename ProblemOf, typename TilesOf>
void check_every_pair(const Operator& op, const std::vector<Axis>& axes, const CaseRule& allowed, std::uint64_t seed,
                      ProblemOf problem_of, TilesOf tiles_of) {
  check_cases(op, axes, pairwise_cases(axes, allowed, seed), problem_of, tiles_of);
}

}  // namespace gdnjit::tests

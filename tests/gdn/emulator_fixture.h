// A Runtime on the emulator with a cache in memory, and the step operator's pieces.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "autotune/checker.h"
#include "codegen/registry.h"
#include "runtime/plan.h"
#include "runtime/runtime_impl.h"
#include "tests/reference/workload.h"

namespace gdnjit::tests {

inline std::unique_ptr<Runtime::Impl> emulator_runtime(const std::string& arch) {
  Options options = Options::from_environment();
  options.device = "emulator:" + arch;
  options.policy = Policy::heuristic;
  options.cache_directory.clear();
  options.read_only_caches.clear();
  return std::make_unique<Runtime::Impl>(options);
}

inline const Operator& step() { return find_operator("gdn.step"); }
inline const Operator& recurrent() { return find_operator("gdn.recurrent"); }
inline const Operator& chunk() { return find_operator("gdn.chunk"); }

// Plans and checks one problem; the text says what failed, "" if nothing did.
inline std::string check_problem(Runtime::Impl& runtime, const Operator& op, const FieldMap& problem,
                                 const std::optional<FieldMap>& tiles, reference::Inputs inputs, std::uint64_t seed) {
  try {
    const auto plan = make_plan(runtime, op, problem, tiles);
    const auto workload = reference::make_workload(op.name(), op.complete(problem), inputs, seed);
    const autotune::CheckResult result = autotune::check(*plan, *workload);
    return result.passed() ? "" : result.text();
  } catch (const Error& error) {
    return error.what();
  }
}

inline std::string check_step(Runtime::Impl& runtime, const FieldMap& problem, const std::optional<FieldMap>& tiles,
                              reference::Inputs inputs, std::uint64_t seed) {
  return check_problem(runtime, step(), problem, tiles, inputs, seed);
}

// The message of the Error that `call` throws, "" if it throws none.
inline std::string thrown(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace gdnjit::tests

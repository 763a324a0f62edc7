// Which tiles of a problem a command works on: --tiles and --all-tiles of compile and verify.
#pragma once

#include <string>
#include <vector>

#include "runtime/runtime_impl.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {

struct TilesArguments {
  explicit TilesArguments(std::string usual) : which(std::move(usual)) {}

  std::string which;  // "default", "chosen", "all", or fields
  bool all = false;

  void declare(Arguments& arguments);

  // default: the operator's heuristic. chosen: what plan() takes, so from tuning records if there are any.
  // all: the operator's search space. Anything else is read as "name=value ..", laid over the default.
  // Throws invalid_argument for fields that the operator does not know or that cannot serve the problem.
  std::vector<FieldMap> tiles_of(const SelectedProblem& selected, const Runtime::Impl& runtime) const;
};

}  // namespace gdnjit::tool

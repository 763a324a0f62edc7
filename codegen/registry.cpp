#include "codegen/registry.h"

#include <array>
#include <string>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/forward.h"
#include "codegen/gdn/recurrent.h"
#include "codegen/gdn/step.h"
#include "codegen/moe/align.h"
#include "codegen/moe/forward.h"
#include "codegen/moe/products.h"
#include "codegen/moe/route.h"
#include "runtime/support/check.h"
#include "runtime/support/text.h"

namespace gdnjit {

std::span<const Operator* const> operators() {
  static const std::array<const Operator*, 9> table{
      &gdn::step_operator(),    &gdn::recurrent_operator(), &gdn::chunk_operator(),
      &gdn::forward_operator(), &moe::route_operator(),     &moe::align_operator(),
      &moe::up_operator(),      &moe::down_operator(),      &moe::forward_operator(),
  };
  return table;
}

const Operator& find_operator(std::string_view name) {
  std::vector<std::string> known;
  for (const Operator* op : operators()) {
    if (op->name() == name) return *op;
    known.emplace_back(op->name());
  }
  fail(ErrorCode::invalid_argument, "operator '{}': unknown{}", name, suggestion(name, known));
}

}  // namespace gdnjit

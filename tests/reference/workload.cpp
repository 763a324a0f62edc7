#include "tests/reference/workload.h"

#include <utility>

#include "runtime/support/check.h"
#include "tests/reference/gdn_recurrent_workload.h"
#include "tests/reference/gdn_step_workload.h"
#include "tests/reference/moe_align_workload.h"
#include "tests/reference/moe_route_workload.h"

namespace gdnjit::reference {
namespace {

[[noreturn]] void refuse(std::string_view operator_name) {
  fail(ErrorCode::invalid_argument,
       "operator '{}' has no reference workload; known: gdn.step, gdn.recurrent, gdn.chunk, gdn.forward, moe.route, "
       "moe.align",
       operator_name);
}

}  // namespace

std::unique_ptr<Workload> make_workload(std::string_view operator_name, const FieldMap& problem, Inputs inputs,
                                        std::uint64_t seed) {
  if (operator_name == "gdn.step") return make_gdn_step_workload(problem, inputs, seed);
  if (operator_name == "gdn.recurrent") return make_gdn_recurrent_workload(problem, inputs, seed);
  if (operator_name == "gdn.chunk") return make_gdn_chunk_workload(problem, inputs, seed);
  if (operator_name == "gdn.forward") return make_gdn_forward_workload(problem, inputs, seed);
  if (operator_name == "moe.route") return make_moe_route_workload(problem, inputs, seed);
  if (operator_name == "moe.align") return make_moe_align_workload(problem, inputs, seed);
  refuse(operator_name);
}

std::unique_ptr<CallWorkload> make_call_workload(std::string_view operator_name, const CallDescription& call,
                                                 std::vector<std::vector<std::byte>> contents) {
  if (operator_name == "gdn.step") return make_gdn_step_workload(call, std::move(contents));
  if (operator_name == "gdn.recurrent") return make_gdn_recurrent_workload(call, std::move(contents));
  if (operator_name == "gdn.chunk") return make_gdn_chunk_workload(call, std::move(contents));
  if (operator_name == "gdn.forward") return make_gdn_forward_workload(call, std::move(contents));
  if (operator_name == "moe.route") return make_moe_route_workload(call, std::move(contents));
  if (operator_name == "moe.align") return make_moe_align_workload(call, std::move(contents));
  refuse(operator_name);
}

}  // namespace gdnjit::reference

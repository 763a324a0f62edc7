#include "tests/reference/workload.h"

#include <array>
#include <utility>

#include "runtime/support/check.h"
#include "runtime/support/text.h"
#include "tests/reference/gdn_recurrent_workload.h"
#include "tests/reference/gdn_step_workload.h"
#include "tests/reference/moe_align_workload.h"
#include "tests/reference/moe_experts_workload.h"
#include "tests/reference/moe_route_workload.h"

namespace gdnjit::reference {
namespace {

// An operator's workloads: drawn, and of a given call.
struct Maker {
  std::string_view operator_name;
  std::unique_ptr<Workload> (*draw)(const FieldMap&, Inputs, std::uint64_t);
  std::unique_ptr<CallWorkload> (*take)(const CallDescription&, std::vector<std::vector<std::byte>>);
};

constexpr std::array kMakers{
    Maker{"gdn.step", make_gdn_step_workload, make_gdn_step_workload},
    Maker{"gdn.recurrent", make_gdn_recurrent_workload, make_gdn_recurrent_workload},
    Maker{"gdn.chunk", make_gdn_chunk_workload, make_gdn_chunk_workload},
    Maker{"gdn.forward", make_gdn_forward_workload, make_gdn_forward_workload},
    Maker{"moe.route", make_moe_route_workload, make_moe_route_workload},
    Maker{"moe.align", make_moe_align_workload, make_moe_align_workload},
    Maker{"moe.up", make_moe_up_workload, make_moe_up_workload},
    Maker{"moe.down", make_moe_down_workload, make_moe_down_workload},
    Maker{"moe.forward", make_moe_forward_workload, make_moe_forward_workload},
};

const Maker& find_maker(std::string_view operator_name) {
  std::vector<std::string> known;
  for (const Maker& maker : kMakers) {
    if (maker.operator_name == operator_name) return maker;
    known.emplace_back(maker.operator_name);
  }
  fail(ErrorCode::invalid_argument, "operator '{}' has no reference workload; known: {}", operator_name,
       join(known, ", "));
}

}  // namespace

std::unique_ptr<Workload> make_workload(std::string_view operator_name, const FieldMap& problem, Inputs inputs,
                                        std::uint64_t seed) {
  return find_maker(operator_name).draw(problem, inputs, seed);
}

std::unique_ptr<CallWorkload> make_call_workload(std::string_view operator_name, const CallDescription& call,
                                                 std::vector<std::vector<std::byte>> contents) {
  return find_maker(operator_name).take(call, std::move(contents));
}

}  // namespace gdnjit::reference

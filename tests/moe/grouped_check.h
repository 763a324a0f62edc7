// Calls of the grouped class of moe.up and moe.down on the emulator, with tiles and ids that a test chooses.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codegen/gdn/options_names.h"
#include "codegen/moe/grouped.h"
#include "codegen/moe/options_names.h"
#include "codegen/moe/products.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/reference/numeric.h"

namespace gdnjit::tests {

inline FieldMap tiles_text(std::string_view text) {
  return to_fields(from_fields<moe::ProductTiles>(parse_fields(std::string(text))));
}

inline constexpr const char* kTiles = "path=mma block_m=32 block_n=64 block_k=64 warps=4 stages=3";

// What checking a call says whose ids are `ids`, repeated to the end, in poisoned outputs.
inline autotune::CheckResult routing_result(const char* op, const std::string& problem_text,
                                            const std::vector<int>& ids, const std::string& tiles = kTiles) {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = find_operator(op).complete(parse_fields(problem_text));
  HostCall drawn(reference::make_workload(op, problem, reference::Inputs::typical, 7)->tensors());
  for (std::size_t i = 0; i < drawn["topk_ids"].bytes.size() / 4; ++i) {
    reference::store_element(DType::i32, drawn["topk_ids"].bytes.data(), static_cast<std::int64_t>(i),
                             ids[i % ids.size()]);
  }
  std::vector<std::vector<std::byte>> contents;
  for (const TensorSpec& spec : find_operator(op).tensors(problem)) contents.push_back(drawn[spec.name].bytes);
  const CallDescription call{problem, find_operator(op).tensors(problem)};
  const auto workload = reference::make_call_workload(op, call, contents);
  const auto plan = make_plan(*runtime, find_operator(op), problem, tiles_text(tiles));
  return autotune::check(*plan, workload->tensors(), [&](const auto& results) { return workload->compare(results); });
}

// "" if the call is right.
inline std::string check_routing(const char* op, const std::string& problem_text, const std::vector<int>& ids,
                                 const std::string& tiles = kTiles) {
  const autotune::CheckResult result = routing_result(op, problem_text, ids, tiles);
  return result.passed() ? "" : result.text();
}

}  // namespace gdnjit::tests

#include "runtime/gdn_chunk.h"

#include <array>
#include <optional>

#include "codegen/gdn/chunk.h"
#include "codegen/gdn/chunk_names.h"
#include "codegen/registry.h"
#include "runtime/plan_cache.h"
#include "runtime/runtime_impl.h"
#include "runtime/support/check.h"

namespace gdnjit::gdn {

ChunkPlan plan(Runtime& runtime, const ChunkProblem& problem) {
  auto& plans = runtime.impl().plans().chunks();
  if (const auto* found = plans.find(problem)) return ChunkPlan(*found);
  auto made = find_or_make_plan(runtime.impl(), find_operator("gdn.chunk"), to_fields(problem));
  return ChunkPlan(plans.insert(problem, std::make_shared<ChunkPlan::Prepared>(ChunkPlan::Prepared{problem, made})));
}

void chunk(Runtime& runtime, const ChunkProblem& problem, const ChunkArgs& args, void* stream) {
  std::optional<NoTuning> no_tuning;
  if (runtime.impl().device().capturing(stream)) no_tuning.emplace();
  plan(runtime, problem).run(args, stream);
}

void ChunkPlan::run(const ChunkArgs& args, void* stream) const {
  require(prepared_ != nullptr, "ChunkPlan: it is empty; make it with gdnjit::gdn::plan()");
  std::array<TensorView, kMaxChunkTensors> tensors;
  const std::size_t count = gather_chunk_args(prepared_->problem, args, tensors);
  prepared_->plan->run(std::span(tensors.data(), count), stream);
}

const PlanInfo& ChunkPlan::info() const {
  require(prepared_ != nullptr, "ChunkPlan: it is empty; make it with gdnjit::gdn::plan()");
  return prepared_->plan->info();
}

}  // namespace gdnjit::gdn

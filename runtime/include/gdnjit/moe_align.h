// moe.align: the pairs (token, slot) of a call in the order of their experts, for kernels that work through whole
// experts.
#pragma once

#include <gdnjit/dtype.h>
#include <gdnjit/moe_options.h>
#include <gdnjit/runtime.h>
#include <gdnjit/tensor.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace gdnjit::moe {

// Pair m k + s is slot s of token m. An expert's pairs keep their order, so equal ids give equal bits. A pair whose id
// is below 0 or not below known_experts, or whose expert is not here (expert_map), is left out.
//   sorted: every expert's pairs in a row, padded to a multiple of block_m; padding has pair number M k. expert_ids has
//     the expert of each block of block_m rows; total_padded the rows in use. Beyond them, up to
//     align_capacity(M k, E, block_m) rows, pair numbers are M k and expert_ids -1.
//   contiguous: the same, and for each row its expert, -1 for padding (DeepGEMM's grouped_layout)
//   masked: max_rows rows for every expert, of which masked_m[e] are used; the others have pair number M k. What pairs
//     an expert has beyond its max_rows, in order, is left out, and `dropped` says how many: nothing is written out of
//     range
struct AlignProblem {
  std::int64_t tokens = 64;  // M. Selects the tuned tiles; a plan serves every M
  int top_k = 8;             // k, likewise
  int experts = 256;         // E: those whose weights are here
  AlignLayout layout = AlignLayout::sorted;
  int block_m = 16;             // of sorted and contiguous, up to 1024
  std::int64_t max_rows = 64;   // of masked, taken from the tensor; E times it below 2^31
  bool expert_map = false;      // ids are looked up: expert parallelism
  int known_experts = 0;        // ids are 0 to this; 0: E. With expert_map its size, taken from the tensor
  DType id_dtype = DType::i32;  // i32 or i64
  bool programmatic = false;    // programmatic dependent launch, sm_90 and later

  friend bool operator==(const AlignProblem&, const AlignProblem&) = default;
};

// Visits every field as visitor(name, member).
template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, AlignProblem>
constexpr void visit_fields(Self& problem, Visitor&& visit) {
  visit("M", problem.tokens);
  visit("k", problem.top_k);
  visit("E", problem.experts);
  visit("layout", problem.layout);
  visit("block_m", problem.block_m);
  visit("max_rows", problem.max_rows);
  visit("expert_map", problem.expert_map);
  visit("known_experts", problem.known_experts);
  visit("id_dtype", problem.id_dtype);
  visit("programmatic", problem.programmatic);
}

// The tensors of one call, dense. Outputs may be larger than this call needs: only its own part is written.
struct AlignArgs {
  TensorView topk_ids{};         // [M,k]
  TensorView expert_map{};       // [known_experts] i32, expert_map: the expert's number here, or -1
  TensorView sorted_pair_ids{};  // [at least align_capacity(M k, E, block_m)] i32
  TensorView expert_ids{};       // [at least that / block_m] i32
  TensorView total_padded{};     // [1] i32
  TensorView grouped_layout{};   // contiguous: as sorted_pair_ids
  TensorView masked_pair_ids{};  // masked: [E,max_rows] i32
  TensorView masked_m{};         // masked: [E] i32
  TensorView dropped{};          // masked: [1] i32
};

// Ready to run. Cheap to copy; keeps its kernel loaded.
class AlignPlan {
 public:
  struct Prepared;  // runtime/moe_align.h

  AlignPlan() = default;
  explicit AlignPlan(std::shared_ptr<const Prepared> prepared) : prepared_(std::move(prepared)) {}
  explicit operator bool() const { return prepared_ != nullptr; }

  // One launch on `stream`; allocates nothing, synchronises nothing, legal inside graph capture. M and k are taken from
  // the tensors; with M = 0 there are no rows. Throws invalid_argument before any device work.
  void run(const AlignArgs& args, void* stream = nullptr) const;
  const PlanInfo& info() const;

 private:
  std::shared_ptr<const Prepared> prepared_;
};

// As gdn::plan(): may compile, load or tune once; an equal problem is a look-up from then on.
AlignPlan plan(Runtime& runtime, const AlignProblem& problem);

// plan(...).run(...). While `stream` is captured nothing is tuned.
void align(Runtime& runtime, const AlignProblem& problem, const AlignArgs& args, void* stream = nullptr);

}  // namespace gdnjit::moe

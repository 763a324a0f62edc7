#include "tests/reference/moe_align_workload.h"

#include <algorithm>
#include <string>
#include <utility>

#include "codegen/moe/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/given_call.h"
#include "tests/reference/moe_align.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using moe::AlignProblem;

// A token's experts: different ones, as a router names them.
void add_typical_token(int top_k, std::int64_t known, Random& random, std::vector<std::int64_t>& ids) {
  const std::size_t first = ids.size();
  while (static_cast<std::int64_t>(ids.size() - first) < top_k) {
    const std::int64_t id = random.below(known);
    const auto begin = ids.begin() + static_cast<std::ptrdiff_t>(first);
    const bool all_taken = static_cast<std::int64_t>(ids.size() - first) >= known;
    if (all_taken || std::find(begin, ids.end(), id) == ids.end()) ids.push_back(id);
  }
}

// One expert for all of a call's tokens, or many that are nobody's, or one expert twice.
std::int64_t brutal_id(DType dtype, std::int64_t known, std::int64_t kind, Random& random) {
  if (kind == 0) return known / 2;
  if (kind == 1 && random.one_in(2)) return random.one_in(2) ? -1 : known + random.below(3);
  if (kind == 1 && random.one_in(4)) return dtype == DType::i64 ? std::int64_t{1} << (32 + random.below(20)) : -7777777;
  return random.below(std::min<std::int64_t>(known, 3));
}

class AlignWorkload : public ExpectedWorkload {
 public:
  AlignWorkload(const AlignProblem& problem, std::vector<TensorSpec> specs, Inputs kind, std::uint64_t seed)
      : problem_(problem) {
    tensors_ = poisoned_tensors(std::move(specs));
    const std::int64_t known = problem.known_experts;
    for (HostTensor& tensor : tensors_) {
      Random random(seed, tensor.spec.name);
      std::vector<std::int64_t> numbers;
      if (tensor.spec.name == "topk_ids") {
        const std::int64_t brutal = random.below(3);
        for (std::int64_t token = 0; token < problem.tokens; ++token) {
          if (kind == Inputs::typical) {
            add_typical_token(problem.top_k, known, random, numbers);
          } else {
            for (int slot = 0; slot < problem.top_k; ++slot) {
              numbers.push_back(brutal_id(tensor.spec.dtype, known, brutal, random));
            }
          }
        }
        fill_indices(tensor, numbers);
      } else if (tensor.spec.name == "expert_map") {
        // The experts that are here, in some order, among those that are not; brutally also numbers of none.
        numbers = shuffled(known, random);
        for (std::int64_t& number : numbers) {
          if (number > problem.experts) number = kind == Inputs::brutal && random.one_in(4) ? number : 0;
          --number;
        }
        fill_indices(tensor, numbers);
      }
    }
    compute();
  }

  AlignWorkload(const AlignProblem& problem, const CallDescription& call, std::vector<std::vector<std::byte>> contents)
      : problem_(problem) {
    tensors_ = given_tensors(call, std::move(contents));
    compute();
  }

 private:
  std::vector<std::int64_t> indices_of(std::string_view name) const {
    std::vector<std::int64_t> indices;
    for (const HostTensor& tensor : tensors_) {
      if (tensor.spec.name != name) continue;
      for (const double number : load_all(tensor.spec.dtype, tensor.bytes)) {
        indices.push_back(static_cast<std::int64_t>(number));
      }
    }
    return indices;
  }

  void compute() {
    const AlignOutputs outputs = align(problem_, indices_of("topk_ids"), indices_of("expert_map"));
    const auto put = [this](const char* name, const std::vector<std::int64_t>& numbers) {
      expected_.emplace_back(name, std::vector<double>(numbers.begin(), numbers.end()));
    };
    put("sorted_pair_ids", outputs.sorted_pair_ids);
    put("expert_ids", outputs.expert_ids);
    put("total_padded", outputs.total_padded);
    put("grouped_layout", outputs.grouped_layout);
    put("masked_pair_ids", outputs.masked_pair_ids);
    put("masked_m", outputs.masked_m);
    put("dropped", outputs.dropped);
  }

  // Every element, exactly.
  Expectation expectation(const HostTensor& tensor) const override {
    for (const auto& [name, numbers] : expected_) {
      if (name != tensor.spec.name) continue;
      const std::span<const double> all(numbers);
      return {.tolerance = 0, .regions = {{0, static_cast<std::int64_t>(all.size()), false, [all] { return all; }}}};
    }
    GDNJIT_CHECK(false, "an output '{}' that is unknown to the workload", tensor.spec.name);
  }

  AlignProblem problem_;
  std::vector<std::pair<std::string, std::vector<double>>> expected_;
};

}  // namespace

std::unique_ptr<Workload> make_moe_align_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  const Operator& op = find_operator("moe.align");
  const FieldMap complete = op.complete(problem);
  return std::make_unique<AlignWorkload>(from_fields<AlignProblem>(complete), op.tensors(complete), inputs, seed);
}

std::unique_ptr<CallWorkload> make_moe_align_workload(const CallDescription& call,
                                                      std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<AlignWorkload>(from_fields<AlignProblem>(call.problem), call, std::move(contents));
}

}  // namespace gdnjit::reference

#include "tests/reference/moe_route_workload.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "codegen/moe/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/find_tensor.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/given_call.h"
#include "tests/reference/moe_route.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using moe::RouteProblem;

constexpr double kWeightTolerance = 1e-5;  // moe.md, section 6
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One row of logits, of a kind of its own.
std::vector<double> brutal_row(int experts, Random& random) {
  const std::int64_t kind = random.below(8);
  std::vector<double> row;
  for (int e = 0; e < experts; ++e) {
    const double x = 2 * random.normal();
    switch (kind) {
      case 0: row.push_back(std::round(2 * x) / 2); break;  // ties
      case 1: row.push_back(0.25); break;                   // nothing but ties
      case 2: row.push_back(random.one_in(4) ? std::nan("") : x); break;
      case 3: row.push_back(random.one_in(8) ? x : -kInfinity); break;
      case 4: row.push_back(random.one_in(4) ? kInfinity : random.one_in(2) ? -kInfinity : x); break;
      case 5: row.push_back(std::nan("")); break;
      case 6: row.push_back(1e4 * x); break;
      default: row.push_back(random.one_in(2) ? 0.0 : -0.0); break;
    }
  }
  return row;
}

class RouteWorkload : public CallWorkload {
 public:
  RouteWorkload(const RouteProblem& problem, std::vector<TensorSpec> specs, Inputs kind, std::uint64_t seed)
      : problem_(problem), tensors_(poisoned_tensors(std::move(specs))) {
    for (HostTensor& tensor : tensors_) {
      if (tensor.spec.role != TensorRole::input) continue;
      Random random(seed, tensor.spec.name);
      std::vector<double> numbers;
      const std::int64_t count = elements(tensor.spec);
      const bool is_logits = tensor.spec.name == "logits";
      while (static_cast<std::int64_t>(numbers.size()) < count) {
        if (is_logits && kind == Inputs::brutal) {
          const std::vector<double> row = brutal_row(problem_.experts, random);
          numbers.insert(numbers.end(), row.begin(), row.end());
        } else if (kind == Inputs::brutal) {
          numbers.push_back(std::round(4 * random.normal()) / 8);
        } else {
          numbers.push_back(random.normal() * (is_logits ? 2 : 0.25));
        }
      }
      for (std::int64_t i = 0; i < count; ++i) {
        store_element(tensor.spec.dtype, tensor.bytes.data(), i, numbers[static_cast<std::size_t>(i)]);
      }
    }
  }

  RouteWorkload(const RouteProblem& problem, const CallDescription& call, std::vector<std::vector<std::byte>> contents)
      : problem_(problem), tensors_(given_tensors(call, std::move(contents))) {}

  const std::vector<HostTensor>& tensors() const override { return tensors_; }

  std::vector<OutputError> compare(const std::vector<HostTensor>& results) const override {
    std::vector<OutputError> errors = changed_inputs(results);
    const std::vector<double> weights = numbers_of(results, "topk_weights"), found = numbers_of(results, "topk_ids");
    const std::vector<double> logits = numbers_of(tensors_, "logits");
    const std::vector<double> router_bias = numbers_of(tensors_, "router_bias");
    const std::vector<double> selection_bias = numbers_of(tensors_, "selection_bias");
    const auto E = static_cast<std::size_t>(problem_.experts), k = static_cast<std::size_t>(problem_.top_k);
    ErrorMeter meter;
    std::int64_t wrong = 0;
    for (std::size_t token = 0; token < logits.size() / E; ++token) {
      const RouteInputs inputs{std::span(logits).subspan(token * E, E), router_bias, selection_bias};
      const RouteScores scores = route_scores(problem_, inputs);
      const auto first = found.begin() + static_cast<std::ptrdiff_t>(token * k);
      std::vector<std::int64_t> ids(first, first + problem_.top_k);
      if (!routes_agree(problem_, inputs, scores, ids)) {
        ++wrong;
        ids = route_ids(problem_, scores);
      }
      const std::vector<double> expected = route_weights(problem_, scores, ids);
      for (std::size_t slot = 0; slot < k; ++slot) meter.add(weights[token * k + slot], expected[slot]);
    }
    errors.push_back(meter.finish("topk_weights", DType::f32, kWeightTolerance));
    errors.push_back({.tensor = "topk_ids (tokens with wrong ones)",
                      .rms_ratio = static_cast<double>(wrong),
                      .max_ratio = static_cast<double>(wrong)});
    return errors;
  }

  // Where two runs chose different experts each is judged by itself, so only equal ids have weights to compare.
  std::vector<OutputError> compare_with(const std::vector<HostTensor>& others,
                                        const std::vector<HostTensor>& results) const override {
    std::vector<OutputError> errors = changed_inputs(results);
    const std::vector<double> ids = numbers_of(results, "topk_ids"), other_ids = numbers_of(others, "topk_ids");
    const std::vector<double> weights = numbers_of(results, "topk_weights");
    const std::vector<double> other_weights = numbers_of(others, "topk_weights");
    ErrorMeter id_meter, weight_meter;
    for (std::size_t i = 0; i < other_ids.size(); ++i) id_meter.add(ids[i], other_ids[i]);
    for (std::size_t i = 0; i < other_weights.size(); ++i) {
      if (other_ids.empty() || ids[i] == other_ids[i]) weight_meter.add(weights[i], other_weights[i]);
    }
    errors.push_back(weight_meter.finish("topk_weights", DType::f32, 2 * kWeightTolerance));
    errors.push_back(id_meter.finish("topk_ids", problem_.id_dtype, 0));
    return errors;
  }

 private:
  std::vector<OutputError> changed_inputs(const std::vector<HostTensor>& results) const {
    GDNJIT_CHECK(results.size() == tensors_.size(), "{} tensors for {}", results.size(), tensors_.size());
    std::vector<OutputError> errors;
    for (std::size_t i = 0; i < results.size(); ++i) {
      const bool changed = results[i].bytes != tensors_[i].bytes;
      if (tensors_[i].spec.role == TensorRole::input && changed) {
        errors.push_back(untouched_error(tensors_[i].spec.name + " (input)", 1));
      }
    }
    return errors;
  }

  RouteProblem problem_;
  std::vector<HostTensor> tensors_;
};

}  // namespace

std::unique_ptr<Workload> make_moe_route_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  const Operator& op = find_operator("moe.route");
  const FieldMap complete = op.complete(problem);
  return std::make_unique<RouteWorkload>(from_fields<RouteProblem>(complete), op.tensors(complete), inputs, seed);
}

std::unique_ptr<CallWorkload> make_moe_route_workload(const CallDescription& call,
                                                      std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<RouteWorkload>(from_fields<RouteProblem>(call.problem), call, std::move(contents));
}

}  // namespace gdnjit::reference

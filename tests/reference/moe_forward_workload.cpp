#include <algorithm>
#include <cmath>
#include <functional>
#include <mutex>
#include <string>
#include <utility>

#include "codegen/moe/forward.h"
#include "codegen/moe/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/find_tensor.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/given_call.h"
#include "tests/reference/moe_draw.h"
#include "tests/reference/moe_experts.h"
#include "tests/reference/moe_experts_workload.h"
#include "tests/reference/moe_route.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using moe::ExpertsProblem;
using moe::ForwardProblem;
using moe::RouteProblem;

// The layer from logits (or ids) to y; h is not rounded but to e4m3, where the problem says so.
class ForwardWorkload : public ExpectedWorkload {
 public:
  ForwardWorkload(const FieldMap& fields, Inputs kind, std::uint64_t seed) {
    const Operator& op = find_operator("moe.forward");
    const FieldMap complete = op.complete(fields);
    set_problem(from_fields<ForwardProblem>(complete));
    tensors_ = poisoned_tensors(op.tensors(complete));
    draw_routing(kind, seed);
    route();
    draw_weights(experts_, pair_experts_, seed, tensors_);
    for (HostTensor& tensor : tensors_) {
      if (tensor.spec.name == "x" || tensor.spec.name == "shared_gate") draw_normal(tensor, kind, seed);
    }
  }

  ForwardWorkload(const CallDescription& call, std::vector<std::vector<std::byte>> contents) {
    set_problem(from_fields<ForwardProblem>(call.problem));
    tensors_ = given_tensors(call, std::move(contents));
    route();
  }

  std::vector<std::pair<std::size_t, HostTensor>> redraw(std::uint64_t seed) const override {
    const std::string name = problem_.route ? "logits" : "topk_ids";
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].spec.name != name) continue;
      std::vector<HostTensor> drawn{tensors_[i]};
      if (problem_.route) {
        draw_logits(drawn[0], seed);
      } else {
        if (const HostTensor* map = find_tensor(tensors_, "expert_map")) drawn.push_back(*map);
        draw_ids(experts_, Inputs::typical, seed, drawn);
      }
      return {{i, drawn[0]}};
    }
    return {};
  }

 private:
  void set_problem(const ForwardProblem& problem) {
    problem_ = problem;
    experts_ = moe::experts_of(problem);
    route_ = moe::route_of(problem);
  }

  // A map of which the ids do not matter yet, biases, then logits or ids.
  void draw_routing(Inputs kind, std::uint64_t seed) {
    for (const char* name : {"router_bias", "selection_bias"}) {
      HostTensor* const bias = find_tensor(tensors_, name);
      if (bias == nullptr) continue;
      Random random(seed, name);
      for (std::int64_t e = 0; e < bias->spec.shape[0]; ++e) {
        store_element(bias->spec.dtype, bias->bytes.data(), e, 0.25 * random.normal());
      }
    }
    if (!problem_.route) {
      draw_ids(experts_, kind, seed, tensors_);
      draw_topk_weights(*find_tensor(tensors_, "topk_weights"), seed);
      return;
    }
    draw_logits(*find_tensor(tensors_, "logits"), seed);
    if (HostTensor* const map = find_tensor(tensors_, "expert_map")) draw_map(*map, seed);
  }

  static void draw_logits(HostTensor& tensor, std::uint64_t seed) {
    Random random(seed, "logits");
    const std::int64_t count = tensor.spec.shape[0] * tensor.spec.shape[1];
    for (std::int64_t i = 0; i < count; ++i) {
      store_element(tensor.spec.dtype, tensor.bytes.data(), i, 2 * random.normal());
    }
  }

  // Every expert here has one id, the other ids none.
  void draw_map(HostTensor& map, std::uint64_t seed) const {
    Random random(seed, "map");
    const std::vector<std::int64_t> order = shuffled(map.spec.shape[0], random);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const bool here = static_cast<int>(i) < problem_.experts;
      store_element(DType::i32, map.bytes.data(), order[i] - 1, here ? static_cast<double>(i) : -1);
    }
  }

  // What each token's slots are and weigh, by the reference's own routing where the call routes.
  void route() {
    HostTensor ids{{"topk_ids", DType::i64, {problem_.tokens, problem_.top_k}}, {}};
    if (!problem_.route) {
      ids = *find_tensor(tensors_, "topk_ids");
      routed_weights_ = numbers_of(tensors_, "topk_weights");
    } else {
      ids.bytes.resize(static_cast<std::size_t>(problem_.tokens * problem_.top_k * 8));
      const std::vector<double> logits = numbers_of(tensors_, "logits"),
                                router_bias = numbers_of(tensors_, "router_bias"),
                                selection_bias = numbers_of(tensors_, "selection_bias");
      const auto E = static_cast<std::size_t>(problem_.router_experts);
      for (std::int64_t m = 0; m < problem_.tokens; ++m) {
        const RouteInputs inputs{std::span(logits).subspan(static_cast<std::size_t>(m) * E, E), router_bias,
                                 selection_bias};
        const RouteScores scores = route_scores(route_, inputs);
        const std::vector<std::int64_t> own = route_ids(route_, scores);
        const std::vector<double> weights = route_weights(route_, scores, own);
        routed_weights_.insert(routed_weights_.end(), weights.begin(), weights.end());
        for (std::size_t s = 0; s < own.size(); ++s) {
          store_element(DType::i64, ids.bytes.data(), m * problem_.top_k + static_cast<std::int64_t>(s),
                        static_cast<double>(own[s]));
        }
      }
    }
    pair_experts_ = experts_of_pairs(experts_, ids, find_tensor(tensors_, "expert_map"));
  }

  // What is rounded to e4m3 must be what lies in memory: a number on the other side of a tie moves by 6 %.
  static void store_and_load(DType dtype, std::vector<double>& numbers) {
    std::byte element[8];
    for (double& number : numbers) {
      store_element(dtype, element, 0, number);
      number = load_element(dtype, element, 0);
    }
  }

  std::span<const double> expected() const {
    std::call_once(computed_, [&] {
      const std::vector<double> x = numbers_of(tensors_, "x");
      std::vector<double> shared;
      if (problem_.shared_gate) shared = shared_weights(experts_, x, numbers_of(tensors_, "shared_gate"));
      std::vector<double> weights;
      const auto slots = static_cast<std::size_t>(moe::slots_of(experts_)),
                 k = static_cast<std::size_t>(problem_.top_k);
      for (std::size_t pair = 0; pair < pair_experts_.size(); ++pair) {
        const std::size_t m = pair / slots, s = pair % slots;
        weights.push_back(s < k ? routed_weights_[m * k + s] : shared.empty() ? 1.0 : shared[m]);
      }
      std::vector<double> h = expert_up(experts_, x, pair_experts_, tensors_);
      if (experts_.activations == moe::ActivationFormat::fp8) store_and_load(experts_.h_dtype, h);
      y_ = expert_down(experts_, h, weights, pair_experts_, tensors_);
    });
    return y_;
  }

  // moe.md section 6: y is rounded once and h once.
  Expectation expectation(const HostTensor& tensor) const override {
    Expectation result;
    const bool exact = problem_.activations == moe::ActivationFormat::io && problem_.io_dtype == DType::f32 &&
                       tensor.spec.dtype == DType::f32;
    result.tolerance = exact ? 1e-5 : 5e-3;
    result.regions.push_back({0, tensor.spec.shape[0] * tensor.spec.shape[1], false, [this] { return expected(); }});
    return result;
  }

  ForwardProblem problem_;
  ExpertsProblem experts_;
  RouteProblem route_;
  std::vector<int> pair_experts_;
  std::vector<double> routed_weights_;
  mutable std::once_flag computed_;
  mutable std::vector<double> y_;
};

}  // namespace

std::unique_ptr<Workload> make_moe_forward_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return std::make_unique<ForwardWorkload>(problem, inputs, seed);
}
std::unique_ptr<CallWorkload> make_moe_forward_workload(const CallDescription& call,
                                                        std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<ForwardWorkload>(call, std::move(contents));
}

}  // namespace gdnjit::reference

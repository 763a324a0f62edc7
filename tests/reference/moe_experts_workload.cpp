#include "tests/reference/moe_experts_workload.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "codegen/moe/options_names.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"
#include "tests/reference/compare.h"
#include "tests/reference/find_tensor.h"
#include "tests/reference/gdn_draw.h"
#include "tests/reference/given_call.h"
#include "tests/reference/moe_draw.h"
#include "tests/reference/moe_experts.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {
namespace {

using moe::ExpertsProblem;

// moe.md section 6; an fp16 is rounded eight times finer than a bf16. Tensor cores add products of e4m3 with few
// digits.
double tolerance_of(DType stored, DType io, moe::ActivationFormat activations) {
  if (activations == moe::ActivationFormat::fp8) return 5e-3;
  if (io == DType::f32 && stored == DType::f32) return 1e-5;
  return stored == DType::f16 ? 1e-3 : 5e-3;
}

class ProductWorkload : public ExpectedWorkload {
 public:
  ProductWorkload(bool down, const FieldMap& fields, Inputs kind, std::uint64_t seed) : down_(down) {
    const Operator& op = find_operator(down ? "moe.down" : "moe.up");
    const FieldMap complete = op.complete(fields);
    problem_ = from_fields<ExpertsProblem>(complete);
    tensors_ = poisoned_tensors(op.tensors(complete));
    draw_ids(problem_, kind, seed, tensors_);
    find_experts();
    draw_weights(problem_, experts_, seed, tensors_);
    for (HostTensor& tensor : tensors_) {
      const std::string& name = tensor.spec.name;
      if (name == "topk_weights") draw_topk_weights(tensor, seed);
      if (name == "x" || name == "shared_gate") draw_normal(tensor, kind, seed);
      if (tensor.spec.role != TensorRole::input) continue;
      if (name == "h") draw_h(tensor, kind, seed);
      if (name == "shared_weights") draw_shared_weights(tensor, seed);
    }
  }

  std::vector<std::pair<std::size_t, HostTensor>> redraw(std::uint64_t seed) const override {
    std::vector<HostTensor> drawn;
    std::size_t place = 0;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const std::string& name = tensors_[i].spec.name;
      if (name == "topk_ids") place = i;
      if (name == "topk_ids" || name == "expert_map") drawn.push_back(tensors_[i]);
    }
    draw_ids(problem_, Inputs::typical, seed, drawn);
    return {{place, drawn[0]}};
  }

  ProductWorkload(bool down, const CallDescription& call, std::vector<std::vector<std::byte>> contents)
      : down_(down), problem_(from_fields<ExpertsProblem>(call.problem)) {
    tensors_ = given_tensors(call, std::move(contents));
    find_experts();
  }

 private:
  std::vector<double> numbers(std::string_view name) const {
    GDNJIT_CHECK(find_tensor(tensors_, name) != nullptr, "no tensor '{}'", name);
    return numbers_of(tensors_, name);
  }

  void find_experts() {
    experts_ = experts_of_pairs(problem_, *find_tensor(tensors_, "topk_ids"), find_tensor(tensors_, "expert_map"));
  }

  std::int64_t width_of(std::size_t pair) const {
    return experts_[pair] == problem_.experts ? problem_.shared_size : problem_.intermediate_size;
  }

  // Rows of pairs without an expert, and what lies behind a row's own numbers, stay poisoned.
  void draw_h(HostTensor& tensor, Inputs kind, std::uint64_t seed) {
    HostTensor all{tensor.spec, std::vector<std::byte>(tensor.bytes.size())};
    draw_normal(all, kind, seed);
    const auto element = static_cast<std::size_t>(dtype_bytes(tensor.spec.dtype));
    const auto row = static_cast<std::size_t>(moe::h_row_of(problem_)) * element;
    for (std::size_t pair = 0; pair < experts_.size(); ++pair) {
      if (experts_[pair] < 0) continue;
      const auto begin = all.bytes.begin() + static_cast<std::ptrdiff_t>(pair * row);
      std::copy_n(begin, static_cast<std::size_t>(width_of(pair)) * element,
                  tensor.bytes.begin() + static_cast<std::ptrdiff_t>(pair * row));
    }
  }

  static void draw_shared_weights(HostTensor& tensor, std::uint64_t seed) {
    Random random(seed, "shared_weights");
    for (std::int64_t m = 0; m < tensor.spec.shape[0]; ++m) {
      store_element(DType::f32, tensor.bytes.data(), m, random.uniform());
    }
  }

  // The reference is computed when it is first asked for. It sees what the device sees.
  std::span<const double> main_numbers() const {
    std::call_once(computed_, [&] {
      if (!down_) {
        main_ = expert_up(problem_, numbers("x"), experts_, tensors_);
        return;
      }
      const std::vector<double> own = numbers("topk_weights");
      const std::vector<double> shared = problem_.shared_gate ? numbers("shared_weights") : std::vector<double>();
      std::vector<double> weights;
      const auto slots = static_cast<std::size_t>(moe::slots_of(problem_)),
                 k = static_cast<std::size_t>(problem_.top_k);
      for (std::size_t pair = 0; pair < experts_.size(); ++pair) {
        const std::size_t m = pair / slots, s = pair % slots;
        weights.push_back(s < k ? own[m * k + s] : shared.empty() ? 1.0 : shared[m]);
      }
      main_ = expert_down(problem_, numbers("h"), weights, experts_, tensors_);
    });
    return main_;
  }

  Expectation expectation(const HostTensor& tensor) const override {
    Expectation result;
    result.tolerance =
        tolerance_of(tensor.spec.dtype, down_ ? problem_.h_dtype : problem_.io_dtype, problem_.activations);
    if (tensor.spec.name == "shared_weights") {
      result.tolerance = 1e-5;
      result.regions.push_back({0, tensor.spec.shape[0], false, [this] {
                                  shared_ = shared_weights(problem_, numbers("x"), numbers("shared_gate"));
                                  return std::span<const double>(shared_);
                                }});
    } else if (down_) {
      result.regions.push_back(
          {0, tensor.spec.shape[0] * tensor.spec.shape[1], false, [this] { return main_numbers(); }});
    } else {
      const std::int64_t row = moe::h_row_of(problem_);
      for (std::size_t pair = 0; pair < experts_.size(); ++pair) {
        if (experts_[pair] < 0) continue;
        const std::int64_t first = static_cast<std::int64_t>(pair) * row, count = width_of(pair);
        result.regions.push_back({first, count, false, [this, first, count] {
                                    return main_numbers().subspan(static_cast<std::size_t>(first),
                                                                  static_cast<std::size_t>(count));
                                  }});
      }
    }
    return result;
  }

  bool down_;
  ExpertsProblem problem_;
  std::vector<int> experts_;
  mutable std::once_flag computed_;
  mutable std::vector<double> main_;
  mutable std::vector<double> shared_;
};

}  // namespace

std::unique_ptr<Workload> make_moe_up_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return std::make_unique<ProductWorkload>(false, problem, inputs, seed);
}
std::unique_ptr<CallWorkload> make_moe_up_workload(const CallDescription& call,
                                                   std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<ProductWorkload>(false, call, std::move(contents));
}
std::unique_ptr<Workload> make_moe_down_workload(const FieldMap& problem, Inputs inputs, std::uint64_t seed) {
  return std::make_unique<ProductWorkload>(true, problem, inputs, seed);
}
std::unique_ptr<CallWorkload> make_moe_down_workload(const CallDescription& call,
                                                     std::vector<std::vector<std::byte>> contents) {
  return std::make_unique<ProductWorkload>(true, call, std::move(contents));
}

}  // namespace gdnjit::reference

#include "tests/reference/gdn_warmup.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace gdnjit::reference {
namespace {

double length(const std::vector<double>& x) {
  double squares = 0;
  for (const double element : x) squares += element * element;
  return std::sqrt(squares);
}

// The spectral norm of (I - beta kn kn^T) diag(e^g), from above.
double shrinking(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v) {
  const double key = length(normalized_key(layer, inputs, token, head_v));
  const double reflection = std::max(1.0, std::abs(1 - write_strength(layer, inputs, token, head_v) * key * key));
  const std::vector<double> alpha = decay(layer, inputs, token, head_v);
  return reflection * *std::max_element(alpha.begin(), alpha.end());
}

}  // namespace

WarmupBound::WarmupBound(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t warmup,
                         std::vector<WarmupSegment> segments)
    : layer_(layer), inputs_(inputs), warmup_(warmup), segments_(std::move(segments)) {}

void WarmupBound::visit(std::int64_t token, std::int64_t tokens_done, int head_v, const HeadState& S) {
  if (tokens_done == 1) pending_.clear();
  const double factor = shrinking(layer_, inputs_, token, head_v);
  for (Pending& one : pending_) one.factor *= factor;
  std::erase_if(pending_, [&](const Pending& one) { return one.segment.end < tokens_done; });

  state_.assign(static_cast<std::size_t>(layer_.head_dim_v), 0.0);
  for (const Pending& one : pending_) {
    if (tokens_done <= one.segment.first) continue;  // still warming up
    for (std::size_t v = 0; v < state_.size(); ++v) {
      state_[v] = std::max(state_[v], one.factor * one.lengths[v]);
    }
  }
  query_length_ = layer_.write_output ? scale_of(layer_) * length(normalized_query(layer_, inputs_, token, head_v)) : 0;

  for (const WarmupSegment& segment : segments_) {
    const std::int64_t begin = segment.first - warmup_;
    if (begin > 0 && begin == tokens_done) pending_.push_back({segment, 1.0, S.column_lengths()});
  }
}

std::vector<double> WarmupBound::output() const {
  std::vector<double> result = state_;
  for (double& bound : result) bound *= query_length_;
  return result;
}

}  // namespace gdnjit::reference

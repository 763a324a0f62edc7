// The Gated DeltaNet recurrence in double precision, written from the formula (gdnjit/gdn_options.h), apart from the
// kernels: one token of one head, and what it is made of. It is meant to be read beside the formula, not to be fast.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <span>
#include <vector>

namespace gdnjit::reference {

// The numbers of a call, dense and row-major in the logical shapes below, whatever layout they came from. Tokens are
// numbered through: b * T + t, or along a ragged batch.
struct LayerInputs {
  std::vector<double> q, k;     // [tokens,H,K]; q is empty with write_output = false
  std::vector<double> v;        // [tokens,HV,V]
  std::vector<double> a;        // a, g or alpha: [tokens,HV], per channel [tokens,HV,K]; empty with Gate::none
  std::vector<double> b;        // b or beta: [tokens,HV]; empty with Beta::none
  std::vector<double> a_log;    // [HV], gates with parameters
  std::vector<double> dt_bias;  // [HV], per channel [HV,K], gates with parameters
};

// q's factor after the norm.
double scale_of(const gdn::StepProblem& layer);

// x normalised as `norm` says.
std::vector<double> normalized(std::span<const double> x, gdn::Norm norm, double eps);

// exp(g) for each of the K key channels at one token of one value head; all equal unless the gate is per channel.
std::vector<double> decay(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v);

// k and q of one token for one value head, behind the norm; q without the scale.
std::vector<double> normalized_key(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t token,
                                   int head_v);
std::vector<double> normalized_query(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t token,
                                     int head_v);

// beta at one token of one value head.
double write_strength(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v);

// True for the values that mark a padded row or a state that is not stored.
bool is_sentinel(const gdn::StepProblem& layer, std::int64_t slot);

// One head's state, S[key][value], copied from and to the layer's layout.
class HeadState {
 public:
  HeadState(const gdn::StepProblem& layer, const double* stored);
  explicit HeadState(const gdn::StepProblem& layer);  // zeros

  void store(const gdn::StepProblem& layer, double* stored) const;
  std::span<double> operator[](int key) {
    return {numbers_.data() + std::int64_t{key} * values_, static_cast<std::size_t>(values_)};
  }
  std::vector<double> transposed_times(std::span<const double> x);  // S^T x
  std::vector<double> column_lengths() const;                       // for each value, over the keys

 private:
  template <typename Visit>
  void for_each(gdn::StateLayout layout, Visit visit) const;

  int keys_;
  int values_;
  std::vector<double> numbers_;
};

// One token of one value head: S becomes the next state, and o is returned (empty with write_output = false).
std::vector<double> advance(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t token, int head_v,
                            HeadState& S);

}  // namespace gdnjit::reference

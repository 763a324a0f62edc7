// Random inputs of Gated DeltaNet layers, and the tensors that hold them.
#pragma once

#include <gdnjit/gdn.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "tests/reference/numeric.h"
#include "tests/reference/workload.h"

namespace gdnjit::reference {

// Every byte 0xff: a NaN in each floating format, and -1 as an integer.
inline constexpr std::byte kPoison{0xff};

// Draws the numbers of a call. Each function fills one logical tensor; the layout comes later.
class Draw {
 public:
  Draw(const gdn::StepProblem& layer, Inputs inputs, std::uint64_t seed)
      : layer_(layer), brutal_(inputs == Inputs::brutal), seed_(seed) {}

  // q or k, row by row of K. Without a norm in the kernel the caller's vectors have unit length, as engines pass them.
  std::vector<double> query_or_key(std::string_view name, std::int64_t rows) const;
  std::vector<double> value(std::int64_t rows) const;
  std::vector<double> gate(std::size_t count) const;
  std::vector<double> strength(std::size_t count) const;
  std::vector<double> a_log(std::size_t count) const;
  std::vector<double> dt_bias(std::size_t count) const;
  std::vector<double> state(std::size_t count) const;
  // Of a mixer. The convolution's output of unit-normal inputs has about their length; without a norm in the kernel,
  // q's and k's channels have about unit length behind it.
  std::vector<double> conv_weight(std::int64_t channels) const;
  std::vector<double> conv_bias(std::int64_t channels) const;
  std::vector<double> conv_state(std::size_t count) const;
  std::vector<double> output_gate(std::int64_t rows) const;  // z, row by row of V
  std::vector<double> norm_weight(std::size_t count) const;

 private:
  double brutal_length(Random& random) const;
  double typical_gate(Random& random) const;
  double brutal_gate(Random& random) const;

  gdn::StepProblem layer_;
  bool brutal_;
  std::uint64_t seed_;
};

std::int64_t elements(const TensorSpec& spec);

// Tensors for the specs, poisoned.
std::vector<HostTensor> poisoned_tensors(std::vector<TensorSpec> specs);

// Fills `tensor` if it is one of a layer's inputs (q, k, v, packed, a, b, a_log, dt_bias) or of a mixer's that are not
// states; false if it is not.
bool fill_input(HostTensor& tensor, const gdn::StepProblem& layer, std::int64_t tokens, const Draw& draw);

// Fills the given rows (of dimension 0) of a tensor of states; the others stay poisoned, so that a wrong row shows as
// NaN. Large states repeat what was drawn once: drawing gigabytes would take longer than everything else. The period is
// a prime, so heads differ.
void fill_states(HostTensor& tensor, const std::vector<std::int64_t>& rows, const Draw& draw);
// The same for a tensor of the convolution's states.
void fill_conv_states(HostTensor& tensor, const std::vector<std::int64_t>& rows, const Draw& draw);

void fill_indices(HostTensor& tensor, const std::vector<std::int64_t>& indices);

// The numbers 1 .. count in random order.
std::vector<std::int64_t> shuffled(std::int64_t count, Random& random);

// On rms ratios, from gdn.md section 6, after `tokens` tokens.
double output_tolerance(const gdn::StepProblem& layer, std::int64_t tokens);
double state_tolerance(const gdn::StepProblem& layer, std::int64_t tokens);
// The convolution's states are inputs: exact where their dtype holds them.
double conv_state_tolerance(const gdn::StepProblem& layer);

}  // namespace gdnjit::reference

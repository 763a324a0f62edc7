// What surrounds the recurrence of a mixer, in double precision: the convolution of q, k and v, and the gated norm.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <span>
#include <vector>

#include "tests/reference/gdn_layer.h"

namespace gdnjit::reference {

// The numbers of the convolution and the norm. Channels are q H*K | k H*K | v HV*V, states the inputs before the call,
// the oldest first.
struct MixerInputs {
  std::vector<double> conv_weight;           // [channels, width]
  std::vector<double> conv_bias;             // [channels]; empty without
  std::vector<double> conv_state;            // [rows, channels, width - 1]
  std::vector<double> accepted_conv_states;  // [B,accepted columns, channels, width - 1]
  std::vector<double> z;                     // [tokens,HV,V]
  std::vector<double> norm_weight;           // [V]
};

std::int64_t conv_channels(const gdn::StepProblem& problem);

// The input of channel `channel` at token `token`: an element of q, k or v.
double& conv_input(const gdn::StepProblem& problem, LayerInputs& inputs, std::int64_t token, std::int64_t channel);

// What one token of one channel sees: conv_width inputs, the oldest first, its own last. `parents` holds, for each
// token of the sequence up to this one, the token before it (t - 1 unless they form a tree), and -1 for the initial
// `state`; `sequence_inputs` holds the channel's inputs.
std::vector<double> conv_window(std::span<const double> state, std::span<const std::int64_t> parents,
                                std::span<const double> sequence_inputs, std::int64_t token);

// silu(bias + sum_j weight_j window_j)
double convolved(std::span<const double> weight, double bias, std::span<const double> window);

// w (o rsqrt(mean(o^2) + eps)) act(z) of one token of one value head.
std::vector<double> gated_norm(const gdn::StepProblem& problem, const MixerInputs& inputs, std::int64_t token,
                               int head_v, std::span<const double> o);

}  // namespace gdnjit::reference

// The Gated DeltaNet step in double precision, written from the formula (gdnjit/gdn_options.h), apart from the
// kernels. It is meant to be read beside the formula, not to be fast.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <span>
#include <vector>

namespace gdnjit::reference {

// The numbers of one call, dense and row-major in the logical shapes below, whatever layout they came from.
struct StepInputs {
  std::vector<double> q, k;     // [B,T,H,K]
  std::vector<double> v;        // [B,T,HV,V]
  std::vector<double> a;        // a, g or alpha: [B,T,HV], per channel [B,T,HV,K]; empty with Gate::none
  std::vector<double> b;        // b or beta: [B,T,HV]; empty with Beta::none
  std::vector<double> a_log;    // [HV], gates with parameters
  std::vector<double> dt_bias;  // [HV], per channel [HV,K], gates with parameters
  std::vector<double> state;    // [B or slots,HV,K,V] or [..,V,K] as StepProblem::state_layout says
  std::vector<std::int64_t> read_slot, write_slot;  // [B], StateStore::pool
};

struct StepOutputs {
  std::vector<double> o;                // [B,T,HV,V]; the rows of padded sequences hold 0
  std::vector<double> state;            // [B,HV,..] in the problem's layout: what each sequence stores
  std::vector<std::int64_t> state_row;  // [B]: the row of the stored state, -1 for a padded sequence
};

// Row `sequence` is padding: it has no state, and its output follows StepProblem::pad_policy.
bool is_padded(const gdn::StepProblem& problem, const StepInputs& inputs, std::int64_t sequence);

// q's factor after the norm.
double scale_of(const gdn::StepProblem& problem);

// x normalised as `norm` says.
std::vector<double> normalized(std::span<const double> x, gdn::Norm norm, double eps);

// exp(g) for each of the K key channels at one token of one value head; all equal unless the gate is per channel.
std::vector<double> decay(const gdn::StepProblem& problem, const StepInputs& inputs, std::int64_t token, int head_v);

// beta at one token (index sequence * T + t) of one value head.
double write_strength(const gdn::StepProblem& problem, const StepInputs& inputs, std::int64_t token, int head_v);

// The whole call.
StepOutputs step(const gdn::StepProblem& problem, const StepInputs& inputs);

}  // namespace gdnjit::reference

// How far a call of gdn.chunk with a warm-up may be from the recurrence: the bound of gdnjit/gdn_chunk.h, from the
// gates and states of one call.
#pragma once

#include <gdnjit/gdn.h>

#include <cstdint>
#include <vector>

#include "tests/reference/gdn_layer.h"

namespace gdnjit::reference {

// A segment that some choice of tiles would cut a sequence into: tokens [first, end) of it.
struct WarmupSegment {
  std::int64_t first = 0;
  std::int64_t end = 0;
};

// Follows the recurrence token by token and keeps the largest bound of all segments that a token may lie in. A segment
// that begins within `warmup` tokens of the sequence's start is exact.
class WarmupBound {
 public:
  WarmupBound(const gdn::StepProblem& layer, const LayerInputs& inputs, std::int64_t warmup,
              std::vector<WarmupSegment> segments);

  // To be called behind each token of a sequence and a value head, in order: its number among all tokens, how many of
  // the sequence are done, and the state. The next token of another sequence or head has tokens_done = 1.
  void visit(std::int64_t token, std::int64_t tokens_done, int head_v, const HeadState& S);

  // Of the token last visited, for each column of V: of |S' - S| over K, and of |o' - o|.
  const std::vector<double>& state() const { return state_; }
  std::vector<double> output() const;

 private:
  struct Pending {
    WarmupSegment segment;
    double factor;                // what the tokens since its beginning have left of it
    std::vector<double> lengths;  // of the columns of the state at its beginning
  };

  const gdn::StepProblem& layer_;
  const LayerInputs& inputs_;
  std::int64_t warmup_;
  std::vector<WarmupSegment> segments_;
  std::vector<Pending> pending_;
  std::vector<double> state_;
  double query_length_ = 0;
};

}  // namespace gdnjit::reference

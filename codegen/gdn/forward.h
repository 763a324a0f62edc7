// gdn.forward on the host: no kernels of its own, but those of gdn.step, gdn.recurrent and gdn.chunk, and the choice
// between them in each call.
#pragma once

#include <gdnjit/gdn_forward.h>

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "codegen/gdn/chunk.h"
#include "codegen/operator.h"

namespace gdnjit::gdn {

const Operator& forward_operator();

// Fills in the scale and checks every rule. Throws invalid_argument.
ForwardProblem complete_forward(ForwardProblem problem);

// What the tuner may choose; the rest of the tiles are those of the parts, as "recurrent.block_v".
struct ForwardTiles {
  int crossover = 0;  // tokens a sequence up to which gdn.recurrent serves

  friend bool operator==(const ForwardTiles&, const ForwardTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, ForwardTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) { visit("crossover", tiles.crossover); }

// The measured default: it falls with B * HV, because the device is full of gdn.recurrent's heads before it is of
// gdn.chunk's products.
int default_crossover(const ForwardProblem& problem, const DeviceTraits& device);

enum class ForwardPath : unsigned char { step, recurrent, chunk };

// The problems of the operators that a completed problem's calls may run; those that its options rule out are missing.
struct ForwardPaths {
  std::optional<StepProblem> step;
  std::optional<RecurrentProblem> recurrent;
  std::optional<ChunkProblem> chunk;

  explicit ForwardPaths(const ForwardProblem& completed);

  std::vector<OperatorPart> parts() const;  // gdn.chunk last

  // Which one serves a call, with `tokens` for each sequence (of a ragged batch the average, rounded up).
  // REQUIRES: recurrent or chunk is there.
  ForwardPath choose(std::int64_t tokens, int crossover) const;
};

// The tensors that the problem uses, in call order: those of gdn.chunk, or of gdn.recurrent where gdn.chunk is ruled
// out.
std::vector<TensorSpec> forward_tensors(const ForwardProblem& problem);

// Puts the arguments into the order of forward_tensors and returns their number. Allocates nothing.
std::size_t gather_forward_args(const ForwardProblem& problem, const ForwardArgs& args,
                                std::span<TensorView, kMaxChunkTensors> tensors);

}  // namespace gdnjit::gdn

// moe.route on the host. Its template is templates/moe/route.cuh.
#pragma once

#include <gdnjit/moe_route.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "codegen/operator.h"
#include "moe/route_config.cuh"

namespace gdnjit::moe {

const Operator& route_operator();

// What the tuner may choose. The name is that of RouteConfig.
struct RouteTiles {
  int warps = 1;

  friend bool operator==(const RouteTiles&, const RouteTiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, RouteTiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) { visit("warps", tiles.warps); }

// Checks every rule. Throws invalid_argument ("k=40: must be 1 to 32").
RouteProblem complete_route(RouteProblem problem);

// The kernel's config: problems that the same kernel serves have one. So softmax with renormalize, of which only the
// chosen are left, is topk_softmax wherever experts are chosen by their logits.
RouteConfig route_config(const RouteProblem& problem, const RouteTiles& tiles);

// The tensors that the problem uses, in call order.
std::vector<TensorSpec> route_tensors(const RouteProblem& problem);

inline constexpr std::size_t kMaxRouteTensors = 5;

// Puts the arguments into the order of route_tensors and returns their number. Allocates nothing.
std::size_t gather_route_args(const RouteProblem& problem, const RouteArgs& args,
                              std::span<TensorView, kMaxRouteTensors> tensors);

// The kernel's parameter block from tensors in that order. Returns M.
std::int64_t pack_route(const RouteProblem& problem, const RouteConfig& config, std::span<const TensorView> tensors,
                        RouteParams& params);

}  // namespace gdnjit::moe

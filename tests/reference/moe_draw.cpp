#include "tests/reference/moe_draw.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include "codegen/moe/experts.h"
#include "tests/reference/find_tensor.h"
#include "tests/reference/numeric.h"

namespace gdnjit::reference {

using moe::ExpertsProblem;
using moe::WeightFormat;

namespace {

std::int64_t elements(const HostTensor& tensor) {
  return static_cast<std::int64_t>(tensor.bytes.size()) / dtype_bytes(tensor.spec.dtype);
}

void store(HostTensor& tensor, std::int64_t index, double value) {
  store_element(tensor.spec.dtype, tensor.bytes.data(), index, value);
}

// `k` different numbers below `limit`.
std::vector<std::int64_t> distinct(std::int64_t k, std::int64_t limit, Random& random) {
  std::vector<std::int64_t> chosen;
  while (static_cast<std::int64_t>(chosen.size()) < k) {
    const std::int64_t number = random.below(limit);
    if (std::find(chosen.begin(), chosen.end(), number) == chosen.end()) chosen.push_back(number);
  }
  return chosen;
}

// What a random code is worth, root mean square, so that scales can make the weights 1/sqrt(K).
double code_rms(const ExpertsProblem& problem) {
  switch (problem.weights) {
    case WeightFormat::int4: return 4.6;
    case WeightFormat::int8: return 74;
    case WeightFormat::fp8_block: return 96;
    case WeightFormat::mxfp4:
    case WeightFormat::nvfp4: return 2.9;
    default: return 1;
  }
}

// Elements [first, first + count) of a tensor of codes or of 16-bit weights of size 2^-exponent.
void draw_codes(const ExpertsProblem& problem, std::int64_t first, std::int64_t count, int exponent, Random& random,
                HostTensor& tensor) {
  const std::size_t bytes = static_cast<std::size_t>(count * dtype_bytes(tensor.spec.dtype));
  std::byte* const begin = tensor.bytes.data() + first * dtype_bytes(tensor.spec.dtype);
  for (std::size_t at = 0; at < bytes; at += 8) {
    std::uint64_t bits = random.bits();
    // Sign and fraction are random, the exponent is one of two.
    if (problem.weights == WeightFormat::bf16) {
      const std::uint64_t step = (bits >> 8 & 0x0001000100010001u) << 7;
      bits = (bits & 0x807f807f807f807fu) + 0x0001000100010001u * (static_cast<unsigned>(127 - exponent) << 7) + step;
    } else if (problem.weights == WeightFormat::f16) {
      const std::uint64_t step = (bits >> 11 & 0x0001000100010001u) << 10;
      bits = (bits & 0x83ff83ff83ff83ffu) + 0x0001000100010001u * (static_cast<unsigned>(15 - exponent) << 10) + step;
    } else if (problem.weights == WeightFormat::fp8_block) {
      // No code of NaN: the largest exponent loses a bit.
      const std::uint64_t top = bits & bits << 1 & bits << 2 & bits << 3 & 0x4040404040404040u;
      bits &= ~(top >> 3);
    }
    std::memcpy(begin + at, &bits, std::min<std::size_t>(8, bytes - at));
  }
}

void draw_scales(const ExpertsProblem& problem, std::int64_t first, std::int64_t count, double size, Random& random,
                 HostTensor& tensor) {
  for (std::int64_t i = first; i < first + count; ++i) {
    const double factor = random.uniform(0.5, 1.5);
    if (problem.weights == WeightFormat::mxfp4) {
      const int exponent = static_cast<int>(std::lround(std::log2(size * factor)));
      tensor.bytes[static_cast<std::size_t>(i)] = static_cast<std::byte>(127 + exponent);
    } else if (problem.weights == WeightFormat::nvfp4) {
      // Around 1, and some subnormal; the size is the global scale's.
      tensor.bytes[static_cast<std::size_t>(i)] = static_cast<std::byte>(random.one_in(16) ? 5 : 52 + random.below(12));
    } else {
      store(tensor, i, size * factor);
    }
  }
}

// One ExpertWeights: what lies there for one expert.
void draw_expert(const ExpertsProblem& problem, const moe::ProductShape& shape, std::int64_t expert, Random random,
                 std::vector<HostTensor>& tensors) {
  const std::string name(shape.name);
  const double size = 1.0 / std::sqrt(static_cast<double>(shape.columns));
  const auto part = [&](std::string_view suffix, auto&& draw) {
    HostTensor* const tensor = find_tensor(tensors, name + std::string(suffix));
    if (tensor == nullptr) return;
    const std::int64_t own = elements(*tensor) / shape.experts;
    draw(*tensor, expert * own, own);
  };
  part("", [&](HostTensor& tensor, std::int64_t first, std::int64_t count) {
    draw_codes(problem, first, count, static_cast<int>(std::lround(-std::log2(size))) + 1, random, tensor);
  });
  part("_scale", [&](HostTensor& tensor, std::int64_t first, std::int64_t count) {
    draw_scales(problem, first, count, size / code_rms(problem), random, tensor);
  });
  part("_global_scale",
       [&](HostTensor& tensor, std::int64_t first, std::int64_t) { store(tensor, first, size / code_rms(problem)); });
  part("_zero", [&](HostTensor& tensor, std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i) {
      if (tensor.spec.dtype == DType::u8) {
        tensor.bytes[static_cast<std::size_t>(i)] = static_cast<std::byte>(random.bits());
      } else {
        store(tensor, i, size * random.uniform(-1, 1));
      }
    }
  });
  part("_bias", [&](HostTensor& tensor, std::int64_t first, std::int64_t count) {
    for (std::int64_t i = first; i < first + count; ++i) store(tensor, i, random.normal());
  });
}

}  // namespace

void draw_ids(const ExpertsProblem& problem, Inputs kind, std::uint64_t seed, std::vector<HostTensor>& tensors) {
  HostTensor& ids = *find_tensor(tensors, "topk_ids");
  HostTensor* const map = find_tensor(tensors, "expert_map");
  Random random(seed, "ids");
  std::int64_t limit = problem.experts;
  if (map != nullptr) {
    // Which half is here, in random order.
    limit = map->spec.shape[0];
    const std::vector<std::int64_t> here = distinct(std::min<std::int64_t>(problem.experts, limit), limit, random);
    for (std::int64_t i = 0; i < limit; ++i) store(*map, i, -1);
    for (std::size_t e = 0; e < here.size(); ++e) store(*map, here[e], static_cast<double>(e));
  }
  const std::int64_t M = ids.spec.shape[0], k = ids.spec.shape[1];
  const std::int64_t only = kind == Inputs::brutal && seed % 2 == 0 ? random.below(limit) : -1;
  for (std::int64_t m = 0; m < M; ++m) {
    std::vector<std::int64_t> chosen = distinct(std::min(k, limit), limit, random);
    chosen.resize(static_cast<std::size_t>(k), chosen[0]);
    for (std::int64_t& id : chosen) {
      if (kind != Inputs::brutal) continue;
      if (only >= 0) id = only;
      if (random.one_in(5)) id = chosen[0];
      if (random.one_in(6)) id = random.one_in(2) ? -1 : limit + random.below(1 << 20);
    }
    for (std::int64_t s = 0; s < k; ++s)
      store(ids, m * k + s, static_cast<double>(chosen[static_cast<std::size_t>(s)]));
  }
}

void draw_topk_weights(HostTensor& tensor, std::uint64_t seed) {
  Random random(seed, "topk_weights");
  const std::int64_t k = tensor.spec.shape[1];
  for (std::int64_t m = 0; m < tensor.spec.shape[0]; ++m) {
    std::vector<double> weights;
    double sum = 0;
    for (std::int64_t s = 0; s < k; ++s) sum += weights.emplace_back(random.uniform(0.1, 1.0));
    for (std::int64_t s = 0; s < k; ++s) store(tensor, m * k + s, weights[static_cast<std::size_t>(s)] / sum);
  }
}

void draw_weights(const ExpertsProblem& problem, const std::vector<int>& experts, std::uint64_t seed,
                  std::vector<HostTensor>& tensors) {
  for (const int expert : std::set<int>(experts.begin(), experts.end())) {
    if (expert < 0) continue;
    const bool shared = expert == problem.experts;
    for (const moe::ProductShape& shape : {moe::up_shape(problem, shared), moe::down_shape(problem, shared)}) {
      if (find_tensor(tensors, shape.name) == nullptr) continue;
      const std::string stream = std::string(shape.name) + std::to_string(expert);
      draw_expert(problem, shape, shared ? 0 : expert, Random(seed, stream), tensors);
    }
  }
}

void draw_normal(HostTensor& tensor, Inputs kind, std::uint64_t seed) {
  Random random(seed, tensor.spec.name);
  const std::int64_t row = tensor.spec.shape.back();
  double size = 1;
  for (std::int64_t i = 0; i < elements(tensor); ++i) {
    if (kind == Inputs::brutal && i % row == 0) size = std::ldexp(1.0, static_cast<int>(random.below(12)) - 8);
    store(tensor, i, size * random.normal());
  }
}

}  // namespace gdnjit::reference

// gdn.chunk's prepare kernel by itself, against A, P and the factors in double precision.
#include <doctest/doctest.h>

#include <algorithm>

#include "tests/gdn/chunk_fixture.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

namespace {

struct Worst {
  double a = 0, p = 0, factors = 0;
};

// The largest of the records' rms ratios.
Worst worst_of(const ChunkCall& call, const std::vector<int>& lengths, int heads_v) {
  Worst worst;
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    for (int chunk = 0; chunk * kChunk < lengths[b]; ++chunk) {
      for (int hv = 0; hv < heads_v; ++hv) {
        const ChunkCall::Record actual = call.record(static_cast<int>(b), chunk, hv);
        const ChunkCall::Record expected = call.expected_record(static_cast<int>(b), chunk, hv);
        worst.a = std::max(worst.a, rms_ratio(actual.a, expected.a));
        worst.p = std::max(worst.p, rms_ratio(actual.p, expected.p));
        for (const auto& [x, y] :
             {std::pair(actual.state, expected.state), std::pair(actual.query, expected.query),
              std::pair(actual.key, expected.key), std::pair(std::vector{actual.decay}, std::vector{expected.decay})}) {
          worst.factors = std::max(worst.factors, rms_ratio(x, y));
        }
      }
    }
  }
  return worst;
}

Worst prepare(const ChunkSource& source, const std::vector<int>& lengths, Inputs inputs = Inputs::typical) {
  ChunkCall call(source, lengths, inputs, 5);
  call.prepare();
  const Worst worst = worst_of(call, lengths, source.config.heads_v);
  MESSAGE(source.text << ": A " << worst.a << " P " << worst.p << " factors " << worst.factors);
  return worst;
}

}  // namespace

TEST_CASE("records of a chunk agree with double precision") {
  const Worst worst = prepare(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 128), {100});
  CHECK(worst.a < 2e-3);
  CHECK(worst.p < 2e-3);
  CHECK(worst.factors < 1e-5);
}

// gdn.chunk's kernels together, launched by hand, against the recurrence in double precision.
#include <doctest/doctest.h>

#include "tests/gdn/chunk_fixture.h"

using namespace gdnjit;
using namespace gdnjit::gdn;
using namespace gdnjit::tests;
using reference::Inputs;

TEST_CASE("a sequence agrees with the recurrence") {
  ChunkCall call(GDNJIT_CHUNK_CONFIG(.heads_k = 1, .heads_v = 2, .head_dim_k = 128), {200}, Inputs::typical, 7);
  call.prepare();
  call.scan();
  const ChunkCall::Errors errors = call.errors();
  MESSAGE(errors.o << " " << errors.state);
  CHECK(errors.o < 5e-3);
  CHECK(errors.state < 5e-3);
}

// One call of gdn.chunk's kernels, judged by gdn.md's tolerance for 16-bit operands.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/gdn/chunk_fixture.h"

namespace gdnjit::tests {

inline void check_chunk(const ChunkSource& source, const std::vector<int>& lengths,
                        reference::Inputs inputs = reference::Inputs::typical, const std::string& arch = "sm_90a") {
  CAPTURE(source.text);
  ChunkCall call(source, lengths, inputs, 7, arch);
  call.prepare();
  call.scan();
  const ChunkCall::Errors errors = call.errors();
  CHECK(errors.o < 5e-3);
  CHECK(errors.state < 5e-3);
  CHECK(errors.checkpoints < 5e-3);
}

}  // namespace gdnjit::tests

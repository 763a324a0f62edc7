// What the sm_90a scan of gdn.chunk needs beside the parameters of every scan: the maps of the tensors that it copies
// in boxes.
#pragma once

#include <cstdint>

#include "codegen/tensor_map.h"
#include "gdn/chunk_sm90_config.cuh"

namespace gdnjit::gdn {

// Sets the maps of `params` for the tensors of params.call. `slots` is chunk_slots() of the call. Throws
// invalid_argument, naming the tensor, where one does not lie in whole 16 bytes.
void set_chunk_maps(const ChunkConfig& config, std::int64_t slots, TensorMapEncoder& encoder, ChunkSm90Params& params);

}  // namespace gdnjit::gdn

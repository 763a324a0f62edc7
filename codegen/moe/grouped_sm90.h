// The tensor maps of the grouped product with wgmma (templates/moe/grouped_sm90.cuh).
#pragma once

#include "codegen/tensor_map.h"
#include "moe/grouped_sm90_config.cuh"

namespace gdnjit::moe {

// Sets the maps from the weights in `params.grouped.call`. Throws invalid_argument for experts that lie where boxes
// cannot be copied from.
void set_weight_maps(const GroupedConfig& config, TensorMapEncoder& encoder, GroupedSm90Params& params);

}  // namespace gdnjit::moe

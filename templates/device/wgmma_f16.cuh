// wgmma_f16: products of fp16, k = 16, fp32 sums; any major.
#pragma once

#define GDNJIT_WGMMA_NAME wgmma_f16
#define GDNJIT_WGMMA_ELEMENT Element::f16
#define GDNJIT_WGMMA_TYPES "k16.f32.f16.f16"
#define GDNJIT_WGMMA_SUM float
#define GDNJIT_WGMMA_CONSTRAINT "f"
#define GDNJIT_WGMMA_SHARED(s, ta, tb) ", %" #s ", 1, %" #ta ", %" #tb
#define GDNJIT_WGMMA_REGISTERS(s, tb) ", %" #s ", 1, %" #tb
#include "device/wgmma_shapes.cuh"

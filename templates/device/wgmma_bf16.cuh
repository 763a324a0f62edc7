// wgmma_bf16: products of bf16, k = 16, fp32 sums; any major.
#pragma once

#define GDNJIT_WGMMA_NAME wgmma_bf16
#define GDNJIT_WGMMA_ELEMENT Element::bf16
#define GDNJIT_WGMMA_TYPES "k16.f32.bf16.bf16"
#define GDNJIT_WGMMA_SUM float
#define GDNJIT_WGMMA_CONSTRAINT "f"
#define GDNJIT_WGMMA_SHARED(s, ta, tb) ", %" #s ", 1, %" #ta ", %" #tb
#define GDNJIT_WGMMA_REGISTERS(s, tb) ", %" #s ", 1, %" #tb
#include "device/wgmma_shapes.cuh"

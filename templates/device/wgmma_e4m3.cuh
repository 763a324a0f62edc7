// wgmma_e4m3: products of e4m3, k = 32, fp32 sums; K-major only.
#pragma once

#define GDNJIT_WGMMA_NAME wgmma_e4m3
#define GDNJIT_WGMMA_ELEMENT Element::e4m3
#define GDNJIT_WGMMA_TYPES "k32.f32.e4m3.e4m3"
#define GDNJIT_WGMMA_SUM float
#define GDNJIT_WGMMA_CONSTRAINT "f"
#define GDNJIT_WGMMA_SHARED(s, ta, tb) ", %" #s ", 1"
#define GDNJIT_WGMMA_REGISTERS(s, tb) ", %" #s ", 1"
#include "device/wgmma_shapes.cuh"

// wgmma_s8: products of signed bytes, k = 32, 32-bit sums that wrap; K-major only, widths above 32 in steps of 16.
#pragma once

#define GDNJIT_WGMMA_NAME wgmma_s8
#define GDNJIT_WGMMA_ELEMENT Element::s8
#define GDNJIT_WGMMA_TYPES "k32.s32.s8.s8"
#define GDNJIT_WGMMA_SUM int
#define GDNJIT_WGMMA_CONSTRAINT "r"
#define GDNJIT_WGMMA_SHARED(s, ta, tb) ""
#define GDNJIT_WGMMA_REGISTERS(s, tb) ""
#include "device/wgmma_shapes.cuh"

// wgmma_tf32: products of tf32 (fp32 bits whose lowest 13 are ignored), k = 8; K-major only.
#pragma once

#define GDNJIT_WGMMA_NAME wgmma_tf32
#define GDNJIT_WGMMA_ELEMENT Element::tf32
#define GDNJIT_WGMMA_TYPES "k8.f32.tf32.tf32"
#define GDNJIT_WGMMA_SUM float
#define GDNJIT_WGMMA_CONSTRAINT "f"
#define GDNJIT_WGMMA_SHARED(s, ta, tb) ", %" #s ", 1"
#define GDNJIT_WGMMA_REGISTERS(s, tb) ", %" #s ", 1"
#include "device/wgmma_shapes.cuh"

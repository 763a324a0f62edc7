// What the kernel of a mixer takes beside StepParams. Host code includes this file too.
#pragma once

#include "gdn/step_config.cuh"

namespace gdnjit::gdn {

// States of the convolution, addressed by row (sequence or slot), token, channel and age. Strides count elements.
struct ConvStrides {
  long long row;
  long long token;
  long long channel;
  long long input;  // from one input to the next newer one
};

// The kernel's only argument, passed by value.
struct MixerParams : StepParams {
  const void* conv_weight;  // [channels, width], dense
  const void* conv_bias;    // [channels]
  const void* conv_in;      // [B or slots, channels, width - 1]
  void* conv_out;
  void* conv_steps;           // [B,T,channels, width - 1] or, with slots, the pool
  const void* conv_accepted;  // [B,any,channels, width - 1] or, with slots, the pool
  unsigned* conv_ticket;      // [B,H], zeros
  const void* z;              // [B,T,HV,V]
  const void* norm_weight;    // [V]
  ConvStrides conv_in_strides, conv_out_strides, conv_steps_strides, conv_accepted_strides;
  long long ticket_row;
  HeadStrides z_strides;
};

}  // namespace gdnjit::gdn

// How kernels of a GDN layer find elements: strides and index arrays in their parameter blocks. Host code includes this
// file too.
#pragma once

namespace gdnjit::gdn {

// A tensor addressed by sequence, token and value head. The head hv is (h, j): key head and place in its group, so one
// form serves separate, packed and interleaved inputs. Strides count elements. Ragged batches do
// not use `batch`: their tokens count from the start of the whole tensor.
struct HeadStrides {
  long long batch;
  long long token;
  long long key_head;
  long long group;
};

// States addressed by row (sequence or slot), token and value head.
struct StateStrides {
  long long row;
  long long token;
  long long head;
};

// An array of indices by sequence and, where it has two dimensions, token.
struct IndexArray {
  const void* data;
  long long row;
  long long token;
};

}  // namespace gdnjit::gdn

#include "runtime/support/heap.h"

#include <cstdlib>
#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace gdnjit {

void keep_heap() {
#ifdef __GLIBC__
  constexpr int kKept = 512 << 20, kStep = 32 << 20;
  mallopt(M_TRIM_THRESHOLD, kKept);
  mallopt(M_MMAP_THRESHOLD, kKept);  // smaller blocks come from the heap, not from mappings of their own
  mallopt(M_TOP_PAD, kStep);
#endif
}

}  // namespace gdnjit

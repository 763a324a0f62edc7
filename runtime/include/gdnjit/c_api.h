/* The C interface of gdnjit: plain C99, DLPack tensors, error codes. docs/c_api.md shows its use.
 *
 * Every function that can fail returns GDNJIT_OK (0) or a code; gdnjit_last_error() then says what was being done,
 * what failed and what to try. No exception crosses this border. All functions are thread-safe; a runtime or plan must
 * not be destroyed while another thread uses it. The order of destruction is free: a plan keeps its runtime alive.
 */
#ifndef GDNJIT_C_API_H_
#define GDNJIT_C_API_H_

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The values are those of gdnjit::ErrorCode. */
typedef enum gdnjit_code {
  GDNJIT_OK = 0,
  GDNJIT_INVALID_ARGUMENT = 2,   /* the message names argument, value and rule */
  GDNJIT_UNSUPPORTED = 3,        /* a valid request that this build or device cannot serve */
  GDNJIT_NVRTC_MISSING = 4,      /* something must be compiled and no NVRTC was found */
  GDNJIT_COMPILE_FAILED = 5,     /* the message holds NVRTC's first error */
  GDNJIT_DEVICE_UNAVAILABLE = 6, /* the device asked for is not there */
  GDNJIT_DEVICE_FAILED = 7,      /* a launch, copy or load failed, or the emulator found a fault */
  GDNJIT_OUT_OF_MEMORY = 8,
  GDNJIT_STRICT_MISS = 9, /* policy strict and the kernel is not in the cache */
  GDNJIT_IO = 10,         /* a file that the user named could not be read or written */
  GDNJIT_MISMATCH = 11,   /* outputs differ from the reference by more than the tolerance */
  GDNJIT_INTERNAL = 70    /* a bug of gdnjit: please report it */
} gdnjit_code;

typedef struct gdnjit_runtime gdnjit_runtime; /* a device, a cache and a compiler */
typedef struct gdnjit_plan gdnjit_plan;       /* kernels ready to run */

/* "0.1.0". */
const char* gdnjit_version(void);

/* The message of the calling thread's last failed call; "" if none failed. Valid until its next call of gdnjit. */
const char* gdnjit_last_error(void);

/* `options`: NULL for the defaults and the GDNJIT_* variables; else "name=value" pairs separated by ';' or newlines
 * that go on top of those: "device=emulator;policy=strict;cache_dir=/var/cache/gdnjit". The names are those of
 * gdnjit/options.h. On failure *runtime is NULL. */
int gdnjit_runtime_create(const char* options, gdnjit_runtime** runtime);
void gdnjit_runtime_destroy(gdnjit_runtime* runtime); /* NULL is allowed */

/* "NVIDIA H200 (sm_90a)" or "emulator of sm_90a"; valid as long as the runtime. NULL for a NULL runtime. */
const char* gdnjit_runtime_device_name(const gdnjit_runtime* runtime);
/* Where tensors must lie: kDLCUDA, or kDLCPU on the emulator. */
DLDevice gdnjit_runtime_device(const gdnjit_runtime* runtime);

/* Device memory, for programs without an allocator of their own; host memory does for the emulator. 256-byte aligned.
 * copy_out is complete on return; so is the use of `host` by copy_in. A NULL stream is the default stream. */
int gdnjit_allocate(gdnjit_runtime* runtime, size_t bytes, void** memory);
void gdnjit_release(gdnjit_runtime* runtime, void* memory); /* NULL is allowed */
int gdnjit_copy_in(gdnjit_runtime* runtime, void* device, const void* host, size_t bytes, void* stream);
int gdnjit_copy_out(gdnjit_runtime* runtime, void* host, const void* device, size_t bytes, void* stream);
int gdnjit_synchronize(gdnjit_runtime* runtime, void* stream);

/* Makes the plan of a problem. `operator_name` is "gdn.step", "gdn.recurrent", "gdn.chunk", "gdn.forward",
 * "moe.route", "moe.align", "moe.up", "moe.down" or "moe.forward"; `problem` is "H=16 HV=32 K=128 V=128 state=f32":
 * fields by name, the rest at their defaults (gdnjit/gdn.h, gdn_chunk.h, gdn_forward.h, moe_route.h, moe_align.h, moe.h
 * and moe_forward.h list both). May compile, load or tune; an equal problem is a look-up the next time. On failure
 * *plan is NULL. */
int gdnjit_plan_create(gdnjit_runtime* runtime, const char* operator_name, const char* problem, gdnjit_plan** plan);
/* The same with the fields as arrays of `count` names and values. */
int gdnjit_plan_create_from_fields(gdnjit_runtime* runtime, const char* operator_name, const char* const* names,
                                   const char* const* values, int count, gdnjit_plan** plan);
void gdnjit_plan_destroy(gdnjit_plan* plan); /* NULL is allowed */

/* The tensors that gdnjit_plan_run takes, in order. NULL for an index out of range; -1 for an unknown name. */
int gdnjit_plan_tensor_count(const gdnjit_plan* plan);
const char* gdnjit_plan_tensor_name(const gdnjit_plan* plan, int index);
int gdnjit_plan_tensor_index(const gdnjit_plan* plan, const char* name);

/* What is known of the plan: "operator", "problem", "tiles", "tiles_from" (exact, bucket, hint, heuristic), "compiled"
 * (true if any kernel was compiled for it, false). NULL for another name. The text is valid as long as the plan. */
const char* gdnjit_plan_info(const gdnjit_plan* plan, const char* name);

/* The kernels that a run launches, in order, and what is known of each: "entry", "signature", "key", "compiled",
 * "registers", "spill_bytes", "shared_bytes". NULL for another name or an index out of range. */
int gdnjit_plan_kernel_count(const gdnjit_plan* plan);
const char* gdnjit_plan_kernel_info(const gdnjit_plan* plan, int index, const char* name);

/* Bytes of the tensor "workspace" of gdn.chunk for up to that many sequences and tokens: T of each sequence, or all
 * tokens of a ragged batch. */
int gdnjit_chunk_workspace_bytes(const char* problem, int64_t sequences, int64_t tokens, size_t* bytes);
/* The same for a plan, and as this plan needs it: 0 for an operator without a workspace, and for a plan of gdn.forward
 * that serves all such calls without gdn.chunk. Of moe operators `sequences` times `tokens` is M. */
int gdnjit_plan_workspace_bytes(const gdnjit_plan* plan, int64_t sequences, int64_t tokens, size_t* bytes);

/* Launches on `stream` (a CUstream; NULL is the default stream; the emulator ignores it) and returns. Compiles nothing,
 * allocates nothing, synchronises nothing: legal inside CUDA graph capture. The batch size is taken from the tensors; a
 * batch of 0 is a no-op. Strides of NULL mean dense; byte_offset counts. A tensor updated in place is passed twice. */
int gdnjit_plan_run(const gdnjit_plan* plan, const DLTensor* const* tensors, int count, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* GDNJIT_C_API_H_ */

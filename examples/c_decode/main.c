/* One decode step of a small Gated DeltaNet layer from C. Build it in the tree, or outside with find_package(gdnjit).
 */
#include <gdnjit/c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { B = 2, H = 2, HV = 4, K = 64, V = 64, kTensors = 10, kAxes = 4 };

/* The layer, field by field; what is not named keeps its default. All tensors are f32 to keep the example short. */
static const char* const kProblem =
    "H=2 HV=4 K=64 V=64 io=f32 state=f32 output=f32 gate_dtype=f32 beta_dtype=f32 state_layout=vk";

typedef struct Tensor {
  const char* name;
  int rank;
  int64_t shape[kAxes];
} Tensor;

static const Tensor kLayer[kTensors] = {
    {"q", 4, {B, 1, H, K}},  {"k", 4, {B, 1, H, K}},         {"v", 4, {B, 1, HV, V}},
    {"a", 3, {B, 1, HV}},    {"b", 3, {B, 1, HV}},           {"a_log", 1, {HV}},
    {"dt_bias", 1, {HV}},    {"state_in", 4, {B, HV, V, K}}, {"state_out", 4, {B, HV, V, K}},
    {"o", 4, {B, 1, HV, V}},
};

static void check(int code) {
  if (code == GDNJIT_OK) return;
  fprintf(stderr, "%s\n", gdnjit_last_error());
  exit(code);
}

int main(void) {
  gdnjit_runtime* runtime;
  gdnjit_plan* plan;
  DLTensor tensors[kTensors];
  const DLTensor* arguments[kTensors];
  float* output;
  size_t output_bytes = 0;
  int index;

  check(gdnjit_runtime_create(NULL, &runtime)); /* GDNJIT_DEVICE and its like decide */
  check(gdnjit_plan_create(runtime, "gdn.step", kProblem, &plan));
  printf("device:  %s\nkernel:  %s (compiled now: %s)\n", gdnjit_runtime_device_name(runtime),
         gdnjit_plan_kernel_info(plan, 0, "key"), gdnjit_plan_info(plan, "compiled"));

  memset(tensors, 0, sizeof(tensors)); /* strides NULL: dense; byte_offset 0 */
  for (index = 0; index < kTensors; ++index) {
    const Tensor* layer = &kLayer[index];
    DLTensor* tensor = &tensors[index];
    size_t elements = 1, i;
    float* numbers;
    int axis;
    for (axis = 0; axis < layer->rank; ++axis) elements *= (size_t)layer->shape[axis];
    numbers = malloc(elements * sizeof(float));
    if (numbers == NULL) return GDNJIT_OUT_OF_MEMORY;
    for (i = 0; i < elements; ++i) numbers[i] = (float)rand() / (float)RAND_MAX - 0.5F;
    check(gdnjit_allocate(runtime, elements * sizeof(float), &tensor->data));
    check(gdnjit_copy_in(runtime, tensor->data, numbers, elements * sizeof(float), NULL));
    free(numbers);
    tensor->device = gdnjit_runtime_device(runtime);
    tensor->ndim = layer->rank;
    tensor->dtype.code = kDLFloat;
    tensor->dtype.bits = 32;
    tensor->dtype.lanes = 1;
    tensor->shape = (int64_t*)layer->shape; /* DLPack's shapes are not const; nobody writes them */
    arguments[gdnjit_plan_tensor_index(plan, layer->name)] = tensor;
    output_bytes = elements * sizeof(float); /* o comes last */
  }

  check(gdnjit_plan_run(plan, arguments, gdnjit_plan_tensor_count(plan), NULL));

  output = malloc(output_bytes);
  if (output == NULL) return GDNJIT_OUT_OF_MEMORY;
  check(gdnjit_copy_out(runtime, output, tensors[kTensors - 1].data, output_bytes, NULL));
  printf("o[0,0,0,:4] = %g %g %g %g\n", output[0], output[1], output[2], output[3]);
  free(output);
  for (index = 0; index < kTensors; ++index) gdnjit_release(runtime, tensors[index].data);
  gdnjit_plan_destroy(plan);
  gdnjit_runtime_destroy(runtime);
  return 0;
}

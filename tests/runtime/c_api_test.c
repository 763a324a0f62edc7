/* The C interface from a C99 program, on the emulator. Exit code 0: all held. */
#include <gdnjit/c_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                               \
  do {                                                                                 \
    if (!(condition)) {                                                                \
      printf("%d: %s  (last error: %s)\n", __LINE__, #condition, gdnjit_last_error()); \
      ++failures;                                                                      \
    }                                                                                  \
  } while (0)

enum { B = 2, H = 1, HV = 2, K = 16, V = 8, kMaxTensors = 16 };

/* No gate, no beta, no norm and an empty state leave o = (q.k) v and S = v k^T. */
static const char* const kProblem =
    "H=1 HV=2 K=16 V=8 io=f32 output=f32 state=f32 norm=none gate=none beta=none scale=1 state_layout=vk";

static float q[B * H * K], k[B * H * K], v[B * HV * V + 4], o[B * HV * V], state[B * HV * V * K];

typedef struct Call {
  DLTensor tensors[kMaxTensors];
  int64_t shapes[kMaxTensors][4];
  const DLTensor* pointers[kMaxTensors];
  int count;
} Call;

static void add(Call* call, const gdnjit_plan* plan, const char* name, void* data, int64_t b, int64_t c, int64_t d,
                int64_t e) {
  const int index = gdnjit_plan_tensor_index(plan, name);
  const int64_t shape[4] = {b, c, d, e};
  DLTensor* tensor = &call->tensors[index];
  CHECK(index >= 0 && index < kMaxTensors);
  CHECK(strcmp(gdnjit_plan_tensor_name(plan, index), name) == 0);
  memcpy(call->shapes[index], shape, sizeof(shape));
  memset(tensor, 0, sizeof(*tensor)); /* strides NULL: dense */
  tensor->data = data;
  tensor->device.device_type = kDLCPU;
  tensor->ndim = 4;
  tensor->dtype.code = kDLFloat;
  tensor->dtype.bits = 32;
  tensor->dtype.lanes = 1;
  tensor->shape = call->shapes[index];
  call->pointers[index] = tensor;
}

static void fill_call(Call* call, const gdnjit_plan* plan, int64_t batch) {
  memset(call, 0, sizeof(*call));
  call->count = gdnjit_plan_tensor_count(plan);
  CHECK(call->count == 6);
  add(call, plan, "q", q, batch, 1, H, K);
  add(call, plan, "k", k, batch, 1, H, K);
  add(call, plan, "v", v, batch, 1, HV, V);
  call->tensors[gdnjit_plan_tensor_index(plan, "v")].byte_offset = 4 * sizeof(float);
  add(call, plan, "state_in", state, batch, HV, V, K);
  add(call, plan, "state_out", state, batch, HV, V, K);
  add(call, plan, "o", o, batch, 1, HV, V);
}

static void check_outputs(void) {
  int b, h, i, j;
  for (b = 0; b < B; ++b) {
    double dot = 0;
    for (i = 0; i < K; ++i) dot += (double)q[b * K + i] * k[b * K + i];
    for (h = 0; h < HV; ++h) {
      for (j = 0; j < V; ++j) {
        const int at = (b * HV + h) * V + j;
        CHECK(fabs(o[at] - dot * v[at + 4]) < 1e-5);
        for (i = 0; i < K; ++i) CHECK(fabs(state[at * K + i] - (double)v[at + 4] * k[b * K + i]) < 1e-5);
      }
    }
  }
}

static void test_run(gdnjit_runtime* runtime) {
  gdnjit_plan* plan = NULL;
  gdnjit_plan* same = NULL;
  const char* const names[] = {"H", "HV", "K", "V"};
  const char* const values[] = {"1", "2", "16", "8"};
  Call call;
  int i, index;
  CHECK(gdnjit_plan_create(runtime, "gdn.step", kProblem, &plan) == GDNJIT_OK);
  if (plan == NULL) return;
  CHECK(strstr(gdnjit_plan_info(plan, "problem"), "HV=2") != NULL);
  CHECK(gdnjit_plan_kernel_count(plan) == 1 && gdnjit_plan_kernel_count(NULL) == 0);
  CHECK(strcmp(gdnjit_plan_kernel_info(plan, 0, "entry"), "gdnjit_gdn_step") == 0);
  CHECK(strlen(gdnjit_plan_kernel_info(plan, 0, "key")) == 32);
  CHECK(strcmp(gdnjit_plan_kernel_info(plan, 0, "compiled"), gdnjit_plan_info(plan, "compiled")) == 0);
  CHECK(gdnjit_plan_kernel_info(plan, 0, "colour") == NULL);
  CHECK(gdnjit_plan_kernel_info(plan, 1, "key") == NULL && gdnjit_plan_kernel_info(plan, -1, "key") == NULL);
  CHECK(strcmp(gdnjit_plan_info(plan, "tiles_from"), "heuristic") == 0);
  CHECK(gdnjit_plan_info(plan, "colour") == NULL);
  CHECK(gdnjit_plan_tensor_name(plan, 99) == NULL);
  CHECK(gdnjit_plan_tensor_name(plan, -1) == NULL);
  CHECK(gdnjit_plan_tensor_index(plan, "z") == -1);

  for (i = 0; i < B * H * K; ++i) {
    q[i] = 0.01F * (float)(i % 7 - 3);
    k[i] = 0.02F * (float)(i % 5 - 1);
  }
  for (i = 0; i < B * HV * V; ++i) v[i + 4] = 0.1F * (float)(i % 11 - 5);
  fill_call(&call, plan, B);
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
  check_outputs();

  /* The plan serves every batch; zero does nothing. */
  o[0] = 77;
  fill_call(&call, plan, 0);
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
  CHECK(o[0] == 77);

  fill_call(&call, plan, B);
  index = gdnjit_plan_tensor_index(plan, "k");
  call.tensors[index].dtype.bits = 64;
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_INVALID_ARGUMENT);
  CHECK(strncmp(gdnjit_last_error(), "k: element type", 15) == 0);
  call.pointers[index] = NULL;
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_INVALID_ARGUMENT);
  CHECK(strstr(gdnjit_last_error(), "k: is null") != NULL);
  CHECK(gdnjit_plan_run(plan, call.pointers, 3, NULL) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_plan_run(NULL, call.pointers, 6, NULL) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_plan_run(plan, NULL, 6, NULL) == GDNJIT_INVALID_ARGUMENT);

  CHECK(gdnjit_plan_create_from_fields(runtime, "gdn.step", names, values, 4, &same) == GDNJIT_OK);
  CHECK(same != NULL && strstr(gdnjit_plan_info(same, "problem"), "K=16 V=8") != NULL);
  gdnjit_plan_destroy(same);
  gdnjit_plan_destroy(plan);
}

/* Two tokens at once by gdn.recurrent, by gdn.step and by gdn.forward leave the bits of two steps. */
static void test_tokens(gdnjit_runtime* runtime) {
  static const char* const kNames[] = {"gdn.step", "gdn.recurrent", "gdn.forward"};
  static const char* const kMore[] = {" T=2", " initial_state=dense", " initial_state=dense T=100"};
  static float once_o[2 * HV * V], once_state[HV * V * K], start[HV * V * K];
  gdnjit_plan* plan = NULL;
  Call call;
  int i, t, which;
  for (i = 0; i < HV * V * K; ++i) start[i] = 0.01F * (float)(i % 13 - 6);
  memcpy(state, start, sizeof(start));
  CHECK(gdnjit_plan_create(runtime, "gdn.step", kProblem, &plan) == GDNJIT_OK);
  if (plan == NULL) return;
  for (t = 0; t < 2; ++t) {
    fill_call(&call, plan, 1);
    call.tensors[0].byte_offset = (uint64_t)(t * H * K) * sizeof(float);
    call.tensors[1].byte_offset = call.tensors[0].byte_offset;
    call.tensors[2].byte_offset += (uint64_t)(t * HV * V) * sizeof(float);
    call.tensors[5].byte_offset = (uint64_t)(t * HV * V) * sizeof(float);
    CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
  }
  gdnjit_plan_destroy(plan);
  for (which = 0; which < 3; ++which) {
    size_t bytes = 1;
    char problem[256];
    snprintf(problem, sizeof(problem), "%s%s", kProblem, kMore[which]);
    CHECK(gdnjit_plan_create(runtime, kNames[which], problem, &plan) == GDNJIT_OK);
    if (plan == NULL) return;
    CHECK(gdnjit_plan_workspace_bytes(plan, 1, 100, &bytes) == GDNJIT_OK);
    CHECK(bytes == 0); /* fp32: without gdn.chunk */
    memcpy(once_state, start, sizeof(start));
    memset(once_o, 0, sizeof(once_o));
    memset(&call, 0, sizeof(call));
    call.count = gdnjit_plan_tensor_count(plan);
    add(&call, plan, "q", q, 1, 2, H, K);
    add(&call, plan, "k", k, 1, 2, H, K);
    add(&call, plan, "v", v + 4, 1, 2, HV, V);
    add(&call, plan, "state_in", once_state, 1, HV, V, K);
    add(&call, plan, "state_out", once_state, 1, HV, V, K);
    add(&call, plan, "o", once_o, 1, 2, HV, V);
    CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
    CHECK(memcmp(once_o, o, sizeof(once_o)) == 0);
    CHECK(memcmp(once_state, state, sizeof(once_state)) == 0);
    gdnjit_plan_destroy(plan);
  }
}

/* Two tokens in chunks; the workspace's size is asked for. */
static void test_chunk(gdnjit_runtime* runtime) {
  static float chunk_o[2 * HV * V], chunk_state[HV * V * K];
  char problem[256];
  gdnjit_plan* plan = NULL;
  DLTensor* workspace;
  void* memory = NULL;
  size_t bytes = 0;
  Call call;
  int i;
  snprintf(problem, sizeof(problem), "%s initial_state=dense", kProblem);
  CHECK(gdnjit_chunk_workspace_bytes(problem, 1, 2, &bytes) == GDNJIT_OK);
  CHECK(bytes > 0);
  CHECK(gdnjit_chunk_workspace_bytes("T=1 checkpoint_every=7", 1, 2, &bytes) == GDNJIT_INVALID_ARGUMENT);
  CHECK(strstr(gdnjit_last_error(), "checkpoint_every=7: must be a multiple of 64") != NULL);
  CHECK(gdnjit_chunk_workspace_bytes(problem, -1, 2, &bytes) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_chunk_workspace_bytes(NULL, 1, 2, &bytes) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_chunk_workspace_bytes(problem, 1, 2, NULL) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_allocate(runtime, bytes, &memory) == GDNJIT_OK);
  CHECK(gdnjit_plan_create(runtime, "gdn.chunk", problem, &plan) == GDNJIT_OK);
  if (plan == NULL) return;
  CHECK(gdnjit_plan_kernel_count(plan) == 2);
  CHECK(strcmp(gdnjit_plan_kernel_info(plan, 1, "entry"), "gdnjit_gdn_chunk_scan") == 0);
  for (i = 0; i < HV * V * K; ++i) chunk_state[i] = 0.01F * (float)(i % 13 - 6); /* as test_tokens() begins */
  memset(&call, 0, sizeof(call));
  call.count = gdnjit_plan_tensor_count(plan);
  add(&call, plan, "q", q, 1, 2, H, K);
  add(&call, plan, "k", k, 1, 2, H, K);
  add(&call, plan, "v", v + 4, 1, 2, HV, V);
  add(&call, plan, "state_in", chunk_state, 1, HV, V, K);
  add(&call, plan, "state_out", chunk_state, 1, HV, V, K);
  add(&call, plan, "workspace", memory, (int64_t)bytes, 1, 1, 1);
  workspace = &call.tensors[gdnjit_plan_tensor_index(plan, "workspace")];
  workspace->ndim = 1;
  workspace->dtype.code = kDLUInt;
  workspace->dtype.bits = 8;
  add(&call, plan, "o", chunk_o, 1, 2, HV, V);
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
  /* What two steps left; products are rounded to 8 bits of mantissa. */
  for (i = 0; i < 2 * HV * V; ++i) CHECK(fabs(chunk_o[i] - o[i]) < 1e-3);
  for (i = 0; i < HV * V * K; ++i) CHECK(fabs(chunk_state[i] - state[i]) < 1e-3);
  gdnjit_plan_destroy(plan);
  gdnjit_release(runtime, memory);
}

/* A token's two best experts of four. */
static void test_route(gdnjit_runtime* runtime) {
  static float logits[4] = {0, 2, 1, 2}, weights[2];
  static int32_t ids[2];
  gdnjit_plan* plan = NULL;
  Call call;
  int i;
  CHECK(gdnjit_plan_create(runtime, "moe.route", "E=4 k=2 scoring=topk_softmax", &plan) == GDNJIT_OK);
  if (plan == NULL) return;
  memset(&call, 0, sizeof(call));
  call.count = gdnjit_plan_tensor_count(plan);
  add(&call, plan, "logits", logits, 1, 4, 1, 1);
  add(&call, plan, "topk_weights", weights, 1, 2, 1, 1);
  add(&call, plan, "topk_ids", ids, 1, 2, 1, 1);
  for (i = 0; i < 3; ++i) call.tensors[i].ndim = 2;
  call.tensors[gdnjit_plan_tensor_index(plan, "topk_ids")].dtype.code = kDLInt;
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
  CHECK(ids[0] == 1 && ids[1] == 3);
  CHECK(weights[0] == 0.5F && weights[1] == 0.5F);
  gdnjit_plan_destroy(plan);
}

/* One token whose gate and up are 1 with every expert: h = silu(1). */
static void test_experts(gdnjit_runtime* runtime) {
  enum { D = 8, I = 8, E = 2 };
  static float x[D], h[I];
  static uint16_t w1[E * 2 * I * D];
  static int32_t id = 1;
  gdnjit_plan* plan = NULL;
  size_t bytes = 1;
  Call call;
  int i;
  CHECK(gdnjit_plan_create(runtime, "moe.up", "M=1 D=8 I=8 E=2 k=1 io=f32 h=f32 weights=bf16", &plan) == GDNJIT_OK);
  if (plan == NULL) return;
  for (i = 0; i < D; ++i) x[i] = 0.125F;
  for (i = 0; i < E * 2 * I * D; ++i) w1[i] = 0x3f80; /* 1 in bf16 */
  memset(&call, 0, sizeof(call));
  call.count = gdnjit_plan_tensor_count(plan);
  add(&call, plan, "x", x, 1, D, 1, 1);
  add(&call, plan, "topk_ids", &id, 1, 1, 1, 1);
  add(&call, plan, "w1", w1, E, 2 * I, D, 1);
  add(&call, plan, "h", h, 1, 1, I, 1);
  call.tensors[gdnjit_plan_tensor_index(plan, "x")].ndim = 2;
  call.tensors[gdnjit_plan_tensor_index(plan, "topk_ids")].ndim = 2;
  call.tensors[gdnjit_plan_tensor_index(plan, "topk_ids")].dtype.code = kDLInt;
  call.tensors[gdnjit_plan_tensor_index(plan, "w1")].ndim = 3;
  call.tensors[gdnjit_plan_tensor_index(plan, "w1")].dtype.code = kDLBfloat;
  call.tensors[gdnjit_plan_tensor_index(plan, "w1")].dtype.bits = 16;
  call.tensors[gdnjit_plan_tensor_index(plan, "h")].ndim = 3;
  CHECK(gdnjit_plan_workspace_bytes(plan, 1, 1, &bytes) == GDNJIT_OK && bytes == 0);
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK); /* the workspace is NULL */
  for (i = 0; i < I; ++i) CHECK(fabsf(h[i] - 0.7310586F) < 1e-5F);
  gdnjit_plan_destroy(plan);
}

static void test_bad_problems(gdnjit_runtime* runtime) {
  gdnjit_plan* plan = (gdnjit_plan*)&failures; /* overwritten by every failure */
  const char* const names[] = {"H", NULL};
  CHECK(gdnjit_plan_create(runtime, "gdn.step", "H=16 HV=20", &plan) == GDNJIT_INVALID_ARGUMENT);
  CHECK(plan == NULL);
  CHECK(strstr(gdnjit_last_error(), "HV=20: must be a multiple of H=16") != NULL);
  CHECK(gdnjit_plan_create(runtime, "gdn.step", "io=fp8", &plan) == GDNJIT_INVALID_ARGUMENT);
  CHECK(strstr(gdnjit_last_error(), "io=fp8") != NULL);
  CHECK(gdnjit_plan_create(runtime, "gdn.stop", "", &plan) == GDNJIT_INVALID_ARGUMENT);
  CHECK(strstr(gdnjit_last_error(), "gdn.step") != NULL);
  CHECK(gdnjit_plan_create(runtime, NULL, "", &plan) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_plan_create(runtime, "gdn.step", NULL, &plan) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_plan_create(NULL, "gdn.step", "", &plan) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_plan_create(runtime, "gdn.step", "", NULL) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_plan_create_from_fields(runtime, "gdn.step", names, names, 2, &plan) == GDNJIT_INVALID_ARGUMENT);
}

/* As a garbage collector may do it. */
static void test_runtime_goes_first(void) {
  gdnjit_runtime* runtime = NULL;
  gdnjit_plan* plan = NULL;
  Call call;
  CHECK(gdnjit_runtime_create("device=emulator;cache_dir=none", &runtime) == GDNJIT_OK);
  CHECK(gdnjit_plan_create(runtime, "gdn.step", kProblem, &plan) == GDNJIT_OK);
  gdnjit_runtime_destroy(runtime);
  if (plan == NULL) return;
  memset(state, 0, sizeof(state));
  fill_call(&call, plan, B);
  CHECK(gdnjit_plan_run(plan, call.pointers, call.count, NULL) == GDNJIT_OK);
  check_outputs();
  gdnjit_plan_destroy(plan);
}

static void test_memory(gdnjit_runtime* runtime) {
  const char text[] = "what goes in comes out";
  char back[sizeof(text)] = "";
  void* memory = NULL;
  CHECK(gdnjit_allocate(runtime, sizeof(text), &memory) == GDNJIT_OK);
  CHECK(gdnjit_copy_in(runtime, memory, text, sizeof(text), NULL) == GDNJIT_OK);
  CHECK(gdnjit_synchronize(runtime, NULL) == GDNJIT_OK);
  CHECK(gdnjit_copy_out(runtime, back, memory, sizeof(text), NULL) == GDNJIT_OK);
  CHECK(strcmp(text, back) == 0);
  gdnjit_release(runtime, memory);
  gdnjit_release(runtime, NULL);
  CHECK(gdnjit_allocate(NULL, 1, &memory) == GDNJIT_INVALID_ARGUMENT);
  CHECK(gdnjit_allocate(runtime, 1, NULL) == GDNJIT_INVALID_ARGUMENT);
}

int main(void) {
  gdnjit_runtime* runtime = NULL;
  CHECK(strlen(gdnjit_version()) >= 5);
  CHECK(strcmp(gdnjit_last_error(), "") == 0);
  CHECK(gdnjit_runtime_create("policy=fast", &runtime) == GDNJIT_INVALID_ARGUMENT);
  CHECK(runtime == NULL);
  CHECK(strstr(gdnjit_last_error(), "policy=fast") != NULL);
  CHECK(gdnjit_runtime_create(NULL, NULL) == GDNJIT_INVALID_ARGUMENT);

  CHECK(gdnjit_runtime_create("device=emulator:sm_80;cache_dir=none", &runtime) == GDNJIT_OK);
  if (runtime == NULL) return EXIT_FAILURE;
  CHECK(strcmp(gdnjit_runtime_device_name(runtime), "emulator of sm_80") == 0);
  CHECK(gdnjit_runtime_device(runtime).device_type == kDLCPU);
  test_run(runtime);
  test_tokens(runtime);
  test_chunk(runtime);
  test_route(runtime);
  test_experts(runtime);
  test_bad_problems(runtime);
  test_memory(runtime);
  gdnjit_runtime_destroy(runtime);
  test_runtime_goes_first();
  gdnjit_runtime_destroy(NULL);
  gdnjit_plan_destroy(NULL);
  printf(failures == 0 ? "the C interface holds\n" : "%d checks failed\n", failures);
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

// Views, not copies: strided and offset tensors, in-place states, padded and distant slots.
#include <doctest/doctest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>

#include "autotune/device_tensors.h"
#include "tests/gdn/emulator_fixture.h"

using namespace gdnjit;
using namespace gdnjit::tests;
using reference::HostTensor;

namespace {

// A tensor in ordinary host memory with `padding` elements after every run of each outer dimension.
class StridedTensor {
 public:
  // Pads behind dimensions [first_padded, rank - dense_axes).
  StridedTensor(const HostTensor& tensor, int dense_axes, std::int64_t padding) : source_(&tensor) {
    const std::size_t rank = tensor.spec.shape.size();
    view_.dtype = tensor.spec.dtype;
    view_.rank = static_cast<int>(rank);
    std::int64_t stride = 1;
    for (std::size_t axis = rank; axis-- > 0;) {
      view_.shape[axis] = tensor.spec.shape[axis];
      view_.strides[axis] = stride;
      stride *= tensor.spec.shape[axis];
      if (axis > 0 && axis <= rank - static_cast<std::size_t>(dense_axes)) stride += padding;
    }
    const auto bytes = static_cast<std::size_t>(stride * dtype_bytes(view_.dtype));
    storage_.assign(bytes + 256, std::byte{0xff});  // NaN between the elements
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data());
    view_.data = storage_.data() + (256 - address % 256) % 256;
    copy(tensor.bytes.data(), true);
  }

  const TensorView& view() const { return view_; }

  HostTensor dense() {
    HostTensor result{source_->spec, std::vector<std::byte>(source_->bytes.size())};
    copy(result.bytes.data(), false);
    return result;
  }

 private:
  template <typename Bytes>
  void copy(Bytes* dense, bool to_strided) {
    const auto element = static_cast<std::size_t>(dtype_bytes(view_.dtype));
    for (std::int64_t flat = 0; flat < view_.elements(); ++flat) {
      std::int64_t rest = flat;
      std::int64_t offset = 0;
      for (int axis = view_.rank - 1; axis >= 0; --axis) {
        const auto a = static_cast<std::size_t>(axis);
        offset += rest % view_.shape[a] * view_.strides[a];
        rest /= view_.shape[a];
      }
      std::byte* strided = static_cast<std::byte*>(view_.data) + static_cast<std::size_t>(offset) * element;
      if constexpr (std::is_const_v<Bytes>) {
        if (to_strided) std::memcpy(strided, dense + static_cast<std::size_t>(flat) * element, element);
      } else {
        std::memcpy(dense + static_cast<std::size_t>(flat) * element, strided, element);
      }
    }
  }

  const HostTensor* source_;
  std::vector<std::byte> storage_;
  TensorView view_;
};

// Runs with every tensor strided as `padding_of` says and returns what the comparison finds wrong.
std::string run_strided(Runtime::Impl& runtime, const FieldMap& problem, std::int64_t padding, bool in_place) {
  const auto plan = make_plan(runtime, step(), problem);
  const auto workload = reference::make_workload("gdn.step", step().complete(problem), reference::Inputs::typical, 3);
  std::vector<StridedTensor> tensors;
  for (const HostTensor& tensor : workload->tensors()) {
    const bool is_state = tensor.spec.name.starts_with("state");
    const bool fixed = tensor.spec.name == "a_log" || tensor.spec.name == "dt_bias";
    const int rank = static_cast<int>(tensor.spec.shape.size());
    tensors.emplace_back(tensor, fixed ? rank : is_state ? 2 : 1, fixed || rank == 1 ? 0 : padding);
  }
  std::vector<TensorView> views;
  std::size_t state_in = 0;
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    const std::string& name = workload->tensors()[index].spec.name;
    if (name == "state_in") state_in = index;
    views.push_back(in_place && name == "state_out" ? tensors[state_in].view() : tensors[index].view());
  }
  plan->run(views, nullptr);
  std::vector<HostTensor> results;
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    const std::string& name = workload->tensors()[index].spec.name;
    results.push_back(tensors[in_place && name == "state_out" ? state_in : index].dense());
    if (in_place && name == "state_in") results.back() = workload->tensors()[index];
  }
  std::string wrong;
  for (const auto& error : workload->compare(results)) {
    if (!error.passed())
      wrong += fmt::format("{} rms {} (tolerance {}) ", error.tensor, error.rms_ratio, error.tolerance);
  }
  return wrong;
}

}  // namespace

TEST_CASE("strided views of every tensor give the same result as dense ones") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text : {"B=3 H=2 HV=4 K=64 V=32", "B=3 H=2 HV=4 K=64 V=32 state_layout=kv io=f32",
                           "B=3 H=2 HV=4 K=64 V=32 input_layout=mixed_qkv", "B=2 H=1 HV=3 K=64 V=32 input_layout=qkvz",
                           "B=4 H=2 HV=4 K=64 V=32 state_store=pool head_map=modulo",
                           "B=2 H=2 HV=2 K=60 V=20 state=bf16 gate=channel_raw"}) {
    CAPTURE(text);
    CHECK(run_strided(*runtime, parse_fields(text), 8, false) == "");
  }
}

TEST_CASE("a dense state may be updated in place") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* text :
       {"B=2 H=2 HV=4 K=64 V=32", "B=2 H=2 HV=2 K=512 V=32", "B=2 H=1 HV=2 K=64 V=32 state_layout=kv state=bf16"}) {
    CAPTURE(text);
    CHECK(run_strided(*runtime, parse_fields(text), 0, true) == "");
    CHECK(run_strided(*runtime, parse_fields(text), 16, true) == "");
  }
}

TEST_CASE("slots more than 2^32 elements apart are addressed in 64 bits") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = step().complete(
      parse_fields("B=1 H=1 HV=1 K=32 V=16 state_store=pool gate=none beta=none norm=none io=f32 output=f32"));
  const auto plan = make_plan(*runtime, step(), problem);

  // Two slots of a pool, 2^32 + 16 elements apart, in memory that is reserved but not used.
  constexpr std::int64_t kSlotStride = (1LL << 32) + 16;
  constexpr std::size_t kBytes = static_cast<std::size_t>(kSlotStride + 32 * 16) * 4;
  void* pool = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  REQUIRE(pool != MAP_FAILED);
  float* near = static_cast<float*>(pool);
  float* far = near + kSlotStride;
  alignas(16) float q[32], k[32], v[16], o[16];
  std::int32_t read_slot = 1, write_slot = 0;
  for (int i = 0; i < 32; ++i) {
    q[i] = 1.0F;
    k[i] = i == 3 ? 1.0F : 0.0F;
  }
  for (int i = 0; i < 16; ++i) v[i] = static_cast<float>(i);
  for (int i = 0; i < 32 * 16; ++i) far[i] = 0.5F;

  TensorView state = TensorView::dense(pool, DType::f32, {2, 1, 16, 32});
  state.strides[0] = kSlotStride;
  const std::vector<TensorView> views{
      TensorView::dense(q, DType::f32, {1, 1, 1, 32}), TensorView::dense(k, DType::f32, {1, 1, 1, 32}),
      TensorView::dense(v, DType::f32, {1, 1, 1, 16}), state,
      TensorView::dense(&read_slot, DType::i32, {1}),  TensorView::dense(&write_slot, DType::i32, {1}),
      TensorView::dense(o, DType::f32, {1, 1, 1, 16})};
  plan->run(views, nullptr);
  for (int column = 0; column < 16; ++column) {
    // S = 0.5 everywhere, k = e_3: column's new row is 0.5 but for key 3, which becomes v.
    CHECK(near[column * 32 + 3] == static_cast<float>(column));
    CHECK(near[column * 32 + 4] == 0.5F);
    CHECK(o[column] == doctest::Approx((31 * 0.5 + column) / std::sqrt(32.0)));
  }
  munmap(pool, kBytes);
}

TEST_CASE("a row whose write slot is the sentinel computes its output and leaves every state alone") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = step().complete(
      parse_fields("B=1 H=1 HV=1 K=32 V=16 state_store=pool gate=none beta=none norm=none io=f32 output=f32 scale=1"));
  const auto plan = make_plan(*runtime, step(), problem);
  alignas(16) float pool[2 * 16 * 32], q[32], k[32] = {}, v[16] = {}, o[16];
  std::fill(std::begin(pool), std::end(pool), 0.25F);
  std::fill(std::begin(q), std::end(q), 1.0F);
  k[0] = 1.0F;  // d = v - 0.25 = -0.25 in every column
  std::int32_t read_slot = 1, write_slot = -1;
  const std::vector<TensorView> views{
      TensorView::dense(q, DType::f32, {1, 1, 1, 32}), TensorView::dense(k, DType::f32, {1, 1, 1, 32}),
      TensorView::dense(v, DType::f32, {1, 1, 1, 16}), TensorView::dense(pool, DType::f32, {2, 1, 16, 32}),
      TensorView::dense(&read_slot, DType::i32, {1}),  TensorView::dense(&write_slot, DType::i32, {1}),
      TensorView::dense(o, DType::f32, {1, 1, 1, 16})};
  plan->run(views, nullptr);
  for (const float element : pool) CHECK(element == 0.25F);
  for (const float element : o) CHECK(element == doctest::Approx(32 * 0.25 - 0.25));
}

TEST_CASE("a slot beyond the pool is reported, not executed") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = step().complete(parse_fields("B=2 H=1 HV=1 K=32 V=16 state_store=pool"));
  const auto plan = make_plan(*runtime, step(), problem);
  const auto workload = reference::make_workload("gdn.step", problem, reference::Inputs::typical, 3);
  std::vector<HostTensor> hosts = workload->tensors();
  for (HostTensor& tensor : hosts) {
    if (tensor.spec.name != "write_slot") continue;
    const std::int32_t beyond = 1000;
    std::memcpy(tensor.bytes.data(), &beyond, sizeof(beyond));
  }
  autotune::DeviceTensors tensors(runtime->device(), hosts, 256);
  tensors.upload(hosts, nullptr);
  const std::string report = thrown([&] { plan->run(tensors.views(), nullptr); });
  INFO(report);
  CHECK(report.find("writes out of bounds: 16 bytes") != std::string::npos);
}

TEST_CASE("an empty batch launches nothing") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap problem = step().complete(parse_fields("B=1 H=1 HV=1 K=32 V=16"));
  const auto plan = make_plan(*runtime, step(), problem);
  std::vector<TensorView> views(step().tensors(problem).size());
  views.back() = TensorView{.dtype = DType::bf16, .rank = 4, .shape = {0, 1, 1, 16}};
  CHECK(thrown([&] { plan->run(views, nullptr); }) == "");
}

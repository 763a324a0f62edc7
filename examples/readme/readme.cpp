#include <gdnjit/gdnjit.h>

#include <cstdio>
#include <vector>

int main() {
  gdnjit::Runtime runtime;  // the first GPU, or the emulator if there is none
  const std::int64_t B = 2, H = 16, HV = 32, K = 128, V = 128;
  const auto zeros = [&](gdnjit::DType dtype, std::initializer_list<std::int64_t> shape) {
    auto view = gdnjit::TensorView::dense(nullptr, dtype, shape);
    const std::vector<std::byte> bytes(view.elements() * dtype_bytes(dtype));
    view.data = runtime.allocate(bytes.size());
    runtime.copy_in(view.data, bytes.data(), bytes.size());
    return view;
  };
  gdnjit::gdn::StepArgs args;
  args.q = args.k = zeros(gdnjit::DType::bf16, {B, 1, H, K});
  args.v = zeros(gdnjit::DType::bf16, {B, 1, HV, V});
  args.a = args.b = zeros(gdnjit::DType::bf16, {B, 1, HV});
  args.a_log = args.dt_bias = zeros(gdnjit::DType::f32, {HV});
  args.state_in = zeros(gdnjit::DType::f32, {B, HV, V, K});  // updated in place
  args.o = zeros(gdnjit::DType::bf16, {B, 1, HV, V});

  const gdnjit::gdn::StepProblem problem{.batch = B, .heads_k = H, .heads_v = HV};
  const auto plan = gdnjit::gdn::plan(runtime, problem);  // cached, or compiled now
  plan.run(args);                                         // launches, nothing else
  runtime.synchronize();
  std::printf("%s: %s\n", runtime.device_name().c_str(), plan.info().tiles.c_str());
}

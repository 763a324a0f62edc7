// gdn.chunk with a warm-up on the emulator: approximate segments, on both paths.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <span>

#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::tests;
using reference::Inputs;

namespace {

constexpr const char* kPaths[] = {"path=wgmma block_v=64 stages=2 segments=4", "path=mma block_v=16 segments=4"};

// Gates that hardly fade, so that a warm-up leaves an error that shows: g between -0.01 and 0 in every channel. In
// fp16, for bf16's own error is near the tolerance without decay.
constexpr const char* kWeak = "gate=channel_sigmoid gate_lower_bound=-0.01 io=f16";

FieldMap problem_of(const std::string& text) { return parse_fields("H=1 HV=1 K=16 V=24 " + text); }

// What a call of the inputs leaves. The problem may have another warm-up than the one whose inputs they are.
HostCall run(Runtime::Impl& runtime, const FieldMap& problem, const char* tiles,
             const std::vector<reference::HostTensor>& inputs, std::size_t* launches = nullptr) {
  const auto plan = make_plan(runtime, chunk(), problem, parse_fields(tiles));
  HostCall call(inputs);
  std::vector<std::byte> workspace(1 << 24);
  const auto views = call.views_for(*plan, [&](std::string_view name, TensorView view) {
    if (name != "workspace") return view;
    const auto begin = reinterpret_cast<std::uintptr_t>(workspace.data());
    view = TensorView::dense(workspace.data() + (128 - begin % 128) % 128, DType::u8, {(1 << 24) - 128});
    return view;
  });
  std::size_t count = 0;
  const LaunchObserver observer = [&](std::size_t) { ++count; };
  plan->run(views, nullptr, &observer);
  if (launches != nullptr) *launches = count;
  return call;
}

std::vector<double> numbers(HostCall& call, std::string_view name) {
  reference::HostTensor& tensor = call[name];
  std::vector<double> result;
  const auto count = static_cast<std::int64_t>(tensor.bytes.size()) / dtype_bytes(tensor.spec.dtype);
  for (std::int64_t i = 0; i < count; ++i) {
    result.push_back(reference::load_element(tensor.spec.dtype, tensor.bytes.data(), i));
  }
  return result;
}

std::span<const std::byte> tokens_of(HostCall& call, std::int64_t first, std::int64_t end) {
  reference::HostTensor& o = call["o"];
  const auto token = o.bytes.size() / static_cast<std::size_t>(o.spec.shape[1]);
  return std::span(o.bytes).subspan(static_cast<std::size_t>(first) * token,
                                    static_cast<std::size_t>(end - first) * token);
}

bool equal(std::span<const std::byte> left, std::span<const std::byte> right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end());
}

void fill(reference::HostTensor& tensor, const std::function<double(std::size_t)>& number) {
  const auto count = tensor.bytes.size() / static_cast<std::size_t>(dtype_bytes(tensor.spec.dtype));
  for (std::size_t i = 0; i < count; ++i) {
    reference::store_element(tensor.spec.dtype, tensor.bytes.data(), static_cast<std::int64_t>(i), number(i));
  }
}

}  // namespace

TEST_CASE("segments whose warm-up reaches back to the start have the bits of whole sequences, later ones need not") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* tiles : kPaths) {
    CAPTURE(std::string(tiles));
    for (const char* initial : {"none", "dense"}) {
      // Segments of 9 chunks, the last of 7; 12 chunks of warm-up: segments 0 and 1 begin at the start, 2 at chunk 6.
      const std::string text = fmt::format("T=2176 {} initial_state={}", kWeak, initial);
      const auto inputs =
          reference::make_workload("gdn.chunk", chunk().complete(problem_of(text)), Inputs::typical, 7)->tensors();
      std::size_t launches = 0;
      HostCall whole =
          run(*runtime, problem_of(text), tiles[5] == 'w' ? "path=wgmma block_v=64 stages=2" : "block_v=16", inputs);
      HostCall cut = run(*runtime, problem_of(text + " warmup=768"), tiles, inputs, &launches);
      CHECK(launches == (std::string_view(initial) == "dense" ? 3 : 2));
      CHECK(equal(tokens_of(cut, 0, 18 * 64), tokens_of(whole, 0, 18 * 64)));
      CHECK_FALSE(equal(tokens_of(cut, 18 * 64, 2176), tokens_of(whole, 18 * 64, 2176)));
      // Where the warm-up leaves nothing to gain a call is not cut.
      HostCall exact = run(*runtime, problem_of(text + " warmup=2048"), tiles, inputs, &launches);
      CHECK(launches == 2);
      CHECK(exact["o"].bytes == whole["o"].bytes);
      CHECK(exact["state_out"].bytes == whole["state_out"].bytes);
    }
  }
}

TEST_CASE("the final state may be stored over the initial one") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* tiles : kPaths) {
    CAPTURE(std::string(tiles));
    const FieldMap problem = problem_of("T=1024 warmup=64 initial_state=dense");
    const auto inputs = reference::make_workload("gdn.chunk", chunk().complete(problem), Inputs::typical, 9)->tensors();
    HostCall apart = run(*runtime, problem, tiles, inputs), in_place(inputs);
    const auto plan = make_plan(*runtime, chunk(), problem, parse_fields(tiles));
    plan->run(in_place.views_for(*plan,
                                 [&](std::string_view name, const TensorView& view) {
                                   return name == "state_out" ? in_place.view("state_in") : view;
                                 }),
              nullptr);
    CHECK(in_place["o"].bytes == apart["o"].bytes);
    CHECK(in_place["state_in"].bytes == apart["state_out"].bytes);
  }
}

TEST_CASE("with strong decay a warm-up of one chunk is as good as the whole sequence") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap exact = problem_of("T=1100 gate=log initial_state=dense");
  const auto source = reference::make_workload("gdn.chunk", chunk().complete(exact), Inputs::typical, 11);
  std::vector<reference::HostTensor> inputs = source->tensors();
  for (reference::HostTensor& tensor : inputs) {
    if (tensor.spec.name == "a") fill(tensor, [](std::size_t i) { return -0.5 - 0.25 * static_cast<double>(i % 3); });
  }
  std::vector<std::vector<std::byte>> contents;
  for (const reference::HostTensor& tensor : inputs) contents.push_back(tensor.bytes);
  const CallDescription description{chunk().complete(exact), chunk().tensors(chunk().complete(exact))};
  const auto workload = reference::make_call_workload("gdn.chunk", description, contents);
  for (const char* tiles : kPaths) {
    CAPTURE(std::string(tiles));
    HostCall call = run(*runtime, problem_of("T=1100 gate=log initial_state=dense warmup=64"), tiles, inputs);
    std::vector<reference::HostTensor> results = workload->tensors();
    for (reference::HostTensor& result : results) result.bytes = call[result.spec.name].bytes;
    for (const reference::OutputError& error : workload->compare(results)) {
      CAPTURE(error.tensor);
      CHECK(error.tolerance <= 5e-3);  // that of an exact call
      CHECK(error.passed());
    }
  }
}

TEST_CASE("with weak decay the error is what the bound says: the state that was left out, faded by the warm-up") {
  // One key everywhere, written in the first segment alone and read by the same vector: the bound is then met. Segments
  // of 8 chunks; the second begins at chunk 8 - W / 64.
  const auto runtime = emulator_runtime("sm_90a");
  constexpr int kValues = 24, kSegment = 512, kTokens = 1024;
  for (const char* tiles : kPaths) {
    for (const auto& [decay, warmup] : {std::pair{0.02, 64}, {0.02, 256}, {0.005, 256}}) {
      CAPTURE(std::string(tiles));
      CAPTURE(decay);
      CAPTURE(warmup);
      const std::string text = "T=1024 gate=log gate_dtype=f32 beta=given beta_dtype=f32 output=f16";
      std::vector<reference::HostTensor> inputs =
          reference::make_workload("gdn.chunk", chunk().complete(problem_of(text)), Inputs::typical, 13)->tensors();
      for (reference::HostTensor& tensor : inputs) {
        const std::string& name = tensor.spec.name;
        if (name == "q" || name == "k") fill(tensor, [](std::size_t i) { return i % 16 == 3 ? 1.0 : 0.0; });
        if (name == "a") fill(tensor, [&, decay = decay](std::size_t) { return -decay; });
        if (name == "b") fill(tensor, [&](std::size_t token) { return token == 200 ? 1.0 : 0.0; });
      }
      HostCall whole = run(*runtime, problem_of(text), "block_v=16", inputs);
      HostCall cut = run(*runtime, problem_of(fmt::format("{} warmup={}", text, warmup)), tiles, inputs);
      const std::vector<double> exact = numbers(whole, "o"), found = numbers(cut, "o"), v = numbers(cut, "v");
      double worst = 0;
      int beyond = 0;
      for (int t = kSegment; t < kTokens; ++t) {
        const double G = -decay * (t - (kSegment - warmup) + 1);
        for (int n = 0; n < kValues; ++n) {
          // S_w is v of token 200, faded until the warm-up begins; its length over K is that of one number.
          const double S = std::abs(v[200 * kValues + static_cast<std::size_t>(n)]) *
                           std::exp(-decay * (kSegment - warmup - 1 - 200));
          const auto i = static_cast<std::size_t>(t * kValues + n);
          const double bound = std::exp(G) * S * 0.25;  // scale = K^-0.5
          beyond += std::abs(exact[i] - found[i]) <= bound * 1.01 + 1e-7 ? 0 : 1;
          if (t == kSegment) worst = std::max(worst, std::abs(exact[i] - found[i]) / bound);
        }
      }
      CHECK(beyond == 0);
      CHECK(worst > 0.98);
    }
  }
}

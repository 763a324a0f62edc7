// A warm look-up and a run allocate nothing. By itself, because it replaces the global operator new.
#include <doctest/doctest.h>
#include <gdnjit/gdnjit.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/runtime/fakes.h"

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};
}  // namespace

// Not inlined, because the compiler would then see free() undo a new.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (counting) ++allocations;
  if (void* memory = std::malloc(bytes == 0 ? 1 : bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using namespace gdnjit;

TEST_CASE("a warm plan() and run() allocate nothing") {
  auto log = std::make_shared<fakes::DeviceLog>();
  Runtime runtime(std::make_unique<Runtime::Impl>(Options{}, fakes::make_device(log),
                                                  fakes::make_compiler(std::make_shared<fakes::CompilerLog>())));
  constexpr gdn::StepProblem kProblem{.heads_k = 1, .heads_v = 1, .head_dim_k = 16, .head_dim_v = 16};
  alignas(256) std::array<float, 1024> memory{};
  gdn::StepArgs args;
  args.q = TensorView::dense(memory.data(), DType::bf16, {1, 1, 1, 16});
  args.k = args.v = args.o = args.q;
  args.a = TensorView::dense(memory.data(), DType::bf16, {1, 1, 1});
  args.b = args.a;
  args.a_log = TensorView::dense(memory.data(), DType::f32, {1});
  args.dt_bias = args.a_log;
  args.state_in = TensorView::dense(memory.data(), DType::f32, {1, 1, 16, 16});
  gdn::step(runtime, kProblem, args);  // makes the plan; the fake keeps notes of the first launch

  counting = true;
  for (int round = 0; round < 100; ++round) gdn::step(runtime, kProblem, args);
  counting = false;
  CHECK(allocations == 0);
  CHECK(log->launches == 101);
  constexpr gdn::RecurrentProblem kPrompt{.heads_k = 1, .heads_v = 1, .head_dim_k = 16, .head_dim_v = 16};
  gdn::RecurrentArgs prompt{.q = args.q, .k = args.k, .v = args.v, .a = args.a, .b = args.b};
  prompt.a_log = prompt.dt_bias = args.a_log;
  prompt.state_out = args.state_in;
  prompt.o = args.o;
  gdn::recurrent(runtime, kPrompt, prompt);
  counting = true;
  for (int round = 0; round < 100; ++round) gdn::recurrent(runtime, kPrompt, prompt);
  counting = false;
  CHECK(allocations == 0);

  constexpr gdn::ChunkProblem kPrefill{.heads_k = 1, .heads_v = 1, .head_dim_k = 16, .head_dim_v = 16};
  gdn::ChunkArgs prefill{.q = args.q, .k = args.k, .v = args.v, .a = args.a, .b = args.b};
  prefill.a_log = prefill.dt_bias = args.a_log;
  prefill.state_out = args.state_in;
  alignas(128) static std::array<std::byte, 1 << 16> workspace;
  prefill.workspace = TensorView::dense(workspace.data(), DType::u8, {gdn::workspace_bytes(kPrefill, 1, 1)});
  prefill.o = args.o;
  REQUIRE(prefill.workspace.shape[0] <= std::int64_t{workspace.size()});
  // A device without tensor maps.
  Runtime chunks(std::make_unique<Runtime::Impl>(Options{}, fakes::make_device(log, fakes::emulator_info("sm_80")),
                                                 fakes::make_compiler(std::make_shared<fakes::CompilerLog>())));
  gdn::chunk(chunks, kPrefill, prefill);
  counting = true;
  for (int round = 0; round < 100; ++round) gdn::chunk(chunks, kPrefill, prefill);
  counting = false;
  CHECK(allocations == 0);

  counting = true;
  ::operator delete(::operator new(1));
  counting = false;
  CHECK(allocations == 1);  // the counter counts
}

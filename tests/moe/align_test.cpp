// moe.align against the reference: every layout, shape and tile pairwise, every element exactly; extremes, keys,
// arguments.
#include <doctest/doctest.h>

#include <set>

#include "codegen/moe/align.h"
#include "codegen/moe/options_names.h"
#include "runtime/moe_align.h"
#include "tests/gdn/emulator_fixture.h"
#include "tests/gdn/host_call.h"
#include "tests/gdn/pairwise_check.h"
#include "tests/reference/numeric.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

const Operator& align() { return find_operator("moe.align"); }

const std::vector<Axis>& axes() {
  static const std::vector<Axis> list{
      {"E", {"1", "8", "60", "160", "256", "384", "512", "513", "1024"}},
      {"k", {"1", "2", "6", "8", "10", "32"}},
      {"M", {"17", "0", "1", "2", "3", "33", "257"}},
      {"layout", {"sorted", "contiguous", "masked"}},
      {"block_m", {"1", "16", "24", "64", "128"}},
      {"max_rows", {"1", "5", "48"}},
      {"map", {"none", "same", "more"}},
      {"id_dtype", {"i32", "i64"}},
      {"programmatic", {"false", "true"}},
      {"inputs", {"typical", "brutal"}},
      {"warps", {"default", "1", "4", "7", "16"}},
      {"cluster", {"1", "2", "3", "8"}},
      {"arch", {"sm_90a", "sm_80"}},
  };
  return list;
}

std::string chosen(const Case& built, std::string_view name) { return tests::chosen(axes(), built, name); }

bool allowed(const Case& built) {
  if (chosen(built, "arch") != "sm_80") return true;
  const std::string cluster = chosen(built, "cluster");
  return chosen(built, "programmatic") != "true" && (cluster.empty() || cluster == "1");
}

FieldMap problem_of(const Case& built) {
  FieldMap problem;
  for (const char* name : {"E", "k", "M", "layout", "block_m", "max_rows", "id_dtype", "programmatic"}) {
    set_field(problem, name, chosen(built, name));
  }
  const std::string map = chosen(built, "map");
  if (map != "none") {
    set_field(problem, "expert_map", "true");
    const int more = map == "more" ? 3 * std::stoi(chosen(built, "E")) + 7 : 0;
    set_field(problem, "known_experts", std::to_string(more));
  }
  return problem;
}

std::vector<std::int64_t> numbers(HostCall& call, std::string_view name) {
  std::vector<std::int64_t> result;
  for (const double number : reference::load_all(DType::i32, call[name].bytes)) {
    result.push_back(static_cast<std::int64_t>(number));
  }
  return result;
}

HostCall call_of(const FieldMap& problem, const std::vector<std::int64_t>& ids) {
  HostCall call(reference::make_workload("moe.align", problem, reference::Inputs::typical, 1)->tensors());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    reference::store_element(DType::i32, call["topk_ids"].bytes.data(), static_cast<std::int64_t>(i),
                             static_cast<double>(ids[i]));
  }
  return call;
}

using Numbers = std::vector<std::int64_t>;

}  // namespace

TEST_CASE("every pair of shapes, layouts and tiles is right on the emulator") {
  const auto tiles_of = [](const Case& built, const FieldMap& problem,
                           const DeviceTraits& device) -> std::optional<FieldMap> {
    if (chosen(built, "warps") == "default") return align().default_tiles(problem, device);
    return parse_fields(fmt::format("warps={} cluster={}", chosen(built, "warps"), chosen(built, "cluster")));
  };
  check_every_pair(align(), axes(), allowed, 2033, problem_of, tiles_of);
}

TEST_CASE("the layouts hold what they say") {
  const auto runtime = emulator_runtime("sm_90a");
  const Numbers ids{2, 0, 2, 1, 0, 2, 9, -1};  // four tokens, two slots; 9 and -1 are nobody's
  const FieldMap contiguous = parse_fields("M=4 k=2 E=4 block_m=2 layout=contiguous");
  HostCall call = call_of(contiguous, ids);
  make_plan(*runtime, align(), contiguous)->run(call.views(), nullptr);
  CHECK(numbers(call, "total_padded") == Numbers{8});
  CHECK(numbers(call, "sorted_pair_ids") == Numbers{1, 4, 3, 8, 0, 2, 5, 8, 8, 8, 8, 8});
  CHECK(numbers(call, "expert_ids") == Numbers{0, 1, 2, 2, -1, -1});
  CHECK(numbers(call, "grouped_layout") == Numbers{0, 0, 1, -1, 2, 2, 2, -1, -1, -1, -1, -1});

  const FieldMap masked = parse_fields("M=4 k=2 E=4 layout=masked max_rows=2");
  HostCall rows = call_of(masked, ids);
  make_plan(*runtime, align(), masked)->run(rows.views(), nullptr);
  CHECK(numbers(rows, "masked_pair_ids") == Numbers{1, 4, 3, 8, 0, 2, 8, 8});  // pair 5 of expert 2 has no row
  CHECK(numbers(rows, "masked_m") == Numbers{2, 1, 2, 0});
  CHECK(numbers(rows, "dropped") == Numbers{1});
}

TEST_CASE("all pairs of one expert, pairs of nobody and no pairs at all") {
  const auto runtime = emulator_runtime("sm_90a");
  for (const char* tiles : {"warps=8 cluster=1", "warps=32 cluster=8"}) {
    const FieldMap fields = parse_fields("M=300 k=8 E=256 block_m=64");
    const auto plan = make_plan(*runtime, align(), fields, parse_fields(tiles));
    HostCall one = call_of(fields, Numbers(2400, 255));
    plan->run(one.views(), nullptr);
    CHECK(numbers(one, "total_padded") == Numbers{2432});
    CHECK(numbers(one, "sorted_pair_ids")[2399] == 2399);
    CHECK(numbers(one, "expert_ids")[37] == 255);
    CHECK(numbers(one, "expert_ids")[38] == -1);
    HostCall nobody = call_of(fields, Numbers(2400, 256));
    plan->run(nobody.views(), nullptr);
    CHECK(numbers(nobody, "total_padded") == Numbers{0});
    CHECK(numbers(nobody, "sorted_pair_ids") == Numbers(align().tensors(fields)[1].shape[0], 2400));
  }
  const FieldMap none = parse_fields("M=0 k=8 E=256");
  HostCall call = call_of(none, {});
  make_plan(*runtime, align(), none)->run(call.views(), nullptr);
  CHECK(numbers(call, "total_padded") == Numbers{0});
}

TEST_CASE("a plan serves every M and k, and leaves the rest of larger outputs alone") {
  const auto runtime = emulator_runtime("sm_90a");
  const auto plan = make_plan(*runtime, align(), parse_fields("M=64 k=8 E=16 block_m=4"));
  const FieldMap fields = parse_fields("M=5 k=3 E=16 block_m=4");
  HostCall call(reference::make_workload("moe.align", fields, reference::Inputs::typical, 7)->tensors());
  std::vector<std::int32_t> rows(100, 77), experts(40, 77);
  std::vector<TensorView> views = call.views();
  views[1] = TensorView::dense(rows.data(), DType::i32, {100});
  views[2] = TensorView::dense(experts.data(), DType::i32, {40});
  plan->run(views, nullptr);
  make_plan(*runtime, align(), fields)->run(call.views(), nullptr);
  const Numbers expected = numbers(call, "sorted_pair_ids");
  CHECK(Numbers(rows.begin(), rows.begin() + static_cast<std::ptrdiff_t>(expected.size())) == expected);
  CHECK(rows[expected.size()] == 77);
  CHECK(experts[expected.size() / 4] == 77);
}

TEST_CASE("memory for the largest number of rows is never too small and always reached") {
  static_assert(moe::align_capacity(0, 256, 64) == 0);
  static_assert(moe::align_capacity(8, 256, 64) == 512);       // every pair alone
  static_assert(moe::align_capacity(4096, 1, 64) == 4096);     // one expert
  static_assert(moe::align_capacity(4096, 256, 64) == 20224);  // 4096 + 256 * 63, cut to whole blocks
  static_assert(moe::align_capacity(1LL << 31, 1024, 128) > (1LL << 31));
  // Of 10 pairs and 3 experts with blocks of 4 the worst is 5 + 4 + 1: 8 + 4 + 4.
  static_assert(moe::align_capacity(10, 3, 4) == 16);
}

TEST_CASE("ids are read once as long as a warp has few, else twice, and nothing spills") {
  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("M=1024 k=8 E=256 block_m=16");
  CHECK(make_plan(*runtime, align(), fields)->info().tiles == "warps=32 cluster=8");
  struct {
    const char* tiles;
    int warps, times;
  } const cases[] = {{"warps=32 cluster=8", 256, 1}, {"warps=8 cluster=8", 64, 1}, {"warps=8 cluster=2", 16, 2}};
  for (const auto& [tiles, warps, times] : cases) {
    CAPTURE(tiles);
    const auto plan = make_plan(*runtime, align(), fields, parse_fields(tiles));
    CHECK(plan->info().kernels[0].spill_bytes == 0);
    HostCall call(reference::make_workload("moe.align", fields, reference::Inputs::typical, 5)->tensors());
    plan->run(call.views(), nullptr);
    bool seen = false;
    for (const BufferTraffic& buffer : runtime->device().last_traffic()) {
      if (buffer.name != "topk_ids") continue;
      seen = true;
      // A run's access of 32 ids off a sector's edge has one more. Twice: but for the first 128 of each warp.
      const int kept = times == 1 ? 0 : warps * 128;
      const int accesses = (times * 8192 - kept) / 32;
      CHECK(buffer.sectors_read >= accesses * 4);
      CHECK(buffer.sectors_read <= accesses * 5);
    }
    CHECK(seen);
  }
}

TEST_CASE("every field of a problem that shapes the kernel changes its key, and no other does") {
  const auto key_of = [](const std::string& text, const std::string& tiles = "warps=8 cluster=1") {
    const auto instance = align().instantiate(parse_fields(text), parse_fields(tiles), Target{"sm_90a"});
    return request_digest(instance->kernels()[0], TemplateSet::embedded()).hex();
  };
  std::set<std::string> keys{key_of("E=256")};
  for (const char* change : {"E=512", "E=256 layout=contiguous", "E=256 layout=masked", "E=256 block_m=64",
                             "E=256 expert_map=true", "E=256 id_dtype=i64", "E=256 programmatic=true"}) {
    CAPTURE(change);
    CHECK(keys.insert(key_of(change)).second);
  }
  CHECK(keys.insert(key_of("E=256", "warps=4 cluster=1")).second);
  CHECK(keys.insert(key_of("E=256", "warps=8 cluster=2")).second);
  CHECK(key_of("E=256 M=9 k=2 max_rows=7") == key_of("E=256"));
  CHECK(key_of("E=256 expert_map=true known_experts=512") == key_of("E=256 expert_map=true"));
  CHECK(key_of("E=256 layout=masked block_m=64") == key_of("E=256 layout=masked"));
}

TEST_CASE("bad problems, tiles and arguments are refused by name, value and rule") {
  const auto refused = [](const char* text) { return thrown([&] { align().complete(parse_fields(text)); }); };
  CHECK(refused("E=1025") == "E=1025: must be 1 to 1024");
  CHECK(refused("block_m=0") == "block_m=0: must be 1 to 1024");
  CHECK(refused("max_rows=0") == "max_rows=0: must be 1 to 8388607, so that E=256 times it is below 2^31");
  CHECK(refused("E=8 known_experts=9") == "known_experts=9: must be E=8 without an expert_map");
  CHECK(refused("M=1000000000 k=8") == "M=1000000000: M * k = 1000000000 * 8 must be at most 2147483647");
  const auto tiles = [](const char* text, const char* arch) {
    return thrown([&] { align().instantiate(parse_fields("E=1024"), parse_fields(text), Target{arch}); });
  };
  CHECK(tiles("warps=32 cluster=1", "sm_90a") ==
        "tiles warps=32 cluster=1: every warp's counts of all experts must fit 99 KB of shared memory");
  CHECK(tiles("warps=4 cluster=9", "sm_90a") == "tiles warps=4 cluster=9: cluster must be 1 to 8");
  CHECK(tiles("warps=4 cluster=2", "sm_80") == "tiles warps=4 cluster=2: sm_80 has no clusters, so cluster must be 1");

  const auto runtime = emulator_runtime("sm_90a");
  const FieldMap fields = parse_fields("M=3 k=2 E=8 block_m=4 layout=contiguous");
  const auto plan = make_plan(*runtime, align(), fields);
  const auto spoiled = [&](std::string_view wanted, const std::function<void(TensorView&)>& spoil) {
    HostCall call(reference::make_workload("moe.align", fields, reference::Inputs::typical, 5)->tensors());
    return thrown([&] {
      plan->run(call.views_for(*plan,
                               [&](std::string_view name, TensorView view) {
                                 if (name == wanted) spoil(view);
                                 return view;
                               }),
                nullptr);
    });
  };
  CHECK(spoiled("sorted_pair_ids", [](TensorView& view) { view.shape[0] = 23; }) ==
        "sorted_pair_ids: dimension 0 is 23, must be 24");
  CHECK(spoiled("expert_ids", [](TensorView& view) { view.data = nullptr; }) ==
        "expert_ids: is null; the problem needs it");
  CHECK(spoiled("grouped_layout", [](TensorView& view) { view.dtype = DType::i64; }) ==
        "grouped_layout: has dtype i64, the problem says i32");
  CHECK(spoiled("topk_ids", [](TensorView& view) {
          view.strides[0] = 3;
        }).starts_with("topk_ids: stride 3 of dimension 0 must be 2"));
}

TEST_CASE("the C++ interface aligns") {
  Runtime runtime(emulator_runtime("sm_90a"));
  const moe::AlignProblem problem{.tokens = 2, .top_k = 2, .experts = 3, .block_m = 2};
  std::vector<std::int32_t> ids{2, 0, 0, 2}, rows(6), experts(3), total(1);
  const moe::AlignArgs args{.topk_ids = TensorView::dense(ids.data(), DType::i32, {2, 2}),
                            .sorted_pair_ids = TensorView::dense(rows.data(), DType::i32, {6}),
                            .expert_ids = TensorView::dense(experts.data(), DType::i32, {3}),
                            .total_padded = TensorView::dense(total.data(), DType::i32, {1})};
  moe::align(runtime, problem, args);
  CHECK(rows == std::vector<std::int32_t>{1, 2, 0, 3, 4, 4});
  CHECK(experts == std::vector<std::int32_t>{0, 2, -1});
  CHECK(total[0] == 4);
  CHECK_THROWS_AS(moe::AlignPlan().run(args), Error);
}

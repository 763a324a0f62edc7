#include "runtime/problem_map.h"

#include <doctest/doctest.h>
#include <gdnjit/gdn.h>

#include <set>
#include <thread>
#include <vector>

#include "codegen/fields.h"
#include "codegen/gdn/options_names.h"

using namespace gdnjit;
using gdn::StepProblem;
using Map = ProblemMap<StepProblem, int>;

TEST_CASE("an equal problem finds its entry, from the memo and from the map") {
  Map map;
  StepProblem small{.heads_v = 8};
  StepProblem large{.heads_v = 64};
  CHECK(map.find(small) == nullptr);
  map.insert(small, std::make_shared<int>(1));
  map.insert(large, std::make_shared<int>(2));
  for (int round = 0; round < 3; ++round) {
    CHECK(**map.find(small) == 1);
    CHECK(**map.find(small) == 1);
    CHECK(**map.find(large) == 2);
  }
}

TEST_CASE("the first of two equal insertions stays") {
  Map map;
  const auto first = map.insert({}, std::make_shared<int>(1));
  CHECK(map.insert({}, std::make_shared<int>(2)) == first);
}

TEST_CASE("every field of the problem tells problems apart") {
  Map map;
  map.insert({}, std::make_shared<int>(0));
  StepProblem probe;
  int fields = 0;
  visit_fields(probe, [&](std::string_view name, auto& value) {
    CAPTURE(name);
    const auto saved = value;
    using Value = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_same_v<Value, bool>) {
      value = !value;
    } else if constexpr (std::is_enum_v<Value>) {
      value = static_cast<Value>(static_cast<unsigned char>(value) + 1);
    } else {
      value += 1;
    }
    CHECK(map.find(probe) == nullptr);
    value = saved;
    CHECK(map.find(probe) != nullptr);
    ++fields;
  });
  CHECK(static_cast<std::size_t>(fields) == to_fields(probe).size());
}

TEST_CASE("padding bytes do not tell problems apart") {
  Map map;
  map.insert({}, std::make_shared<int>(7));
  alignas(StepProblem) unsigned char storage[sizeof(StepProblem)];
  std::fill(std::begin(storage), std::end(storage), 0xAB);
  const auto* dirty = new (storage) StepProblem;
  REQUIRE(map.find(*dirty) != nullptr);
  CHECK(**map.find(*dirty) == 7);
}

TEST_CASE("a memo does not outlive its map, even at the same address") {
  auto map = std::make_unique<Map>();
  map->insert({}, std::make_shared<int>(1));
  CHECK(**map->find({}) == 1);
  Map* const address = map.get();
  map->~Map();
  new (address) Map;
  CHECK(address->find({}) == nullptr);
}

TEST_CASE("hashes of neighbouring problems spread over low and high bits") {
  std::set<std::size_t> low, high;
  for (int batch = 1; batch <= 1024; ++batch) {
    const std::size_t hash = ProblemKeyHash<StepProblem>{}(ProblemKey<StepProblem>(StepProblem{.batch = batch}));
    low.insert(hash & 0xFFFF);
    high.insert(hash >> 48);
  }
  CHECK(low.size() > 980);  // 1024 random values in 65536 places: 1016 different ones
  CHECK(high.size() > 980);
}

TEST_CASE("many threads find and insert at once") {
  Map map;
  constexpr int kProblems = 64;
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 8; ++thread) {
    threads.emplace_back([&, thread] {
      for (int step = 0; step < 2000; ++step) {
        const int number = (step * 7 + thread) % kProblems + 1;
        const StepProblem problem{.batch = number};
        const auto* found = map.find(problem);
        const int value = found != nullptr ? **found : *map.insert(problem, std::make_shared<int>(number));
        if (value != number) ++wrong;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
}

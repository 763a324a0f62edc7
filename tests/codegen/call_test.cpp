// What pack() writes into: blocks and launches, and their limits.
#include "codegen/call.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>

#include "codegen/tensor_map.h"
#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

struct Plain {
  void* data;
  std::int64_t rows;
};

struct WithMap {
  std::int64_t rows;
  TensorMap map;
};

TEST_CASE("a new call launches nothing") { CHECK(Call().launches().empty()); }

TEST_CASE("blocks are zeroed, aligned for tensor maps, and live in the call") {
  Call call;
  std::memset(static_cast<void*>(&call.add_block<WithMap>()), 0xff, sizeof(WithMap));
  Plain& plain = call.add_block<Plain>();
  CHECK(plain.data == nullptr);
  CHECK(plain.rows == 0);
  WithMap& map = call.add_block<WithMap>();
  CHECK(reinterpret_cast<std::uintptr_t>(&map.map) % alignof(TensorMap) == 0);
  plain.rows = 7;
  call.add_launch({.grid = {3, 1, 1}}, plain);
  call.add_launch({.grid = {0, 1, 1}}, map);
  call.add_launch({.grid = {5, 1, 1}}, plain);  // kernels may share a block
  REQUIRE(call.launches().size() == 3);
  CHECK(call.launches()[0].parameters.size() == sizeof(Plain));
  CHECK(call.launches()[0].parameters.data() == call.launches()[2].parameters.data());
  CHECK(call.launches()[1].parameters.size() == sizeof(WithMap));
  CHECK_FALSE(call.launches()[0].geometry.empty());
  CHECK(call.launches()[1].geometry.empty());
  Plain copy;
  std::memcpy(&copy, call.launches()[2].parameters.data(), sizeof(copy));
  CHECK(copy.rows == 7);
}

TEST_CASE("too many kernels or parameters are our own fault") {
  Call call;
  struct Large {
    std::byte bytes[Call::kMaxParameterBytes];
  };
  const Large& block = call.add_block<Large>();
  call.add_block<Large>();
  CHECK(error_of([&] { call.add_block<Plain>(); }).code() == ErrorCode::internal);
  for (std::size_t kernel = 0; kernel < Call::kMaxKernels; ++kernel) call.add_launch({}, block);
  CHECK(error_of([&] { call.add_launch({}, block); }).code() == ErrorCode::internal);
}

}  // namespace
}  // namespace gdnjit

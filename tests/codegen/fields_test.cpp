#include "codegen/fields.h"

#include <doctest/doctest.h>
#include <gdnjit/gdn.h>

#include <limits>

#include "tests/support/error_of.h"

namespace gdnjit {
namespace {

struct Tiles {
  int block_v = 16;
  std::int64_t rows = 1;
  float scale = 0.25F;
  bool two_pass = false;
  DType dtype = DType::bf16;
  friend bool operator==(const Tiles&, const Tiles&) = default;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, Tiles>
constexpr void visit_fields(Self& tiles, Visitor&& visit) {
  visit("block_v", tiles.block_v);
  visit("rows", tiles.rows);
  visit("scale", tiles.scale);
  visit("two_pass", tiles.two_pass);
  visit("dtype", tiles.dtype);
}

struct Forgetful {
  int seen = 0;
  int forgotten = 0;
};

template <typename Self, typename Visitor>
requires std::same_as<std::remove_const_t<Self>, Forgetful>
constexpr void visit_fields(Self& object, Visitor&& visit) { visit("seen", object.seen); }

static_assert(every_field_visited<Tiles>());
static_assert(every_field_visited<gdn::StepProblem>());
static_assert(!every_field_visited<Forgetful>(), "a forgotten member is noticed");

TEST_CASE("a struct becomes named text fields in declaration order") {
  CHECK(fields_text(to_fields(Tiles{})) == "block_v=16 rows=1 scale=0.25 two_pass=false dtype=bf16");
}

TEST_CASE("fields read back to the same struct") {
  const Tiles tiles{.block_v = -3,
                    .rows = std::numeric_limits<std::int64_t>::max(),
                    .scale = 0.1F,
                    .two_pass = true,
                    .dtype = DType::i64};
  CHECK(from_fields<Tiles>(to_fields(tiles)) == tiles);
  CHECK(from_fields<Tiles>(parse_fields(fields_text(to_fields(tiles)))) == tiles);
}

TEST_CASE("a float's text is the shortest that reads back exactly") {
  for (const float value : {0.0F, 1.0F, 0.1F, 1e-6F, 0.08838834764F, 3.4028235e38F, 1e-45F, -5.0F}) {
    Tiles tiles;
    tiles.scale = value;
    CHECK(from_fields<Tiles>(to_fields(tiles)).scale == value);
  }
  CHECK(value_text(0.1F) == "0.1");
  CHECK(value_text(1e-6F) == "1e-06");
}

TEST_CASE("fields that are not given keep the value they had") {
  const Tiles tiles = from_fields(parse_fields("rows=8"), Tiles{.block_v = 64});
  CHECK(tiles == Tiles{.block_v = 64, .rows = 8});
}

TEST_CASE("the last of two values for one field counts") {
  CHECK(from_fields<Tiles>(parse_fields("rows=8 rows=9")).rows == 9);
}

TEST_CASE("an unknown field is refused with the nearest name") {
  const Error error = error_of([] { from_fields<Tiles>(parse_fields("blok_v=8")); });
  CHECK(error.code() == ErrorCode::invalid_argument);
  CHECK(says(error, "unknown field 'blok_v' (did you mean 'block_v'?)"));
  CHECK(says(error_of([] { from_fields<Tiles>(parse_fields("zzz=8")); }),
             "known: block_v, rows, scale, two_pass, dtype"));
}

TEST_CASE("a value that cannot be read names field, value and what is allowed") {
  const auto message = [](const char* text) {
    return std::string(error_of([&] { from_fields<Tiles>(parse_fields(text)); }).what());
  };
  CHECK(message("block_v=x") == "block_v=x: not a whole number");
  CHECK(message("block_v=1.5") == "block_v=1.5: not a whole number");
  CHECK(message("block_v=99999999999") == "block_v=99999999999: not a whole number");
  CHECK(message("block_v=") == "block_v=: not a whole number");
  CHECK(message("scale=abc") == "scale=abc: not a number");
  CHECK(message("scale=inf") == "scale=inf: not a number");
  CHECK(message("scale=nan") == "scale=nan: not a number");
  CHECK(message("two_pass=2") == "two_pass=2: not a boolean (true, false)");
  CHECK(message("dtype=bf17").starts_with("dtype=bf17: unknown value (did you mean 'bf16'?)"));
}

TEST_CASE("text that is not name=value is refused") {
  for (const char* text : {"rows", "=8", "rows=1 8"}) {
    CAPTURE(text);
    CHECK(error_of([&] { parse_fields(text); }).code() == ErrorCode::invalid_argument);
  }
  CHECK(parse_fields("").empty());
  CHECK(parse_fields("  a=1   b=x=y ") == FieldMap{{"a", "1"}, {"b", "x=y"}});
}

TEST_CASE("fields are found, replaced and added by name") {
  FieldMap fields = parse_fields("a=1 b=2");
  CHECK(find_field(fields, "b") == "2");
  CHECK(!find_field(fields, "c").has_value());
  set_field(fields, "a", "3");
  set_field(fields, "c", "4");
  CHECK(fields_text(fields) == "a=3 b=2 c=4");
}

TEST_CASE("an initialiser names its fields and writes floats exactly") {
  CHECK(designated_initializer(Tiles{}) ==
        "{\n    .block_v = 16,\n    .rows = 1,\n    .scale = 0x1p-2f,\n    .two_pass = false,\n"
        "    .dtype = gdnjit::DType::bf16,\n}");
}

TEST_CASE("the problem of a decode step survives the way through text") {
  gdn::StepProblem problem;
  problem.batch = 64;
  problem.scale = 0.08838834764F;
  problem.state_dtype = DType::f16;
  problem.exact_batch = true;
  // The enums of the options get their names in codegen/gdn; numbers, floats, dtypes and flags are covered here.
  int fields = 0;
  visit_fields(problem, [&](std::string_view name, auto& value) {
    using Value = std::remove_cvref_t<decltype(value)>;
    if constexpr (!std::is_enum_v<Value> || std::same_as<Value, DType>) {
      Value read{};
      parse_field(name, value_text(value), read);
      CHECK(read == value);
      ++fields;
    }
  });
  CHECK(fields > 15);
}

}  // namespace
}  // namespace gdnjit

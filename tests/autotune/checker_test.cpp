#include "autotune/checker.h"

#include <doctest/doctest.h>

#include "tests/autotune/fakes.h"

using namespace gdnjit;
using namespace gdnjit::tests;

namespace {

autotune::CheckResult check_kernel(const std::string& does) {
  FakeRuntime runtime;
  FakeOperator op;
  op.space = {{"one", {.does = does}}};
  const FieldMap problem = op.complete({});
  const auto plan = make_plan(*runtime.impl, op, problem, op.tiles("one"));
  const autotune::CheckResult result = autotune::check(*plan, FakeWorkload(op, problem));
  CHECK(runtime.device->live_allocations == 0);
  CHECK(runtime.device->launches == 2);
  return result;
}

}  // namespace

TEST_CASE("a right kernel passes") {
  const auto result = check_kernel("good");
  CHECK(result.passed());
  CHECK(result.worst_rms() == 0);
  CHECK(result.text() == "out rms 0 (tolerance 1e-06), largest 0");
}

TEST_CASE("a wrong value fails") {
  const auto result = check_kernel("wrong");
  CHECK_FALSE(result.passed());
  CHECK(result.guards_intact);
  CHECK(result.repeatable);
  CHECK(result.worst_rms() > 1e-3);
}

TEST_CASE("an element that is never written fails") {
  const auto result = check_kernel("unwritten");
  CHECK_FALSE(result.passed());
  CHECK(result.text().find("not finite or never written") != std::string::npos);
}

TEST_CASE("a write behind a tensor fails and names it, though the values are right") {
  const auto result = check_kernel("outside");
  CHECK_FALSE(result.passed());
  CHECK(result.worst_rms() == 0);
  CHECK(result.damaged == "out (after)");
  CHECK(result.text().find("wrote outside of out (after)") != std::string::npos);
}

TEST_CASE("a second run with other bits fails, though both are within the tolerance") {
  const auto result = check_kernel("unstable");
  CHECK_FALSE(result.passed());
  CHECK_FALSE(result.repeatable);
  CHECK(result.errors.front().passed());
}

TEST_CASE("a launch that fails is an error, and the memory is given back") {
  FakeRuntime runtime;
  FakeOperator op;
  op.space = {{"one", {.does = "fault"}}};
  const auto plan = make_plan(*runtime.impl, op, op.complete({}), op.tiles("one"));
  CHECK_THROWS_AS(autotune::check(*plan, FakeWorkload(op, op.complete({}))), Error);
  CHECK(runtime.device->live_allocations == 0);
}

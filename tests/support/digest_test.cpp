#include "runtime/support/digest.h"

#include <doctest/doctest.h>

using namespace gdnjit;

TEST_CASE("a digest is 32 hexadecimal digits and depends on every byte") {
  CHECK(digest_of(std::string_view("a")).hex().size() == 32);
  CHECK(digest_of(std::string_view("a")) != digest_of(std::string_view("b")));
  CHECK(digest_of(std::string_view("a")) == digest_of(std::string_view("a")));
}

TEST_CASE("part boundaries count") {
  const std::string_view left[] = {"ab", "c"};
  const std::string_view right[] = {"a", "bc"};
  CHECK(digest_of_parts(left) != digest_of_parts(right));
}

#include "runtime/support/text.h"

#include <doctest/doctest.h>

using namespace gdnjit;

TEST_CASE("split keeps empty pieces") {
  CHECK(split("a::b", ':') == std::vector<std::string>{"a", "", "b"});
  CHECK(split("", ':') == std::vector<std::string>{""});
}

TEST_CASE("a typing error finds its word, a different word does not") {
  const std::vector<std::string> models{"qwen3-next-80b", "qwen3.5-27b", "kimi-linear-48b"};
  CHECK(nearest("qwen3-next-8b", models) == "qwen3-next-80b");
  CHECK(nearest("kimi-liner-48b", models) == "kimi-linear-48b");
  CHECK(nearest("llama", models).empty());
  CHECK(suggestion("qwen3-next-8b", models) == " (did you mean 'qwen3-next-80b'?)");
}

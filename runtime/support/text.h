// Small text helpers shared by messages, keys and the command line.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gdnjit {

std::vector<std::string> split(std::string_view text, char separator);  // keeps empty pieces
std::string join(std::span<const std::string> pieces, std::string_view separator);

// The candidate nearest to `word` by edit distance, or "" if none is near enough to be a typing error.
std::string nearest(std::string_view word, std::span<const std::string> candidates);

// " (did you mean 'x'?)" or "; known: a, b, c" for messages about an unknown name.
std::string suggestion(std::string_view word, std::span<const std::string> candidates);

}  // namespace gdnjit

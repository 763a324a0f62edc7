// Covering arrays of strength two: a short list of cases in which every pair of values of every two options occurs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace gdnjit::tests {

struct Axis {
  std::string name;
  std::vector<std::string> values;
};

// A case holds, for each axis, the index of its value; -1 while the case is being built.
using Case = std::vector<int>;

// False if the values chosen so far can never be part of a valid case.
using CaseRule = std::function<bool(const Case&)>;

// Deterministic for a seed. Every pair that the rule allows is covered; pairs it forbids are left out.
std::vector<Case> pairwise_cases(const std::vector<Axis>& axes, const CaseRule& allowed, std::uint64_t seed);

// A few of the cases in which every value of every axis occurs that occurs in all of them.
std::vector<Case> every_value(const std::vector<Case>& cases);

// The value chosen for an axis of that name, "" while it is open. Throws std::logic_error for an unknown name.
std::string chosen(const std::vector<Axis>& axes, const Case& built, std::string_view name);

}  // namespace gdnjit::tests

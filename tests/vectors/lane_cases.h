// Cases of instructions that work on each lane alone: one thread, one set of operands, one result.
#pragma once

#include <string>
#include <vector>

#include "tests/vectors/vectors.h"

namespace gdnjit::vectors {

// What operands are drawn from: values that matter for the kind, then random bits.
enum class Operands : unsigned char { integers, floats, halves, bfloats, fp8, doubles, wide_integers };

struct LaneOp {
  std::string text;      // "prmt.b32 %0, %1, %2, %3;": result first
  std::string operands;  // one register class an operand, as in inline assembly: "rrr", "hh", "l"
  char result = 'r';
  Operands values = Operands::integers;
  Comparison comparison = {};
  int first_arch = 80;
};

// One case an op, named by its text.
void add_lane_cases(std::vector<VectorCase>& cases, const std::string& family, const std::vector<LaneOp>& ops);

// Families, each in its file.
void add_integer_cases(std::vector<VectorCase>& cases);
void add_floating_cases(std::vector<VectorCase>& cases);
void add_packed_cases(std::vector<VectorCase>& cases);
void add_conversion_cases(std::vector<VectorCase>& cases);
void add_warp_cases(std::vector<VectorCase>& cases);
void add_matrix_cases(std::vector<VectorCase>& cases);
void add_wgmma_cases(std::vector<VectorCase>& cases);
void add_async_cases(std::vector<VectorCase>& cases);
void add_wrapper_cases(std::vector<VectorCase>& cases);

}  // namespace gdnjit::vectors

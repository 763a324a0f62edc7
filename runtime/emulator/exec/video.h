// What a video instruction does: decoded once, kept in Program::video.
#pragma once

#include <cstdint>

namespace gdnjit::emulator {

enum class VideoOp : std::uint8_t { add, sub, absdiff, min, max, shl, shr, mad, set, avrg };
enum class VideoSecond : std::uint8_t { none, add, min, max };

struct VideoSpec {
  VideoOp op = VideoOp::add;
  std::uint32_t elements = 0;  // 2 or 4 for the forms on all elements, 0 for one
  bool result_signed = false;
  bool a_signed = false;
  bool b_signed = false;
  bool saturates = false;
  std::uint8_t compare = 0;  // of set: eq ne lt le gt ge
  // One element: 0 the register, 1 to 4 a byte, 5 and 6 a halfword. All elements: four bits for each, the number of
  // an element of {b, a}.
  std::uint16_t a_select = 0;
  std::uint16_t b_select = 0;
  // One element.
  VideoSecond second = VideoSecond::none;  // the result with operand c
  std::uint8_t merge = 0;                  // as a_select: where in operand c the result goes
  bool clamps = false;                     // the shift amount
  bool a_negated = false;                  // of mad
  bool b_negated = false;
  bool c_negated = false;
  bool plus_one = false;
  std::uint8_t shift = 0;
  // All elements.
  std::uint8_t mask = 0;
  bool accumulates = false;  // the sum of the elements and operand c
};

}  // namespace gdnjit::emulator

#include "runtime/emulator/types.h"

#include <cstddef>
#include <iterator>

namespace gdnjit::emulator {
namespace {
// In the order of Type.
constexpr std::string_view kNames[] = {
    "none",    "pred",   "b8",     "b16",    "b32",    "b64",    "u8",     "u16",    "u32",    "u64",    "s8",
    "s16",     "s32",    "s64",    "f16",    "bf16",   "f16x2",  "bf16x2", "tf32",   "f32",    "f64",    "f32x2",
    "e4m3",    "e5m2",   "e2m3",   "e3m2",   "e2m1",   "ue8m0",  "e4m3x2", "e5m2x2", "e2m3x2", "e3m2x2", "e2m1x2",
    "ue8m0x2", "e4m3x4", "e5m2x4", "e2m3x4", "e3m2x4", "e2m1x4", "u16x2",  "s16x2",  "b128"};
static_assert(std::size(kNames) == static_cast<std::size_t>(Type::b128) + 1);
}  // namespace

std::optional<Type> find_type(std::string_view name) {
  for (std::size_t index = 1; index < std::size(kNames); ++index) {
    if (kNames[index] == name) return static_cast<Type>(index);
  }
  return std::nullopt;
}

std::string_view type_name(Type type) { return kNames[static_cast<std::size_t>(type)]; }

}  // namespace gdnjit::emulator

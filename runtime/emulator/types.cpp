#include "runtime/emulator/types.h"

#include <array>
#include <cstddef>

namespace gdnjit::emulator {
namespace {
// In the order of Type.
constexpr std::array<std::string_view, 21> kNames{"none", "pred", "b8",    "b16",    "b32",  "b64", "u8",
                                                  "u16",  "u32",  "u64",   "s8",     "s16",  "s32", "s64",
                                                  "f16",  "bf16", "f16x2", "bf16x2", "tf32", "f32", "f64"};
}  // namespace

std::optional<Type> find_type(std::string_view name) {
  for (std::size_t index = 1; index < kNames.size(); ++index) {
    if (kNames[index] == name) return static_cast<Type>(index);
  }
  return std::nullopt;
}

std::string_view type_name(Type type) { return kNames.at(static_cast<std::size_t>(type)); }

}  // namespace gdnjit::emulator

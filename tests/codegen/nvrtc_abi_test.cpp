// Our declarations of NVRTC against NVIDIA's header. Built only where nvrtc.h is found.
#include <doctest/doctest.h>
#include <nvrtc.h>

#include <type_traits>

#include "codegen/nvrtc_library.h"

namespace gdnjit {
namespace {

// The same size in the same kind of register.
template <typename Ours, typename Theirs>
constexpr bool same_value = sizeof(Ours) == sizeof(Theirs) && std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>;

template <typename Ours, typename Theirs>
constexpr bool same_function = false;

template <typename OurResult, typename... Ours, typename TheirResult, typename... Theirs>
requires(sizeof...(Ours) ==
         sizeof...(Theirs)) constexpr bool same_function<OurResult (*)(Ours...), TheirResult (*)(Theirs...)> =
    same_value<OurResult, TheirResult> && (same_value<Ours, Theirs> && ...);

static_assert(same_function<decltype(NvrtcTable::get_error_string), decltype(&nvrtcGetErrorString)>);
static_assert(same_function<decltype(NvrtcTable::version), decltype(&nvrtcVersion)>);
static_assert(same_function<decltype(NvrtcTable::create_program), decltype(&nvrtcCreateProgram)>);
static_assert(same_function<decltype(NvrtcTable::destroy_program), decltype(&nvrtcDestroyProgram)>);
static_assert(same_function<decltype(NvrtcTable::compile_program), decltype(&nvrtcCompileProgram)>);
static_assert(same_function<decltype(NvrtcTable::get_ptx_size), decltype(&nvrtcGetPTXSize)>);
static_assert(same_function<decltype(NvrtcTable::get_ptx), decltype(&nvrtcGetPTX)>);
static_assert(same_function<decltype(NvrtcTable::get_cubin_size), decltype(&nvrtcGetCUBINSize)>);
static_assert(same_function<decltype(NvrtcTable::get_cubin), decltype(&nvrtcGetCUBIN)>);
static_assert(same_function<decltype(NvrtcTable::get_log_size), decltype(&nvrtcGetProgramLogSize)>);
static_assert(same_function<decltype(NvrtcTable::get_log), decltype(&nvrtcGetProgramLog)>);

TEST_CASE("the results that we tell apart have NVRTC's values") {
  CHECK(kNvrtcSuccess == static_cast<int>(NVRTC_SUCCESS));
  CHECK(kNvrtcOutOfMemory == static_cast<int>(NVRTC_ERROR_OUT_OF_MEMORY));
  CHECK(kNvrtcInvalidOption == static_cast<int>(NVRTC_ERROR_INVALID_OPTION));
  CHECK(kNvrtcCompilation == static_cast<int>(NVRTC_ERROR_COMPILATION));
  CHECK(kNvrtcBuiltinFailure == static_cast<int>(NVRTC_ERROR_BUILTIN_OPERATION_FAILURE));
}

}  // namespace
}  // namespace gdnjit

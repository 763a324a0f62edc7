#include "runtime/device_choice.h"

#include <charconv>

#include "codegen/kernel_spec.h"
#include "runtime/support/check.h"
#include "runtime/support/log.h"

namespace gdnjit {
namespace {

constexpr std::string_view kAllowed =
    "must be auto, cuda, cuda:<number>, emulator or emulator:<architecture> such as emulator:sm_80";

}  // namespace

DeviceChoice parse_device_choice(std::string_view label, std::string_view text) {
  DeviceChoice choice;
  const std::size_t colon = text.find(':');
  const std::string_view kind = text.substr(0, colon);
  const bool has_detail = colon != std::string_view::npos;
  const std::string_view detail = has_detail ? text.substr(colon + 1) : std::string_view();
  if (kind == "auto" && !has_detail) return choice;
  if (kind == "cuda") {
    choice.kind = DeviceChoice::Kind::cuda;
    if (!has_detail) return choice;
    const auto [end, error] = std::from_chars(detail.data(), detail.data() + detail.size(), choice.ordinal);
    require(error == std::errc() && end == detail.data() + detail.size() && choice.ordinal >= 0, "{}={}: {}", label,
            text, kAllowed);
    return choice;
  }
  require(kind == "emulator", "{}={}: {}", label, text, kAllowed);
  choice.kind = DeviceChoice::Kind::emulator;
  if (has_detail) choice.arch = parse_target(detail).arch;
  return choice;
}

std::unique_ptr<Device> open_device(const DeviceChoice& choice, const DeviceSources& sources) {
  if (choice.kind == DeviceChoice::Kind::emulator) return sources.make_emulator(choice.arch);
  const int count = sources.cuda_device_count();
  if (choice.kind == DeviceChoice::Kind::automatic) {
    if (count > 0) return sources.make_cuda(0);
    warn_once("no GPU", fmt::format("running on the emulator of {}, whose times are not GPU times: {}. "
                                    "GDNJIT_DEVICE=emulator chooses it without this message",
                                    choice.arch, sources.cuda_unavailable_reason()));
    return sources.make_emulator(choice.arch);
  }
  if (count == 0) {
    fail(ErrorCode::device_unavailable, "opening device cuda:{}: {}; GDNJIT_DEVICE=emulator chooses the emulator",
         choice.ordinal, sources.cuda_unavailable_reason());
  }
  if (choice.ordinal >= count) {
    fail(ErrorCode::device_unavailable,
         "opening device cuda:{}: this machine shows {} GPU{} (0 to {}); check "
         "CUDA_VISIBLE_DEVICES",
         choice.ordinal, count, count == 1 ? "" : "s", count - 1);
  }
  return sources.make_cuda(choice.ordinal);
}

}  // namespace gdnjit

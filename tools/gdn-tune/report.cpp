#include "tools/gdn-tune/report.h"

#include <fmt/format.h>

#include <array>
#include <chrono>

namespace gdnjit::tool {

Json json_of(const FieldMap& fields) {
  Json object = Json::object();
  for (const auto& [name, value] : fields) object[name] = value;
  return object;
}

Json json_of(const cache::TuningRecord& record) {
  return {{"operator", record.operator_name},  {"problem", record.problem},
          {"device", record.device},           {"arch", record.arch},
          {"deployment", record.deployment},   {"tiles", record.tiles},
          {"basis", basis_text(record.basis)}, {"status", status_text(record.status)},
          {"chosen", record.chosen},           {"default", record.is_default},
          {"time_us", record.time_us},         {"spread_us", record.spread_us},
          {"samples", record.samples},         {"error", record.error},
          {"key", record.key.hex()},           {"toolchain", record.toolchain},
          {"reason", record.reason},           {"created_unix_s", record.created_unix_s}};
}

Json json_of(const cache::BinaryRecord& record) {
  return {{"key", record.key.hex()},
          {"request", record.request.hex()},
          {"status", record.status == cache::BinaryStatus::ready ? "ready" : "compile_failed"},
          {"operator", record.operator_name},
          {"signature", record.signature},
          {"arch", record.arch},
          {"options", record.options},
          {"toolchain", record.toolchain},
          {"entry", record.entry},
          {"source_bytes", record.source.size()},
          {"ptx_bytes", record.ptx.size()},
          {"cubin_bytes", record.cubin.size()},
          {"registers", record.registers},
          {"static_shared_bytes", record.static_shared_bytes},
          {"stack_bytes", record.stack_bytes},
          {"spill_store_bytes", record.spill_store_bytes},
          {"spill_load_bytes", record.spill_load_bytes},
          {"compile_ms", record.compile_ms},
          {"created_unix_s", record.created_unix_s}};
}

std::string_view basis_text(cache::TuningBasis basis) {
  return basis == cache::TuningBasis::measured ? "measured" : "modelled";
}

std::string_view status_text(cache::TuningStatus status) {
  static constexpr std::array<std::string_view, 5> kNames{"ok", "wrong", "crashed", "hung", "rejected"};
  return kNames.at(static_cast<std::size_t>(status));
}

std::string origin_text(const SelectedProblem& selected) {
  if (selected.origins.empty()) return "";
  const std::string& first = selected.origins.front();
  if (selected.origins.size() == 1) return first;
  return fmt::format("{} +{}", first, selected.origins.size() - 1);
}

std::int64_t now_unix_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace gdnjit::tool

#include "tools/gdn-tune/report.h"

#include <fmt/format.h>

#include <array>
#include <chrono>

#include "tools/gdn-tune/command_line.h"

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

std::vector<std::pair<std::string, std::uint64_t>> counter_list(const LaunchCounters& c) {
  return {{"warp_instructions", c.warp_instructions},
          {"lane_instructions", c.lane_instructions},
          {"float_arithmetic", c.float_arithmetic},
          {"integer_arithmetic", c.integer_arithmetic},
          {"special_function", c.special_function},
          {"conversion", c.conversion},
          {"tensor_core", c.tensor_core},
          {"tensor_core_macs", c.tensor_core_macs},
          {"tensor_shared_bytes", c.tensor_shared_bytes},
          {"shuffle", c.shuffle},
          {"control", c.control},
          {"data_movement", c.data_movement},
          {"global_load_instructions", c.global_load_instructions},
          {"global_store_instructions", c.global_store_instructions},
          {"sectors_read", c.sectors_read},
          {"sectors_written", c.sectors_written},
          {"bytes_requested_read", c.bytes_requested_read},
          {"bytes_requested_written", c.bytes_requested_written},
          {"shared_load_instructions", c.shared_load_instructions},
          {"shared_store_instructions", c.shared_store_instructions},
          {"shared_wavefronts", c.shared_wavefronts},
          {"shared_wavefronts_ideal", c.shared_wavefronts_ideal},
          {"divergent_branches", c.divergent_branches},
          {"block_barriers", c.block_barriers},
          {"blocks", c.blocks},
          {"warps", c.warps}};
}

Json json_of(const LaunchCounters& counters) {
  Json json;
  for (const auto& [name, value] : counter_list(counters)) json[name] = value;
  return json;
}

Json json_of(const reference::OutputError& output) {
  return {{"tensor", output.tensor},       {"rms_ratio", output.rms_ratio}, {"max_ratio", output.max_ratio},
          {"tolerance", output.tolerance}, {"finite", output.finite},       {"passed", output.passed()}};
}

Json json_of(const Error& error) {
  return {{"code", static_cast<int>(error.code())}, {"name", error_code_name(error.code())}, {"message", error.what()}};
}

std::string verdict_of(const autotune::CheckResult& run, const reference::OutputError& output) {
  if (!output.finite) return "fail: NaN or infinity";
  if (!output.passed()) return "fail";
  if (!run.guards_intact) return "fail: wrote outside its buffers";
  if (!run.repeatable) return "fail: runs differ";
  return "pass";
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

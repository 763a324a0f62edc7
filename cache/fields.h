// Every stored record lists its columns once, here. The list writes the SQL, binds, reads and checksums a row, so a
// field that is forgotten is forgotten everywhere, and a test compares the list with the tables of schema.cpp.
#pragma once

#include <concepts>
#include <type_traits>

#include "cache/record.h"

namespace gdnjit::cache {

// Which tiles won a group (operator, problem, device, deployment, basis). Kept apart from the results: choosing
// rewrites no measurement, and merging two files has to settle one row per group.
struct Choice {
  std::string operator_name;
  std::string problem;
  std::string device;
  std::string deployment;
  TuningBasis basis = TuningBasis::measured;
  std::string tiles;
  std::int64_t chosen_unix_s = 0;
};

// A library file seen before, and the toolchain it turned out to be.
struct ToolchainRow {
  std::string path;
  std::int64_t size = 0;
  std::int64_t modified_ns = 0;
  std::string toolchain;
  std::int64_t turn = 0;  // the highest was remembered last, whatever the clock said
};

template <typename Record, typename Wanted>
concept Is = std::same_as<std::remove_const_t<Record>, Wanted>;

template <Is<BinaryRecord> Record, typename Visitor>
void visit_fields(Record& r, Visitor&& visit) {
  visit("key", r.key);
  visit("request", r.request);
  visit("status", r.status);
  visit("operator", r.operator_name);
  visit("signature", r.signature);
  visit("arch", r.arch);
  visit("options", r.options);
  visit("toolchain", r.toolchain);
  visit("entry", r.entry);
  visit("registers", r.registers);
  visit("static_shared_bytes", r.static_shared_bytes);
  visit("stack_bytes", r.stack_bytes);
  visit("spill_store_bytes", r.spill_store_bytes);
  visit("spill_load_bytes", r.spill_load_bytes);
  visit("compile_ms", r.compile_ms);
  visit("created_unix_s", r.created_unix_s);
  visit("log", r.log);
  visit("source", r.source);
  visit("ptx", r.ptx);
  visit("cubin", r.cubin);
}

// `chosen` is not a column: it follows from `choices`.
template <Is<TuningRecord> Record, typename Visitor>
void visit_fields(Record& r, Visitor&& visit) {
  visit("operator", r.operator_name);
  visit("problem", r.problem);
  visit("device", r.device);
  visit("deployment", r.deployment);
  visit("basis", r.basis);
  visit("tiles", r.tiles);
  visit("arch", r.arch);
  visit("status", r.status);
  visit("is_default", r.is_default);
  visit("time_us", r.time_us);
  visit("spread_us", r.spread_us);
  visit("samples", r.samples);
  visit("error", r.error);
  visit("key", r.key);
  visit("toolchain", r.toolchain);
  visit("reason", r.reason);
  visit("created_unix_s", r.created_unix_s);
}

template <Is<Choice> Record, typename Visitor>
void visit_fields(Record& r, Visitor&& visit) {
  visit("operator", r.operator_name);
  visit("problem", r.problem);
  visit("device", r.device);
  visit("deployment", r.deployment);
  visit("basis", r.basis);
  visit("tiles", r.tiles);
  visit("chosen_unix_s", r.chosen_unix_s);
}

template <Is<ToolchainRow> Record, typename Visitor>
void visit_fields(Record& r, Visitor&& visit) {
  visit("path", r.path);
  visit("size", r.size);
  visit("modified_ns", r.modified_ns);
  visit("toolchain", r.toolchain);
  visit("turn", r.turn);
}

template <typename Record>
struct TableOf;
template <>
struct TableOf<BinaryRecord> {
  static constexpr const char* kName = "binaries";
};
template <>
struct TableOf<TuningRecord> {
  static constexpr const char* kName = "tuning";
};
template <>
struct TableOf<Choice> {
  static constexpr const char* kName = "choices";
};
template <>
struct TableOf<ToolchainRow> {
  static constexpr const char* kName = "toolchains";
};

}  // namespace gdnjit::cache

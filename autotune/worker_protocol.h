// What a tuner and its worker say to each other: one JSON object a line.
//
//   tuner:   {"hello": {options}}                                          once
//   worker:  {"ready": "NVIDIA H200 (sm_90a)"}
//   tuner:   {"check": {"op": .., "problem": .., "tiles": ..}}
//   worker:  {"checked": {"status": 0, "reason": "", "error": 1e-3, "modelled_us": 0, "device_lost": false}}
//   tuner:   {"time": {"op": .., "problem": .., "tiles": [..], "cold_l2": true, "graph": true, "rounds": 9}}
//   worker:  {"running": index}   any number of times, then
//            {"timed": [[microseconds, ..], ..]}
//   worker:  {"failed": {"code": 7, "message": ".."}}                      in place of any answer
//
// Problems and tiles are fields text. The worker leaves when its input ends.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "autotune/evaluator.h"

namespace gdnjit::autotune {

using Json = nlohmann::json;

// A line as it goes over the wire. Bytes that are not UTF-8 (file names in messages) are replaced.
std::string to_line(const Json& message);

Json to_json(const Options& options);
Options options_from_json(const Json& json);

Json to_json(const Checked& checked);
Checked checked_from_json(const Json& json);

struct CheckRequest {
  std::string op;
  FieldMap problem, tiles;
};
Json to_json(const CheckRequest& request);
CheckRequest check_request_from_json(const Json& json);

struct TimeRequest {
  std::string op;
  FieldMap problem;
  std::vector<FieldMap> tiles = {};
  TimingOptions options = {};
};
Json to_json(const TimeRequest& request);
TimeRequest time_request_from_json(const Json& json);

Json failure_to_json(const Error& error);
[[noreturn]] void throw_failure(const Json& json);

}  // namespace gdnjit::autotune

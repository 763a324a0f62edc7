// Pieces that several commands put into their tables and JSON objects.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "autotune/checker.h"
#include "cache/record.h"
#include "runtime/counters.h"
#include "tools/gdn-tune/command.h"
#include "tools/gdn-tune/selection.h"

namespace gdnjit::tool {

Json json_of(const FieldMap& fields);
Json json_of(const cache::TuningRecord& record);
// Without source, PTX, image and log, whose sizes stand in their place.
Json json_of(const cache::BinaryRecord& record);

Json json_of(const LaunchCounters& counters);

// The counters' names and values, once for text and JSON.
std::vector<std::pair<std::string, std::uint64_t>> counter_list(const LaunchCounters& counters);

Json json_of(const reference::OutputError& output);
Json json_of(const Error& error);

// "pass", or what is wrong with an output of this run or with the run itself.
std::string verdict_of(const autotune::CheckResult& run, const reference::OutputError& output);

std::string_view basis_text(cache::TuningBasis basis);
std::string_view status_text(cache::TuningStatus status);

// "qwen3-next-80b tp=4", with "+2" for further origins; "" for a problem given by its fields.
std::string origin_text(const SelectedProblem& selected);

std::int64_t now_unix_s();

}  // namespace gdnjit::tool

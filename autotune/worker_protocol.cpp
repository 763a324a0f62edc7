#include "autotune/worker_protocol.h"

namespace gdnjit::autotune {
namespace {

std::vector<std::string> strings(const std::vector<std::filesystem::path>& paths) {
  std::vector<std::string> texts;
  for (const auto& path : paths) texts.push_back(path.string());
  return texts;
}

}  // namespace

std::string to_line(const Json& message) { return message.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Where NVRTC is searched follows from the environment, which a worker inherits.
Json to_json(const Options& options) {
  return {{"device", options.device},
          {"policy", static_cast<int>(options.policy)},
          {"cache_directory", options.cache_directory.string()},
          {"read_only_caches", strings(options.read_only_caches)},
          {"cache_limit_bytes", options.cache_limit_bytes},
          {"nvrtc_library", options.nvrtc_library.string()},
          {"templates_directory", options.templates_directory.string()},
          {"miss_file", options.miss_file.string()},
          {"compile_threads", options.compile_threads}};
}

Options options_from_json(const Json& json) {
  Options options = Options::from_environment();
  options.capture_directory.clear();  // candidates are timed
  options.device = json.at("device").get<std::string>();
  options.policy = static_cast<Policy>(json.at("policy").get<int>());
  options.cache_directory = json.at("cache_directory").get<std::string>();
  options.read_only_caches.clear();
  for (const Json& path : json.at("read_only_caches")) options.read_only_caches.emplace_back(path.get<std::string>());
  options.cache_limit_bytes = json.at("cache_limit_bytes").get<std::int64_t>();
  options.nvrtc_library = json.at("nvrtc_library").get<std::string>();
  options.templates_directory = json.at("templates_directory").get<std::string>();
  options.miss_file = json.at("miss_file").get<std::string>();
  options.compile_threads = json.at("compile_threads").get<int>();
  return options;
}

// Infinity (a modelled time of a block that does not fit) is not JSON; null stands for it.
Json to_json(const Checked& checked) {
  return {{"status", static_cast<int>(checked.status)},
          {"reason", checked.reason},
          {"error", checked.error},
          {"modelled_us", checked.modelled_us},
          {"device_lost", checked.device_lost}};
}

Checked checked_from_json(const Json& json) {
  const auto number = [&](const char* name) {
    const Json& value = json.at(name);
    return value.is_null() ? std::numeric_limits<double>::infinity() : value.get<double>();
  };
  return {.status = static_cast<cache::TuningStatus>(json.at("status").get<int>()),
          .reason = json.at("reason").get<std::string>(),
          .error = number("error"),
          .modelled_us = number("modelled_us"),
          .device_lost = json.at("device_lost").get<bool>()};
}

Json to_json(const CheckRequest& request) {
  return {{"op", request.op}, {"problem", fields_text(request.problem)}, {"tiles", fields_text(request.tiles)}};
}

CheckRequest check_request_from_json(const Json& json) {
  return {.op = json.at("op").get<std::string>(),
          .problem = parse_fields(json.at("problem").get<std::string>()),
          .tiles = parse_fields(json.at("tiles").get<std::string>())};
}

Json to_json(const TimeRequest& request) {
  std::vector<std::string> tiles;
  for (const FieldMap& fields : request.tiles) tiles.push_back(fields_text(fields));
  return {{"op", request.op},
          {"problem", fields_text(request.problem)},
          {"tiles", tiles},
          {"cold_l2", request.options.cold_l2},
          {"graph", request.options.graph},
          {"rounds", request.options.rounds}};
}

TimeRequest time_request_from_json(const Json& json) {
  TimeRequest request{.op = json.at("op").get<std::string>(),
                      .problem = parse_fields(json.at("problem").get<std::string>())};
  for (const Json& tiles : json.at("tiles")) request.tiles.push_back(parse_fields(tiles.get<std::string>()));
  request.options.cold_l2 = json.at("cold_l2").get<bool>();
  request.options.graph = json.at("graph").get<bool>();
  request.options.rounds = json.at("rounds").get<int>();
  return request;
}

Json failure_to_json(const Error& error) {
  return {{"failed", {{"code", static_cast<int>(error.code())}, {"message", error.what()}}}};
}

void throw_failure(const Json& json) {
  const Json& failed = json.at("failed");
  throw Error(static_cast<ErrorCode>(failed.at("code").get<int>()), failed.at("message").get<std::string>());
}

}  // namespace gdnjit::autotune

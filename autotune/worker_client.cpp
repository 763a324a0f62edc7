#include "autotune/worker_client.h"

#include <algorithm>
#include <utility>

#include "runtime/support/check.h"

namespace gdnjit::autotune {

using cache::TuningStatus;

WorkerClient::WorkerClient(std::vector<std::string> command, Options options, int timeout_ms)
    : command_(std::move(command)), options_(std::move(options)), timeout_ms_(timeout_ms) {}

// A worker that cannot even greet is not a candidate's fault: an error.
void WorkerClient::start() {
  if (worker_ != nullptr) return;
  worker_ = std::make_unique<ChildProcess>(command_);
  ++workers_started_;
  worker_->write_line(to_line({{"hello", to_json(options_)}}));
  const Answer answer = next_answer();
  if (answer.message.is_null()) {
    fail(ErrorCode::device_failed, "starting the tuning worker '{}': {}; to tune without one pass no worker command",
         command_.front(), answer.reason);
  }
  if (answer.message.contains("failed")) {
    worker_.reset();
    throw_failure(answer.message);
  }
}

WorkerClient::Answer WorkerClient::ask(const Json& request) {
  start();
  worker_->write_line(to_line(request));  // a worker that is gone shows when it is read from
  return next_answer();
}

WorkerClient::Answer WorkerClient::next_answer() {
  Answer answer;
  std::string line;
  const ChildProcess::Read read = worker_->read_line(line, timeout_ms_);
  if (read == ChildProcess::Read::line) {
    answer.message = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!answer.message.is_discarded() && answer.message.is_object()) return answer;
    answer.message = nullptr;
    answer.reason = fmt::format("the worker gave an unreadable answer: {}", line.substr(0, 200));
    worker_->kill();
  } else if (read == ChildProcess::Read::timeout) {
    worker_->kill();
    answer.status = TuningStatus::hung;
    answer.reason = fmt::format("no answer within {} ms; the worker was ended", timeout_ms_);
  } else {
    answer.reason = fmt::format("the worker died: {}", worker_->obituary());
  }
  worker_.reset();
  return answer;
}

Checked WorkerClient::check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) {
  const Answer answer = ask({{"check", to_json(CheckRequest{std::string(op.name()), problem, tiles})}});
  if (answer.message.is_null()) return {.status = answer.status, .reason = answer.reason};
  if (answer.message.contains("failed")) throw_failure(answer.message);
  Checked checked = checked_from_json(answer.message.at("checked"));
  if (checked.device_lost) worker_.reset();  // lost to that worker only
  checked.device_lost = false;
  return checked;
}

// Times the candidates of `request`. If the worker fails, `failure` says how and `culprit` which candidate ran.
std::vector<Timed> WorkerClient::time_alive(const TimeRequest& request, std::size_t& culprit, Answer& failure) {
  Answer answer = ask({{"time", to_json(request)}});
  while (answer.message.contains("running")) {
    culprit = std::min(answer.message.at("running").get<std::size_t>(), request.tiles.size() - 1);
    answer = next_answer();
  }
  if (answer.message.contains("timed")) {
    std::vector<Timed> timed;
    for (const Json& samples : answer.message.at("timed"))
      timed.push_back({.samples_us = samples.get<std::vector<double>>()});
    if (timed.size() == request.tiles.size()) return timed;
    answer.reason = "the worker timed another number of candidates";
  } else if (answer.message.contains("failed")) {
    const Json& failed = answer.message.at("failed");
    if (failed.at("code").get<int>() != static_cast<int>(ErrorCode::device_failed)) throw_failure(answer.message);
    answer.reason = failed.at("message").get<std::string>();
  }
  worker_.reset();
  failure = std::move(answer);
  return {};
}

std::vector<Timed> WorkerClient::time(const Operator& op, const FieldMap& problem, const std::vector<FieldMap>& tiles,
                                      const TimingOptions& options) {
  std::vector<Timed> results(tiles.size());
  std::vector<std::size_t> alive(tiles.size());
  for (std::size_t i = 0; i < alive.size(); ++i) alive[i] = i;
  // Who takes the worker down leaves the race, and the others start again: only times of one run compare.
  while (!alive.empty()) {
    TimeRequest request{.op = std::string(op.name()), .problem = problem, .options = options};
    for (std::size_t index : alive) request.tiles.push_back(tiles[index]);
    std::size_t culprit = 0;
    Answer failure;
    const std::vector<Timed> timed = time_alive(request, culprit, failure);
    if (!timed.empty()) {
      for (std::size_t i = 0; i < alive.size(); ++i) results[alive[i]] = timed[i];
      return results;
    }
    results[alive[culprit]] = {.status = failure.status, .reason = failure.reason};
    alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(culprit));
  }
  return results;
}

}  // namespace gdnjit::autotune

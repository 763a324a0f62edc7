#include "tools/gdn-tune/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tools/gdn-tune/terminal.h"
#include "tools/gdn-tune/units.h"

namespace gdnjit::tool {
namespace {

constexpr std::size_t kBarWidth = 24;
constexpr double kRedrawEvery_s = 0.1;
constexpr std::string_view kWipe = "\r\x1b[K";

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void write_to_stderr(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace

std::string progress_line(const ProgressState& state, std::size_t columns) {
  const std::size_t total = std::max<std::size_t>(state.total, 1);
  const std::size_t done = std::min(state.done, total);
  const std::size_t filled = kBarWidth * done / total;
  const std::string count = fmt::format("{}", state.total);
  std::string line =
      fmt::format("{}  [{}{}]  {:>{}}/{}  {:>3}%", state.title, std::string(filled, '#'),
                  std::string(kBarWidth - filled, '-'), state.done, count.size(), count, 100 * done / total);
  if (state.eta_s && done < total) line += "  ETA " + duration_text(*state.eta_s);
  if (!state.current.empty()) line += "  " + state.current;
  return columns == 0 ? line : cut(line, columns);
}

Progress::Progress(std::string title, Settings settings) : settings_(std::move(settings)) {
  state_.title = std::move(title);
  if (!settings_.now_s) settings_.now_s = steady_seconds;
  if (!settings_.write) settings_.write = write_to_stderr;
  started_s_ = settings_.now_s();
}

Progress::~Progress() { clear(); }

void Progress::update(std::size_t done, std::size_t total, std::string_view current, std::optional<double> eta_s) {
  if (!settings_.visible) return;
  const std::lock_guard lock(mutex_);
  const double now_s = settings_.now_s();
  if (drawn_s_ && done < total && now_s - *drawn_s_ < kRedrawEvery_s) return;
  state_.done = done;
  state_.total = total;
  state_.current = current;
  state_.eta_s = eta_s;
  if (!eta_s && done > 0) {
    state_.eta_s =
        (now_s - started_s_) / static_cast<double>(done) * static_cast<double>(total - std::min(done, total));
  }
  // One column stays free: a full last column makes some terminals wrap.
  const std::size_t columns = settings_.columns > 1 ? settings_.columns - 1 : settings_.columns;
  settings_.write(std::string(kWipe) + progress_line(state_, columns));
  drawn_s_ = now_s;
}

void Progress::clear() {
  const std::lock_guard lock(mutex_);
  if (drawn_s_) settings_.write(kWipe);
  drawn_s_.reset();
}

}  // namespace gdnjit::tool

// A line on standard error that says how far a long command is. Silent without a terminal.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

namespace gdnjit::tool {

struct ProgressState {
  std::string title;  // "tuning"
  std::size_t done = 0, total = 0;
  std::optional<double> eta_s;
  std::string current;  // what is being worked on
};

// "tuning  [########------------]  12/30   40%  ETA 1 m 05 s  B=64 block_v=32", cut to `columns` (0: not cut).
std::string progress_line(const ProgressState& state, std::size_t columns);

// Thread-safe.
class Progress {
 public:
  using Clock = std::function<double()>;  // seconds, from any start
  using Writer = std::function<void(std::string_view)>;

  struct Settings {
    bool visible = false;
    std::size_t columns = 80;
    Clock now_s;   // empty: a steady clock
    Writer write;  // empty: standard error
  };

  Progress(std::string title, Settings settings);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Without eta_s the rate so far decides. Redraws at most ten times a second, and always the last step.
  void update(std::size_t done, std::size_t total, std::string_view current,
              std::optional<double> eta_s = std::nullopt);
  // Wipes the line, so that other text can be written; the next update draws it again.
  void clear();

 private:
  std::mutex mutex_;
  ProgressState state_;
  Settings settings_;
  double started_s_ = 0;
  std::optional<double> drawn_s_;  // when the line on the screen was drawn; none: there is no line
};

}  // namespace gdnjit::tool

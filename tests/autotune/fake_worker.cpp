// A worker for the tests: the field "do" of the tiles says how to behave. With --real it is what `gdn-tune worker` is.
#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

#include "autotune/worker.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

void misbehave(const std::string& does) {
  if (does == "abort") std::abort();
  if (does == "exit") ::_exit(9);
  if (does == "sleep") ::sleep(60);
  if (does == "throw") fail(ErrorCode::device_failed, "an illegal address");
  if (does == "no_nvrtc") fail(ErrorCode::nvrtc_missing, "no NVRTC here");
  if (does == "garbage" && ::write(STDOUT_FILENO, "not json\n", 9) != 9) std::abort();
}

class FakeEvaluator : public Evaluator {
 public:
  FakeEvaluator(Options options, std::function<void(std::size_t)> running)
      : options_(std::move(options)), running_(std::move(running)) {}

  Checked check(const Operator& op, const FieldMap& problem, const FieldMap& tiles) override {
    const std::string does(*find_field(tiles, "do"));
    misbehave(does);
    Checked checked{.error = 1.25e-3, .modelled_us = 17.5};
    if (does == "wrong") {
      checked.status = cache::TuningStatus::wrong;
      checked.reason = "o rms 1 (tolerance 0.003)";
    } else if (does == "infinite") {
      checked.modelled_us = std::numeric_limits<double>::infinity();
    } else if (does == "lose") {
      checked.status = cache::TuningStatus::crashed;
      checked.device_lost = true;
    } else if (does == "echo") {
      checked.reason = fmt::format("{} {} {} {}", op.name(), fields_text(problem), options_.device,
                                   options_.cache_directory.string());
    }
    return checked;
  }

  std::vector<Timed> time(const Operator&, const FieldMap&, const std::vector<FieldMap>& tiles,
                          const TimingOptions& options) override {
    for (std::size_t i = 0; i < tiles.size(); ++i) {
      running_(i);
      misbehave(std::string(*find_field(tiles[i], "do")));
    }
    Timed timed;
    timed.samples_us.assign(static_cast<std::size_t>(options.rounds), static_cast<double>(tiles.size()));
    return std::vector<Timed>(tiles.size(), timed);
  }

 private:
  Options options_;
  std::function<void(std::size_t)> running_;
};

}  // namespace
}  // namespace gdnjit::autotune

int main(int argc, char** argv) {
  using namespace gdnjit;
  if (argc > 1 && std::string(argv[1]) == "--real") return autotune::worker_main(STDIN_FILENO, STDOUT_FILENO);
  const bool refuse = argc > 1 && std::string(argv[1]) == "--refuse";
  return autotune::serve(
      STDIN_FILENO, STDOUT_FILENO, [&](const Options& options, std::function<void(std::size_t)> running) {
        if (refuse) fail(ErrorCode::device_unavailable, "no device here");
        return autotune::WorkerBench{std::make_unique<autotune::FakeEvaluator>(options, std::move(running)), "fake"};
      });
}

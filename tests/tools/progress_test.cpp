#include <doctest/doctest.h>

#include <string>
#include <utility>

#include "tools/gdn-tune/progress.h"

namespace gdnjit::tool {
namespace {

// A Progress with a clock that the test moves and a screen that it reads.
struct Screen {
  double now_s = 100;
  std::string written;

  Progress::Settings settings(bool visible) {
    return {.visible = visible,
            .columns = 200,
            .now_s = [this] { return now_s; },
            .write = [this](std::string_view text) { written += text; }};
  }
  std::string take() { return std::exchange(written, ""); }
};

}  // namespace

TEST_CASE("a progress line shows bar, count, share, remaining time and what is running") {
  CHECK(progress_line({"tuning", 12, 30, 65.0, "B=64"}, 0) ==
        "tuning  [#########---------------]  12/30   40%  ETA 1 m 05 s  B=64");
  CHECK(progress_line({"tuning", 0, 30, {}, ""}, 0) == "tuning  [------------------------]   0/30    0%");
  CHECK(progress_line({"tuning", 30, 30, 0.0, ""}, 0) == "tuning  [########################]  30/30  100%");
}

TEST_CASE("a progress line of no work or too much of it does not break") {
  CHECK(progress_line({"x", 0, 0, {}, ""}, 0) == "x  [------------------------]  0/0    0%");
  CHECK(progress_line({"x", 5, 3, {}, ""}, 0).find("100%") != std::string::npos);
}

TEST_CASE("a progress line is cut to the terminal") {
  const std::string line = progress_line({"tuning", 12, 30, 65.0, "a long description of the candidate"}, 60);
  CHECK(line.size() == 60);
  CHECK(line.ends_with("..."));
}

TEST_CASE("without a terminal nothing is written") {
  Screen screen;
  {
    Progress progress("tuning", screen.settings(false));
    progress.update(1, 2, "x");
    progress.clear();
  }
  CHECK(screen.written.empty());
}

TEST_CASE("the remaining time follows from the rate so far unless it is given") {
  Screen screen;
  Progress progress("tuning", screen.settings(true));
  screen.now_s += 20;
  progress.update(10, 30, "x");
  CHECK(screen.take().find("ETA 40 s") != std::string::npos);
  screen.now_s += 1;
  progress.update(11, 30, "x", 7.0);
  CHECK(screen.take().find("ETA 7.0 s") != std::string::npos);
}

TEST_CASE("redraws are at most ten a second, but the last step is always drawn") {
  Screen screen;
  Progress progress("tuning", screen.settings(true));
  progress.update(1, 30, "first");
  CHECK(screen.take().find("first") != std::string::npos);
  screen.now_s += 0.05;
  progress.update(2, 30, "second");
  CHECK(screen.take().empty());
  screen.now_s += 0.06;
  progress.update(3, 30, "third");
  CHECK(screen.take().find("third") != std::string::npos);
  progress.update(30, 30, "last");
  CHECK(screen.take().find("last") != std::string::npos);
}

TEST_CASE("clearing wipes a drawn line once") {
  Screen screen;
  {
    Progress progress("tuning", screen.settings(true));
    progress.clear();
    CHECK(screen.take().empty());
    progress.update(1, 2, "x");
    screen.take();
    progress.clear();
    CHECK(screen.take() == "\r\x1b[K");
  }
  CHECK(screen.written.empty());
}

}  // namespace gdnjit::tool

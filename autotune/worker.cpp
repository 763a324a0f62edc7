#include "autotune/worker.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "autotune/worker_protocol.h"
#include "codegen/registry.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

constexpr int kEnded = 0;
constexpr int kDeviceLost = 1;
constexpr int kUnreadable = 2;

class Lines {
 public:
  Lines(int in_fd, int out_fd) : in_fd_(in_fd), out_fd_(out_fd) {}

  // False at the end of the input.
  bool read(std::string& line) {
    for (;;) {
      const std::size_t end = received_.find('\n');
      if (end != std::string::npos) {
        line = received_.substr(0, end);
        received_.erase(0, end + 1);
        return true;
      }
      char buffer[4096];
      const ssize_t count = ::read(in_fd_, buffer, sizeof(buffer));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return false;
      received_.append(buffer, static_cast<std::size_t>(count));
    }
  }

  void write(const Json& message) {
    const std::string line = to_line(message) + "\n";
    for (std::size_t sent = 0; sent < line.size();) {
      const ssize_t count = ::write(out_fd_, line.data() + sent, line.size() - sent);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;  // the tuner is gone; the next read says so
      sent += static_cast<std::size_t>(count);
    }
  }

 private:
  int in_fd_;
  int out_fd_;
  std::string received_;
};

class Server {
 public:
  Server(Lines& lines, const WorkerFactory& factory) : lines_(lines), factory_(factory) {}

  // The exit status if this message is the last.
  std::optional<int> handle(const Json& message) {
    if (message.contains("hello")) return greet(message.at("hello"));
    GDNJIT_CHECK(bench_.evaluator != nullptr, "a request came before the greeting");
    if (message.contains("check")) return check(check_request_from_json(message.at("check")));
    if (message.contains("time")) return time(time_request_from_json(message.at("time")));
    fail(ErrorCode::internal, "unknown message {}", to_line(message));
  }

 private:
  std::optional<int> greet(const Json& options) {
    bench_ = factory_(options_from_json(options), [this](std::size_t index) { lines_.write({{"running", index}}); });
    lines_.write({{"ready", bench_.device_name}});
    return std::nullopt;
  }

  std::optional<int> check(const CheckRequest& request) {
    const Checked checked = bench_.evaluator->check(find_operator(request.op), request.problem, request.tiles);
    lines_.write({{"checked", to_json(checked)}});
    return checked.device_lost ? std::optional(kDeviceLost) : std::nullopt;
  }

  std::optional<int> time(const TimeRequest& request) {
    const std::vector<Timed> timed =
        bench_.evaluator->time(find_operator(request.op), request.problem, request.tiles, request.options);
    Json samples = Json::array();
    for (const Timed& one : timed) samples.push_back(one.samples_us);
    lines_.write({{"timed", samples}});
    return std::nullopt;
  }

  Lines& lines_;
  const WorkerFactory& factory_;
  WorkerBench bench_;
};

}  // namespace

int serve(int in_fd, int out_fd, const WorkerFactory& factory) {
  Lines lines(in_fd, out_fd);
  Server server(lines, factory);
  std::string line;
  while (lines.read(line)) {
    try {
      if (const auto status = server.handle(Json::parse(line))) return *status;
    } catch (const Error& error) {
      lines.write(failure_to_json(error));
      if (error.code() == ErrorCode::device_failed) return kDeviceLost;
    } catch (const Json::exception& error) {
      lines.write(failure_to_json(Error(ErrorCode::internal, error.what())));
      return kUnreadable;
    } catch (const std::exception& error) {
      lines.write(failure_to_json(Error(ErrorCode::internal, error.what())));
    }
  }
  return kEnded;
}

int worker_main(int in_fd, int out_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  // A terminal's Ctrl-C and a scheduler's SIGTERM reach the whole group. The tuner then stops after the running
  // candidate; a worker that died of them would have that candidate recorded as crashed.
  for (int ending : {SIGINT, SIGTERM, SIGHUP}) ::signal(ending, SIG_IGN);
  if (out_fd == STDOUT_FILENO) {
    out_fd = ::dup(STDOUT_FILENO);
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
  }
  std::unique_ptr<Runtime> runtime;
  return serve(in_fd, out_fd, [&](const Options& options, std::function<void(std::size_t)> running) {
    runtime = std::make_unique<Runtime>(options);
    auto evaluator = std::make_unique<LocalEvaluator>(runtime->impl());
    evaluator->on_running(std::move(running));
    return WorkerBench{.evaluator = std::move(evaluator), .device_name = runtime->device_name()};
  });
}

}  // namespace gdnjit::autotune

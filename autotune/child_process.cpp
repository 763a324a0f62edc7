#include "autotune/child_process.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "runtime/support/check.h"

extern char** environ;

namespace gdnjit::autotune {
namespace {

using Clock = std::chrono::steady_clock;

int remaining_ms(Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

}  // namespace

// One socket serves both directions: unlike a pipe it can be written without SIGPIPE when the child is gone.
ChildProcess::ChildProcess(const std::vector<std::string>& command) {
  GDNJIT_CHECK(!command.empty(), "no command for a child process");
  int sockets[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) != 0) {
    fail(ErrorCode::io, "starting '{}': no socket: {}", command[0], ::strerror(errno));
  }
  std::vector<char*> arguments;
  for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, sockets[1], STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, sockets[1], STDOUT_FILENO);
  const int error = ::posix_spawnp(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(sockets[1]);
  if (error != 0) {
    ::close(sockets[0]);
    fail(ErrorCode::io, "starting '{}': {}", command[0], ::strerror(error));
  }
  socket_ = sockets[0];
}

ChildProcess::~ChildProcess() {
  ::close(socket_);
  constexpr int kPatienceMs = 2000;
  const auto deadline = Clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!status_ && remaining_ms(deadline) > 0) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      status_ = status;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }
  if (!status_) kill();
}

bool ChildProcess::write_line(std::string_view line) {
  std::string text(line);
  text += '\n';
  for (std::size_t sent = 0; sent < text.size();) {
    const ssize_t count = ::send(socket_, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    sent += static_cast<std::size_t>(count);
  }
  return true;
}

ChildProcess::Read ChildProcess::read_line(std::string& line, int timeout_ms) {
  const auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    const std::size_t end = received_.find('\n');
    if (end != std::string::npos) {
      line = received_.substr(0, end);
      received_.erase(0, end + 1);
      return Read::line;
    }
    pollfd wanted{.fd = socket_, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&wanted, 1, remaining_ms(deadline));
    if (ready < 0 && errno == EINTR) continue;
    if (ready == 0) return Read::timeout;
    char buffer[4096];
    const ssize_t count = ready < 0 ? 0 : ::recv(socket_, buffer, sizeof(buffer), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return Read::closed;
    received_.append(buffer, static_cast<std::size_t>(count));
  }
}

void ChildProcess::kill() {
  if (!status_) ::kill(pid_, SIGKILL);
  wait();
}

void ChildProcess::wait() {
  while (!status_) {
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, 0);
    if (ended == pid_) status_ = status;
    if (ended < 0 && errno != EINTR) status_ = 0;  // somebody else waited for it
  }
}

std::string ChildProcess::obituary() {
  wait();
  if (WIFSIGNALED(*status_)) return fmt::format("signal {} ({})", WTERMSIG(*status_), ::strsignal(WTERMSIG(*status_)));
  return fmt::format("exit status {}", WEXITSTATUS(*status_));
}

}  // namespace gdnjit::autotune

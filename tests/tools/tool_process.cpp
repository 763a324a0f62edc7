#include "tests/tools/tool_process.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

namespace gdnjit::tool {
namespace {

using Clock = std::chrono::steady_clock;

// Beside the tests in the build folder, wherever that is now.
std::filesystem::path tool_path() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../../tools/gdn-tune/gdn-tune";
}

int exit_code_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

std::string read_file(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

// Standard output and error of a child, kept in files so that neither can block it.
struct Capture {
  TemporaryFolder folder;

  void redirect() const {
    for (const auto& [descriptor, name] : {std::pair(STDOUT_FILENO, "out"), std::pair(STDERR_FILENO, "error")}) {
      dup2(open((folder / name).c_str(), O_CREAT | O_WRONLY | O_TRUNC, 0600), descriptor);
    }
  }
  Ran result(pid_t child, Clock::time_point start) const {
    Ran ran;
    ran.exit_code = exit_code_of(child);
    ran.seconds = seconds_since(start);
    ran.out = read_file(folder / "out");
    ran.error = read_file(folder / "error");
    return ran;
  }
};

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "gdn-tune-test-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
  path_ = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void Tool::execute(const Words& words, const Variables& variables) const {
  for (const char* name :
       {"GDNJIT_POLICY", "GDNJIT_CACHE_LAYERS", "GDNJIT_CACHE_LIMIT_MB", "GDNJIT_TEMPLATES", "GDNJIT_MISS_FILE",
        "GDNJIT_COMPILE_THREADS", "GDNJIT_EMULATOR_CHECKS", "GDNJIT_CAPTURE", "NO_COLOR"}) {
    unsetenv(name);
  }
  setenv("GDNJIT_CACHE_DIR", cache_.c_str(), 1);
  setenv("GDNJIT_DEVICE", "emulator", 1);
  setenv("TERM", "xterm", 1);
  for (const auto& [name, value] : variables) {
    if (value.empty()) {
      unsetenv(name.c_str());
    } else {
      setenv(name.c_str(), value.c_str(), 1);
    }
  }
  const std::string program = tool_path();
  std::vector<char*> arguments{const_cast<char*>(program.c_str())};
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  execv(program.c_str(), arguments.data());
  _exit(127);
}

Ran Tool::operator()(const Words& words, const Variables& variables) const {
  const Capture capture;
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child == 0) {
    capture.redirect();
    execute(words, variables);
  }
  return capture.result(child, start);
}

Ran Tool::on_terminal(const Words& words, const Variables& variables) const {
  const auto start = Clock::now();
  int terminal = -1;
  winsize size{};
  size.ws_row = 50;
  size.ws_col = 100;
  const pid_t child = forkpty(&terminal, nullptr, nullptr, &size);
  if (child == 0) execute(words, variables);
  Ran ran;
  std::array<char, 4096> chunk;
  ssize_t count = 0;
  // Reading fails once the child is gone.
  while ((count = read(terminal, chunk.data(), chunk.size())) > 0) {
    ran.out.append(chunk.data(), static_cast<std::size_t>(count));
  }
  close(terminal);
  ran.exit_code = exit_code_of(child);
  ran.seconds = seconds_since(start);
  return ran;
}

Ran Tool::interrupted(const Words& words, int delay_ms, int count) const {
  const Capture capture;
  const auto start = Clock::now();
  const pid_t child = fork();
  if (child == 0) {
    capture.redirect();
    execute(words, {});
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
  for (int sent = 0; sent < count; ++sent) {
    if (sent > 0) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    kill(child, SIGINT);
  }
  return capture.result(child, start);
}

}  // namespace gdnjit::tool

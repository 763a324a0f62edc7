// A child process that speaks in lines over its standard input and output.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gdnjit::autotune {

// Not thread-safe. Destroying it closes the child's input, waits a moment for it to leave, then kills it.
class ChildProcess {
 public:
  // Throws Error(io) if the program cannot be started.
  explicit ChildProcess(const std::vector<std::string>& command);
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // False if the child is gone.
  bool write_line(std::string_view line);

  enum class Read : unsigned char { line, timeout, closed };
  // The next line without its end, waiting at most `timeout_ms`.
  Read read_line(std::string& line, int timeout_ms);

  // Ends the child. Harmless if it is gone.
  void kill();
  // How it ended: "signal 6 (Aborted)", "exit status 3". Waits for it.
  std::string obituary();

 private:
  void wait();

  pid_t pid_ = -1;
  int socket_ = -1;
  std::string received_;
  std::optional<int> status_;  // of waitpid
};

}  // namespace gdnjit::autotune

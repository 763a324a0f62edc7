// What the tests run as a process of its own:
//   compile DIR LOG FIRST COUNT SLEEP_MS   asks for records FIRST.., each compile adds a line to LOG and sleeps
//   write DIR FIRST                        stores record after record until killed
//   limited DIR BYTES                      asks for records while no file may grow beyond BYTES
//   hold LOCK_FILE OWNER READY_FILE        locks the file with that owner's name in it until killed
//   nothing                                ends at once
// Exits with 0 if every record was right.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <thread>

#include "tests/cache/fixture.h"

using namespace gdnjit;
using namespace gdnjit::cache;
using namespace gdnjit::cache::test;

namespace {

int compile(const std::string& directory, const std::string& log, int first, int count, int sleep_ms) {
  CacheOptions options = options_for(directory);
  options.busy_timeout_ms = 20'000;
  KernelCache cache(options);
  for (int i = first; i < first + count; ++i) {
    const auto record = cache.find_or_compile(key_of(i), signature_of(i), [&] {
      const std::string line = std::to_string(i) + "\n";
      const int file = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
      if (::write(file, line.data(), line.size()) < 0) std::abort();
      ::close(file);
      std::this_thread::sleep_for(std::chrono::milliseconds(sleep_ms));
      return binary(i);
    });
    if (!same(*record, binary(i))) return 1;
  }
  return 0;
}

int write_forever(const std::string& directory, int first) {
  KernelCache cache(options_for(directory));
  for (int i = first;; ++i) {
    get(cache, i);
    cache.put_tuning(tuning("B=" + std::to_string(i), "block_v=8", i));
  }
}

int limited(const std::string& directory, unsigned long bytes) {
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{bytes, bytes};
  if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
  const Warnings warnings;
  KernelCache cache(options_for(directory));
  for (int i = 0; i < 20; ++i) {
    if (!same(*get(cache, i), binary(i))) return 1;
    if (!cache.find(key_of(i), signature_of(i))) return 3;
  }
  const bool noticed = cache.statistics().write_failures > 0 && !cache.trouble().empty();
  return noticed && warnings.texts().size() == 1 ? 0 : 4;
}

int hold(const std::string& lock_file, const std::string& owner, const std::string& ready_file) {
  const int file = ::open(lock_file.c_str(), O_RDWR | O_CREAT, 0600);
  if (::flock(file, LOCK_EX) != 0 || ::pwrite(file, owner.data(), owner.size(), 0) < 0) return 1;
  write_bytes(ready_file, "ready");
  while (true) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  if (a.size() == 6 && a[0] == "compile") return compile(a[1], a[2], std::stoi(a[3]), std::stoi(a[4]), std::stoi(a[5]));
  if (a.size() == 3 && a[0] == "write") return write_forever(a[1], std::stoi(a[2]));
  if (a.size() == 3 && a[0] == "limited") return limited(a[1], std::stoul(a[2]));
  if (a.size() == 4 && a[0] == "hold") return hold(a[1], a[2], a[3]);
  if (a.size() == 1 && a[0] == "nothing") return 0;
  std::fprintf(stderr, "cache_process: what is to be done?\n");
  return 2;
}

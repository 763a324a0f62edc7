// fork() copies our mutexes and connections but not the threads that hold them. A ForkGuard holds an object still
// while the process forks, and lets the child's copy start anew.
#pragma once

namespace gdnjit::cache {

class Forkable {
 public:
  virtual void before_fork() = 0;  // lock everything; nothing that is locked here nests with anything else
  virtual void after_fork_in_parent() = 0;
  virtual void after_fork_in_child() = 0;  // forget what belongs to the parent, then unlock

 protected:
  ~Forkable() = default;
};

// Registers the object for as long as the guard lives.
class ForkGuard {
 public:
  explicit ForkGuard(Forkable& object);
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

 private:
  Forkable& object_;
};

}  // namespace gdnjit::cache

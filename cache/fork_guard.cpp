#include "cache/fork_guard.h"

#include <pthread.h>

#include <algorithm>
#include <mutex>
#include <vector>

namespace gdnjit::cache {
namespace {

struct Registry {
  std::mutex mutex;
  std::vector<Forkable*> objects;
};

// Never destroyed: a fork may come during static destruction.
Registry& registry() {
  static auto* instance = new Registry;
  return *instance;
}

void before() {
  registry().mutex.lock();
  for (Forkable* object : registry().objects) object->before_fork();
}

void in_parent() {
  for (Forkable* object : registry().objects) object->after_fork_in_parent();
  registry().mutex.unlock();
}

void in_child() {
  for (Forkable* object : registry().objects) object->after_fork_in_child();
  registry().mutex.unlock();
}

}  // namespace

ForkGuard::ForkGuard(Forkable& object) : object_(object) {
  static std::once_flag once;
  std::call_once(once, [] { ::pthread_atfork(before, in_parent, in_child); });
  std::lock_guard lock(registry().mutex);
  registry().objects.push_back(&object);
}

ForkGuard::~ForkGuard() {
  std::lock_guard lock(registry().mutex);
  std::erase(registry().objects, &object_);
}

}  // namespace gdnjit::cache

// What a Runtime has made already: plans by problem, and loaded kernels by key. Nothing is dropped before the
// Runtime ends, because a captured graph may still launch it.
#pragma once

#include <gdnjit/gdn_forward.h>
#include <gdnjit/moe_align.h>
#include <gdnjit/moe_forward.h>
#include <gdnjit/moe_route.h>

#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <unordered_map>

#include "runtime/plan.h"
#include "runtime/problem_map.h"
#include "runtime/support/digest.h"

namespace gdnjit {

// Thread-safe.
class PlanCache {
 public:
  using PlanPtr = std::shared_ptr<const OperatorPlan>;

  // Plans by "operator name and complete problem" as text.
  PlanPtr find(const std::string& text) const {
    const std::shared_lock lock(mutex_);
    const auto found = plans_.find(text);
    return found == plans_.end() ? nullptr : found->second;
  }

  // The plan now in the cache: another thread's if it came first.
  PlanPtr insert(const std::string& text, PlanPtr plan) {
    const std::unique_lock lock(mutex_);
    return plans_.try_emplace(text, std::move(plan)).first->second;
  }

  // Plans that differ in B only share a kernel. The lock is not held while loading: two threads may load one kernel,
  // and both then use the first.
  std::shared_ptr<const Kernel> load_once(const Digest& key, const std::function<std::unique_ptr<Kernel>()>& load) {
    if (auto loaded = find_kernel(key)) return loaded;
    std::shared_ptr<const Kernel> loaded = load();
    const std::unique_lock lock(mutex_);
    std::weak_ptr<const Kernel>& place = kernels_[key];
    if (auto first = place.lock()) return first;
    place = loaded;
    return loaded;
  }

  // The typed and fast way to the same plans, see gdn::plan().
  ProblemMap<gdn::StepProblem, gdn::StepPlan::Prepared>& steps() { return steps_; }
  ProblemMap<gdn::RecurrentProblem, gdn::RecurrentPlan::Prepared>& recurrents() { return recurrents_; }
  ProblemMap<gdn::ChunkProblem, gdn::ChunkPlan::Prepared>& chunks() { return chunks_; }
  ProblemMap<gdn::ForwardProblem, gdn::ForwardPlan::Prepared>& forwards() { return forwards_; }
  ProblemMap<moe::RouteProblem, moe::RoutePlan::Prepared>& routes() { return routes_; }
  ProblemMap<moe::AlignProblem, moe::AlignPlan::Prepared>& aligns() { return aligns_; }
  ProblemMap<moe::ExpertsProblem, moe::UpPlan::Prepared>& expert_ups() { return expert_ups_; }
  ProblemMap<moe::ExpertsProblem, moe::DownPlan::Prepared>& expert_downs() { return expert_downs_; }
  ProblemMap<moe::ForwardProblem, moe::ForwardPlan::Prepared>& expert_layers() { return expert_layers_; }

 private:
  std::shared_ptr<const Kernel> find_kernel(const Digest& key) const {
    const std::shared_lock lock(mutex_);
    const auto found = kernels_.find(key);
    return found == kernels_.end() ? nullptr : found->second.lock();
  }

  mutable std::shared_mutex mutex_;
  std::unordered_map<std::string, PlanPtr> plans_;
  // Weak: a candidate that the tuner has done with is unloaded.
  std::unordered_map<Digest, std::weak_ptr<const Kernel>, DigestHash> kernels_;
  ProblemMap<gdn::StepProblem, gdn::StepPlan::Prepared> steps_;
  ProblemMap<gdn::RecurrentProblem, gdn::RecurrentPlan::Prepared> recurrents_;
  ProblemMap<gdn::ChunkProblem, gdn::ChunkPlan::Prepared> chunks_;
  ProblemMap<gdn::ForwardProblem, gdn::ForwardPlan::Prepared> forwards_;
  ProblemMap<moe::RouteProblem, moe::RoutePlan::Prepared> routes_;
  ProblemMap<moe::AlignProblem, moe::AlignPlan::Prepared> aligns_;
  ProblemMap<moe::ExpertsProblem, moe::UpPlan::Prepared> expert_ups_;
  ProblemMap<moe::ExpertsProblem, moe::DownPlan::Prepared> expert_downs_;
  ProblemMap<moe::ForwardProblem, moe::ForwardPlan::Prepared> expert_layers_;
};

}  // namespace gdnjit

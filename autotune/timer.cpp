#include "autotune/timer.h"

#include <algorithm>

#include "autotune/device_tensors.h"
#include "runtime/support/check.h"

namespace gdnjit::autotune {
namespace {

// Fewer launches would make the events' own resolution (about half a microsecond) visible.
constexpr std::size_t kMinLaunches = 10;
constexpr std::size_t kMaxCopies = 512;
constexpr std::uint64_t kRedrawn = 32;  // of calls that read parts of tensors too large to copy

// A stream of its own: the default stream cannot be captured.
class OwnedStream {
 public:
  explicit OwnedStream(Device& device) : device_(device), stream_(device.create_stream()) {}
  ~OwnedStream() { device_.destroy_stream(stream_); }
  OwnedStream(const OwnedStream&) = delete;
  OwnedStream& operator=(const OwnedStream&) = delete;
  Stream get() const { return stream_; }

 private:
  Device& device_;
  Stream stream_;
};

// Everything that is timed: the same launches of each plan, over the rotating copies.
class Session {
 public:
  Session(Device& device, const std::vector<std::shared_ptr<const OperatorPlan>>& plans,
          const reference::Workload& workload, const TimingOptions& options)
      : device_(device), plans_(plans), options_(options), stream_(device) {
    std::size_t bytes = 0;
    for (const reference::HostTensor& tensor : workload.tensors()) bytes += tensor.bytes.size();
    const std::size_t copies = rotation_copies(bytes, device.info().traits.l2_bytes, options.cold_l2);
    for (std::size_t copy = 0; copy < copies; ++copy) {
      copies_.emplace_back(device, workload.tensors(), 0);
      copies_.back().upload(workload.tensors(), stream_.get());
      calls_.push_back(copies_.back().views());
    }
    if (options.cold_l2) add_redrawn(workload);
    launches_ = (kMinLaunches + calls_.size() - 1) / calls_.size() * calls_.size();  // whole turns
    begin_ = device.create_event();
    end_ = device.create_event();
  }

  // Captures the graph if there is to be one, and runs once: the first launch of a kernel loads its code.
  void prepare(std::size_t index) {
    if (options_.graph) {
      graphs_.resize(plans_.size());
      graphs_[index] = device_.capture(stream_.get(), [&](Stream stream) { launch_all(index, stream); });
    }
    replay(index);
    device_.synchronize(stream_.get());
  }

  double sample(std::size_t index) {
    begin_->record(stream_.get());
    replay(index);
    end_->record(stream_.get());
    return end_->microseconds_since(*begin_) / static_cast<double>(launches_);
  }

 private:
  void launch_all(std::size_t index, Stream stream) {
    for (std::size_t i = 0; i < launches_; ++i) plans_[index]->run(calls_[i % calls_.size()], stream);
  }

  // Calls over the first copy that read other parts of it.
  void add_redrawn(const reference::Workload& workload) {
    for (std::uint64_t seed = 1; seed < kRedrawn; ++seed) {
      const auto redrawn = workload.redraw(seed);
      if (redrawn.empty()) return;
      std::vector<reference::HostTensor> tensors;
      for (const auto& [place, tensor] : redrawn) tensors.push_back(tensor);
      redrawn_.emplace_back(device_, tensors, 0);
      redrawn_.back().upload(tensors, stream_.get());
      calls_.push_back(calls_.front());
      for (std::size_t i = 0; i < redrawn.size(); ++i) calls_.back()[redrawn[i].first] = redrawn_.back().views()[i];
    }
  }

  void replay(std::size_t index) {
    if (options_.graph) {
      graphs_[index]->launch(stream_.get());
    } else {
      launch_all(index, stream_.get());
    }
  }

  Device& device_;
  const std::vector<std::shared_ptr<const OperatorPlan>>& plans_;
  TimingOptions options_;
  OwnedStream stream_;
  std::vector<DeviceTensors> copies_, redrawn_;
  std::vector<std::vector<TensorView>> calls_;  // taken in turn
  std::size_t launches_ = 0;
  std::vector<std::unique_ptr<Graph>> graphs_;
  std::unique_ptr<Event> begin_, end_;
};

}  // namespace

std::size_t rotation_copies(std::size_t bytes, std::int64_t l2_bytes, bool cold_l2) {
  if (!cold_l2 || bytes == 0 || l2_bytes <= 0) return 1;
  const std::size_t wanted = 2 * static_cast<std::size_t>(l2_bytes);
  return std::clamp<std::size_t>((wanted + bytes - 1) / bytes, 1, kMaxCopies);
}

std::vector<std::vector<double>> time_plans(const std::vector<std::shared_ptr<const OperatorPlan>>& plans,
                                            const reference::Workload& workload, const TimingOptions& options,
                                            const std::function<void(std::size_t)>& running) {
  std::vector<std::vector<double>> samples(plans.size());
  if (plans.empty()) return samples;
  Session session(plans.front()->device(), plans, workload, options);
  const auto tell = [&](std::size_t index) {
    if (running) running(index);
  };
  for (std::size_t index = 0; index < plans.size(); ++index) {
    tell(index);
    session.prepare(index);
  }
  for (int round = 0; round < options.rounds; ++round) {
    for (std::size_t turn = 0; turn < plans.size(); ++turn) {
      const std::size_t index = (turn + static_cast<std::size_t>(round)) % plans.size();
      tell(index);
      samples[index].push_back(session.sample(index));
    }
  }
  return samples;
}

}  // namespace gdnjit::autotune

#include "runtime/emulator/races/clock.h"

#include <algorithm>

namespace gdnjit::emulator {
namespace {

void raise_all(Stamps& into, const Stamps& from) {
  if (into.size() < from.size()) into.resize(from.size());
  Stamp* to = into.data();
  const Stamp* by = from.data();
  const std::size_t count = from.size();
  for (std::size_t i = 0; i < count; ++i) to[i] = std::max(to[i], by[i]);
}

bool covers(const Stamps& a, const Stamps& b) {
  if (a.size() < b.size()) return false;
  std::uint32_t less = 0;
  for (std::size_t i = 0; i < b.size(); ++i) less |= static_cast<std::uint32_t>(a[i] < b[i]);
  return less == 0;
}

std::shared_ptr<const Stamps> join_stamps(const std::shared_ptr<const Stamps>& a,
                                          const std::shared_ptr<const Stamps>& b) {
  if (a == b || covers(*a, *b)) return a;
  if (covers(*b, *a)) return b;
  auto sum = std::make_shared<Stamps>(*a);
  raise_all(*sum, *b);
  return sum;
}

std::shared_ptr<const ForeignClocks> join_foreign(const std::shared_ptr<const ForeignClocks>& a,
                                                  const std::shared_ptr<const ForeignClocks>& b) {
  if (b == nullptr || a == b) return a;
  if (a == nullptr) return b;
  auto sum = std::make_shared<ForeignClocks>();
  auto left = a->begin();
  auto right = b->begin();
  while (left != a->end() || right != b->end()) {
    if (right == b->end() || (left != a->end() && left->group < right->group)) {
      sum->push_back(*left++);
    } else if (left == a->end() || right->group < left->group) {
      sum->push_back(*right++);
    } else {
      sum->push_back({left->group, join_stamps(left->stamps, right->stamps)});
      ++left, ++right;
    }
  }
  return sum;
}

}  // namespace

Stamp Clock::foreign_at(std::uint32_t group, std::uint32_t index) const {
  if (foreign == nullptr) return 0;
  const auto found =
      std::lower_bound(foreign->begin(), foreign->end(), group,
                       [](const ForeignClock& clock, std::uint32_t wanted) { return clock.group < wanted; });
  if (found == foreign->end() || found->group != group || index >= found->stamps->size()) return 0;
  return (*found->stamps)[index];
}

void ClockSum::clear() {
  stamps_.clear();
  foreign_ = nullptr;
  last_ = nullptr;
}

void ClockSum::add(const Clock* clock) {
  if (clock == nullptr || clock == last_) return;
  last_ = clock;
  raise_all(stamps_, clock->stamps);
  foreign_ = join_foreign(foreign_, clock->foreign);
}

void ClockSum::raise(std::uint32_t index, Stamp stamp) {
  if (stamps_.size() <= index) stamps_.resize(index + 1);
  stamps_[index] = std::max(stamps_[index], stamp);
}

void ClockSum::add_foreign(const std::shared_ptr<const ForeignClocks>& foreign, std::uint32_t own_group) {
  if (foreign == nullptr) return;
  auto others = std::make_shared<ForeignClocks>();
  for (const ForeignClock& clock : *foreign) {
    if (clock.group == own_group) {
      raise_all(stamps_, *clock.stamps);
    } else {
      others->push_back(clock);
    }
  }
  if (!others->empty()) foreign_ = join_foreign(foreign_, others);
}

void ClockSum::add_published(const PublishedClock& clock, std::uint32_t own_group) {
  if (clock.stamps == nullptr) return;
  if (clock.group == own_group) {
    raise_all(stamps_, *clock.stamps);
  } else {
    foreign_ = join_foreign(foreign_, std::make_shared<ForeignClocks>(ForeignClocks{{clock.group, clock.stamps}}));
  }
  add_foreign(clock.foreign, own_group);
}

const Clock* ClockPool::keep(std::unique_ptr<Clock> clock) {
  bytes_ += sizeof(Clock) + clock->stamps.size() * sizeof(Stamp);
  clocks_.push_back(std::move(clock));
  return clocks_.back().get();
}

const Clock* ClockPool::make(const ClockSum& sum) {
  auto clock = std::make_unique<Clock>();
  clock->stamps = sum.stamps_;
  clock->foreign = sum.foreign_;
  return keep(std::move(clock));
}

const Clock* ClockPool::join(const Clock* a, const Clock* b) {
  if (a == b || b == nullptr) return a;
  if (a == nullptr) return b;
  if (a == join_a_ && b == join_b_) return joined_;
  join_a_ = a;
  join_b_ = b;
  if (a->foreign == b->foreign && covers(a->stamps, b->stamps)) return joined_ = a;
  if (a->foreign == b->foreign && covers(b->stamps, a->stamps)) return joined_ = b;
  auto clock = std::make_unique<Clock>();
  clock->stamps = a->stamps;
  raise_all(clock->stamps, b->stamps);
  clock->foreign = join_foreign(a->foreign, b->foreign);
  return joined_ = keep(std::move(clock));
}

PublishedClock ClockPool::publish(const Clock* clock, std::uint32_t group, std::uint32_t index, Stamp own) const {
  auto stamps = clock != nullptr ? std::make_shared<Stamps>(clock->stamps) : std::make_shared<Stamps>();
  if (stamps->size() <= index) stamps->resize(index + 1);
  (*stamps)[index] = std::max((*stamps)[index], own);
  return {group, std::move(stamps), clock != nullptr ? clock->foreign : nullptr};
}

void ClockPool::sweep() {
  std::erase_if(clocks_, [](const std::unique_ptr<Clock>& clock) { return !clock->live; });
  bytes_ = 0;
  for (const auto& clock : clocks_) bytes_ += sizeof(Clock) + clock->stamps.size() * sizeof(Stamp);
  limit_ = std::max<std::size_t>(limit_, 2 * bytes_);
  join_a_ = join_b_ = joined_ = nullptr;
}

void ClockPool::clear() {
  clocks_.clear();
  bytes_ = 0;
  join_a_ = join_b_ = joined_ = nullptr;
}

}  // namespace gdnjit::emulator

#include "agent/proxy/snapshot_scan.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "agent/base/clock.h"

namespace weir::proxy {
namespace {

class CountingSession final : public Session {
 public:
  explicit CountingSession(int& calls) : Session(model::LocalId{1}), calls_(calls) {}
  void Abort(observe::Reason /*reason*/) noexcept override {}
  void OnSnapshot() noexcept override { ++calls_; }

 private:
  int& calls_;
};

class SnapshotScanTest : public ::testing::Test {
 protected:
  void Add(std::size_t count) {
    calls_.resize(count);
    for (int& calls : calls_) {
      sessions_.push_back(&table_.Insert(std::make_unique<CountingSession>(calls)));
    }
  }
  int Total() const {
    int sum = 0;
    for (const int calls : calls_) {
      sum += calls;
    }
    return sum;
  }
  void Turn() {
    clock_.Advance(std::chrono::microseconds(1));
    loop_->RunOnce(std::chrono::milliseconds(0));
  }

  base::ManualClock clock_;
  std::unique_ptr<io::EventLoop> loop_ = io::EventLoop::Create(clock_).value();
  SessionTable table_{*loop_, 0};
  SnapshotScan scan_{*loop_, table_};
  std::vector<int> calls_;
  std::vector<Session*> sessions_;
};

TEST_F(SnapshotScanTest, TellsAFewSessionsAtOnce) {
  Add(10);
  scan_.Begin();
  EXPECT_EQ(Total(), 10);
  Turn();
  EXPECT_EQ(Total(), 10);
}

TEST_F(SnapshotScanTest, TellsManySessionsInPartsAndEachOnce) {
  constexpr std::size_t kPart = SnapshotScan::kSessionsPerTurn;
  Add(3 * kPart + 1);
  scan_.Begin();
  EXPECT_EQ(Total(), static_cast<int>(kPart));
  Turn();
  EXPECT_EQ(Total(), static_cast<int>(2 * kPart));
  table_.Retire(*sessions_[0]);
  table_.Retire(*sessions_.back());
  for (int i = 0; i < 10; ++i) {
    Turn();
  }
  for (std::size_t i = 1; i + 1 < calls_.size(); ++i) {
    ASSERT_EQ(calls_[i], 1);
  }
}

TEST_F(SnapshotScanTest, ReachesAllHoweverOftenSnapshotsCome) {
  Add(5 * SnapshotScan::kSessionsPerTurn);
  for (int i = 0; i < 20; ++i) {
    scan_.Begin();
    Turn();
  }
  for (int i = 0; i < 20; ++i) {
    Turn();
  }
  for (const int calls : calls_) {
    ASSERT_GE(calls, 2);
    ASSERT_LE(calls, 6);
  }
}

}  // namespace
}  // namespace weir::proxy

#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "agent/base/unique_fd.h"
#include "bpf/abi/causality.h"
#include "parent.skel.h"
#include "tests/support/root_test.h"
#include "tests/support/sandbox.h"

// What the tests of the parent program share: the program, attached, with a namespace
// enrolled, and both of an application's sides played by the test.
namespace weir::test {

// One thread of the application; runs what it is told and waits for it.
class AppThread {
 public:
  AppThread();
  AppThread(const AppThread&) = delete;
  AppThread& operator=(const AppThread&) = delete;
  ~AppThread();
  void Do(const std::function<void()>& work);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::function<void()> work_;
  bool busy_ = false;
  bool stop_ = false;
  std::thread thread_;  // last: it uses all of the above
};

// A connection that the agent delivers requests on. `app` is the application's end.
struct Delivery {
  base::UniqueFd agent;
  base::UniqueFd app;
  std::uint32_t handle = 0;
};

// A connection that the application opened and the agent took.
struct Outbound {
  base::UniqueFd app;
  base::UniqueFd agent;
  weir_tuple tuple{};
};

class ParentTest : public RootTest {
 protected:
  void SetUp() override;
  void TearDown() override;

  Delivery Deliver();
  // As Deliver, without the agent having recorded it: a probe's, say.
  Delivery DeliverUnknown();
  // As Deliver, when the agent has no slot left.
  Delivery DeliverWithoutSlot();
  // A workload is enrolled at this moment.
  void NoteEnrolment();
  // Puts the next request on it; its number, which is also in its span's id.
  std::uint32_t Request(Delivery& delivery);
  // The application reads what is there.
  static void Read(const base::UniqueFd& socket, int flags = 0);
  static void Write(const base::UniqueFd& socket);
  // The application answers and the agent reads that.
  static void Answer(Delivery& delivery);

  Outbound Connect(std::uint16_t original_port = 80);
  // The agent answers on it and the application reads that.
  static void Reply(Outbound& outbound);
  // What the program left for the agent; it is taken.
  std::optional<weir_hint> Take(const Outbound& outbound);
  // Writes a request to it; what the program said of it.
  std::optional<weir_hint> Call(Outbound& outbound);
  // One request, alone, that makes `calls` calls on `outbound` by `caller`.
  void ServeAlone(Delivery& delivery, Outbound& outbound, unsigned calls = 1,
                  AppThread* caller = nullptr);
  // As often as it takes until a parent is given.
  void Calibrate(Delivery& delivery, Outbound& outbound, unsigned calls = 1,
                 AppThread* caller = nullptr);

  static bool IsParent(const std::optional<weir_hint>& hint, const Delivery& delivery,
                       std::uint32_t number, std::uint32_t source);
  std::uint64_t Counter(weir_counter reason);
  weir_slot& Slot(std::uint32_t handle) { return slots_[handle & (WEIR_SLOT_COUNT - 1)]; }
  void Enrol(std::uint32_t flags);
  [[nodiscard]] bpf_object* object() const { return object_->obj; }
  [[nodiscard]] const Sandbox& sandbox() const { return *sandbox_; }

  std::uint32_t next_slot_ = 1;

 private:
  void Flag(int fd, const weir_sock& value);
  void RecordLeg(const Delivery& delivery);
  base::UniqueFd MakeSocket();
  base::UniqueFd Accept();

  std::unique_ptr<Sandbox> sandbox_;
  Namespace* pod_ = nullptr;
  parent* object_ = nullptr;
  weir_slot* slots_ = nullptr;
  base::UniqueFd listener_;
};

}  // namespace weir::test

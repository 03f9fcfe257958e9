#include "tests/bpf/parent_rig.h"

#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <ctime>
#include <utility>
#include <vector>

#include "agent/base/ip.h"
#include "tests/support/tcp.h"

namespace weir::test {
namespace {

constexpr std::size_t kSlotsBytes = WEIR_SLOT_COUNT * sizeof(weir_slot);

weir_address AbiOf(const base::IpAddress& address) {
  weir_address result{};
  std::memcpy(&result, address.bytes().data(), sizeof(result));
  return result;
}

weir_tuple TupleOf(int fd, std::uint64_t cookie) {
  sockaddr_in local{};
  sockaddr_in remote{};
  socklen_t length = sizeof(local);
  EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length), 0);
  length = sizeof(remote);
  EXPECT_EQ(::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &length), 0);
  weir_tuple tuple{};
  tuple.netns_cookie = cookie;
  tuple.local = AbiOf(base::IpAddress::V4(local.sin_addr.s_addr));
  tuple.remote = AbiOf(base::IpAddress::V4(remote.sin_addr.s_addr));
  tuple.local_port = ntohs(local.sin_port);
  tuple.remote_port = ntohs(remote.sin_port);
  return tuple;
}

void Drain(int fd, int flags) {
  std::array<char, 256> bytes{};
  EXPECT_GT(::recv(fd, bytes.data(), bytes.size(), flags), 0);
}

}  // namespace

AppThread::AppThread()
    : thread_([this] {
        std::unique_lock lock(mutex_);
        for (;;) {
          changed_.wait(lock, [this] { return busy_ || stop_; });
          if (stop_) {
            return;
          }
          work_();
          busy_ = false;
          changed_.notify_all();
        }
      }) {}

AppThread::~AppThread() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void AppThread::Do(const std::function<void()>& work) {
  std::unique_lock lock(mutex_);
  work_ = work;
  busy_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return !busy_; });
}

void ParentTest::SetUp() {
  RootTest::SetUp();
  if (IsSkipped() || HasFatalFailure()) {
    return;
  }
  sandbox_ = std::make_unique<Sandbox>();
  pod_ = &sandbox_->AddNamespace("pod");
  object_ = parent__open();
  ASSERT_NE(object_, nullptr);
  ASSERT_EQ(parent__load(object_), 0);
  ASSERT_EQ(parent__attach(object_), 0);
  void* mapped = ::mmap(nullptr, kSlotsBytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        ::bpf_map__fd(object_->maps.weir_slots), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  slots_ = static_cast<weir_slot*>(mapped);
  Enrol(WEIR_WORKLOAD_INFER);
  listener_ = pod_->Run([] { return Listen("127.0.0.1", 0); });
}

void ParentTest::TearDown() {
  if (slots_ != nullptr) {
    ::munmap(slots_, kSlotsBytes);
  }
  parent__destroy(object_);
}

void ParentTest::Enrol(std::uint32_t flags) {
  const std::uint64_t cookie = pod_->Cookie();
  const weir_workload workload{.local_id = 1, .flags = flags};
  ASSERT_EQ(
      ::bpf_map_update_elem(::bpf_map__fd(object_->maps.weir_netns), &cookie, &workload, BPF_ANY),
      0);
}

void ParentTest::Flag(int fd, const weir_sock& value) {
  ASSERT_EQ(::bpf_map_update_elem(::bpf_map__fd(object_->maps.weir_sockets), &fd, &value, BPF_ANY),
            0);
}

base::UniqueFd ParentTest::MakeSocket() {
  return pod_->Run([] { return base::UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); });
}

base::UniqueFd ParentTest::Accept() {
  return AcceptOne(listener_.get());
}

Delivery ParentTest::DeliverUnknown() {
  weir_sock own{};
  own.flags = WEIR_SOCK_OWN;
  Delivery delivery{.agent = MakeSocket(), .app = {}, .handle = 0};
  Flag(delivery.agent.get(), own);
  const auto to = base::ToSockaddr(base::LocalEndpoint(listener_.get()).value());
  EXPECT_EQ(::connect(delivery.agent.get(), to.get(), to.length), 0);
  delivery.app = Accept();
  return delivery;
}

Delivery ParentTest::Deliver() {
  Delivery delivery = DeliverUnknown();
  delivery.handle = next_slot_++;
  Slot(delivery.handle).handle = delivery.handle;
  RecordLeg(delivery);
  return delivery;
}

Delivery ParentTest::DeliverWithoutSlot() {
  Delivery delivery = DeliverUnknown();
  RecordLeg(delivery);
  return delivery;
}

void ParentTest::NoteEnrolment() {
  timespec now{};
  ASSERT_EQ(::clock_gettime(CLOCK_BOOTTIME, &now), 0);
  object_->bss->weir_enrolled_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                                   static_cast<std::uint64_t>(now.tv_nsec);
}

void ParentTest::RecordLeg(const Delivery& delivery) {
  const weir_tuple leg = TupleOf(delivery.agent.get(), pod_->Cookie());
  const weir_leg value{.kind = WEIR_LEG_DELIVERY, .worker = 0, .request_handle = delivery.handle};
  EXPECT_EQ(::bpf_map_update_elem(::bpf_map__fd(object_->maps.weir_legs), &leg, &value, BPF_ANY),
            0);
}

std::uint32_t ParentTest::Request(Delivery& delivery) {
  weir_slot& slot = Slot(delivery.handle);
  const std::uint32_t number = slot.number + 1;
  slot.context.span.span_id[0] = static_cast<std::uint8_t>(delivery.handle);
  slot.context.span.span_id[1] = static_cast<std::uint8_t>(number);
  slot.number = number;
  EXPECT_EQ(::send(delivery.agent.get(), "request", 7, MSG_NOSIGNAL), 7);
  return number;
}

void ParentTest::Read(const base::UniqueFd& socket, int flags) {
  Drain(socket.get(), flags);
}

void ParentTest::Write(const base::UniqueFd& socket) {
  EXPECT_EQ(::send(socket.get(), "bytes", 5, MSG_NOSIGNAL), 5);
}

void ParentTest::Answer(Delivery& delivery) {
  Write(delivery.app);
  Drain(delivery.agent.get(), 0);
}

Outbound ParentTest::Connect(std::uint16_t original_port) {
  weir_sock redirected{};
  redirected.flags = WEIR_SOCK_REDIRECTED;
  redirected.original.port = original_port;
  Outbound outbound;
  outbound.app = MakeSocket();
  Flag(outbound.app.get(), redirected);
  const auto to = base::ToSockaddr(base::LocalEndpoint(listener_.get()).value());
  EXPECT_EQ(::connect(outbound.app.get(), to.get(), to.length), 0);
  outbound.agent = Accept();
  weir_sock own{};
  own.flags = WEIR_SOCK_OWN;
  Flag(outbound.agent.get(), own);
  outbound.tuple = TupleOf(outbound.app.get(), pod_->Cookie());
  return outbound;
}

void ParentTest::Reply(Outbound& outbound) {
  Write(outbound.agent);
  Drain(outbound.app.get(), 0);
}

std::optional<weir_hint> ParentTest::Take(const Outbound& outbound) {
  weir_hint hint{};
  const int error = ::bpf_map_lookup_and_delete_elem(::bpf_map__fd(object_->maps.weir_hints),
                                                     &outbound.tuple, &hint);
  return error == 0 ? std::optional(hint) : std::nullopt;
}

std::optional<weir_hint> ParentTest::Call(Outbound& outbound) {
  Write(outbound.app);
  Drain(outbound.agent.get(), 0);
  return Take(outbound);
}

void ParentTest::ServeAlone(Delivery& delivery, Outbound& outbound, unsigned calls,
                            AppThread* caller) {
  Request(delivery);
  Read(delivery.app);
  const auto call = [&] {
    for (unsigned i = 0; i < calls; ++i) {
      Call(outbound);
      Reply(outbound);
    }
  };
  caller == nullptr ? call() : caller->Do(call);
  Answer(delivery);
}

void ParentTest::Calibrate(Delivery& delivery, Outbound& outbound, unsigned calls,
                           AppThread* caller) {
  // A connection's first write is judged by who opened it, which here was for no request.
  for (unsigned i = 0; i <= WEIR_CALIBRATION_SAMPLES; ++i) {
    ServeAlone(delivery, outbound, calls, caller);
  }
}

bool ParentTest::IsParent(const std::optional<weir_hint>& hint, const Delivery& delivery,
                          std::uint32_t number, std::uint32_t source) {
  return hint && hint->source == source &&
         hint->parent.span.span_id[0] == static_cast<std::uint8_t>(delivery.handle) &&
         hint->parent.span.span_id[1] == static_cast<std::uint8_t>(number);
}

std::uint64_t ParentTest::Counter(weir_counter reason) {
  const std::uint32_t index = static_cast<std::uint32_t>(reason);
  std::vector<std::uint64_t> values(static_cast<std::size_t>(::libbpf_num_possible_cpus()));
  EXPECT_EQ(
      ::bpf_map_lookup_elem(::bpf_map__fd(object_->maps.weir_counters), &index, values.data()), 0);
  std::uint64_t sum = 0;
  for (const auto value : values) {
    sum += value;
  }
  return sum;
}

}  // namespace weir::test

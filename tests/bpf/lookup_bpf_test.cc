#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "bpf/abi/interception.h"
#include "lookup.skel.h"
#include "tests/support/root_test.h"

namespace weir::test {
namespace {

constexpr std::uint64_t kCookie = 4711;
constexpr std::uint32_t kId = 7;

weir_address AbiOf(const std::string& text) {
  weir_address address{};
  std::memcpy(&address, base::IpAddress::Parse(text).value().bytes().data(), sizeof(address));
  return address;
}

// One loaded lookup program and its maps; nothing is attached.
class LookupTest : public RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    object_ = lookup__open();
    ASSERT_NE(object_, nullptr);
    object_->rodata->weir_netns_cookie = kCookie;
    ASSERT_EQ(lookup__load(object_), 0);
  }
  void TearDown() override { lookup__destroy(object_); }

  void Enrol(std::uint32_t flags) { Set(object_->maps.weir_netns, kCookie, Workload(flags)); }
  static weir_workload Workload(std::uint32_t flags) { return {.local_id = kId, .flags = flags}; }
  void ListenOn(const std::string& address, std::uint16_t port, std::uint32_t flags) {
    weir_listening_key key{};
    key.netns_cookie = kCookie;
    key.address = AbiOf(address);
    key.port = port;
    weir_listening value{};
    value.sockets = 1;
    value.owner = Workload(flags);
    Set(object_->maps.weir_listening, key, value);
  }
  template <typename Key, typename Value>
  static void Set(const bpf_map* map, const Key& key, const Value& value) {
    ASSERT_EQ(::bpf_map_update_elem(::bpf_map__fd(map), &key, &value, BPF_ANY), 0);
  }
  // The verdict on a SYN from `remote` to `local`, port 80.
  int Run(const std::string& remote, const std::string& local, std::uint32_t protocol = IPPROTO_TCP,
          std::uint16_t remote_port = 40000) {
    const auto from = base::IpAddress::Parse(remote).value();
    const auto to = base::IpAddress::Parse(local).value();
    bpf_sk_lookup context{};
    context.family = from.is_v4() ? AF_INET : AF_INET6;
    context.protocol = protocol;
    context.remote_port = htons(remote_port);
    context.local_port = 80;
    if (from.is_v4()) {
      context.remote_ip4 = from.v4_be();
      context.local_ip4 = to.v4_be();
    } else {
      std::memcpy(context.remote_ip6, from.bytes().data(), sizeof(context.remote_ip6));
      std::memcpy(context.local_ip6, to.bytes().data(), sizeof(context.local_ip6));
    }
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.ctx_in = &context;
    options.ctx_size_in = sizeof(context);
    EXPECT_EQ(::bpf_prog_test_run_opts(::bpf_program__fd(object_->progs.weir_lookup), &options), 0);
    return static_cast<int>(options.retval);
  }
  [[nodiscard]] bool Counted(weir_counter reason) const {
    const auto index = static_cast<std::uint32_t>(reason);
    std::vector<std::uint64_t> values(static_cast<std::size_t>(::libbpf_num_possible_cpus()));
    EXPECT_EQ(
        ::bpf_map_lookup_elem(::bpf_map__fd(object_->maps.weir_counters), &index, values.data()),
        0);
    return std::ranges::any_of(values, [](auto value) { return value > 0; });
  }

  lookup* object_ = nullptr;
};

TEST_F(LookupTest, PassesWhatIsNotEnrolled) {
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3"), SK_PASS);
  EXPECT_EQ(Run("fd00::2", "fd00::3"), SK_PASS);
}

TEST_F(LookupTest, DropsForAClosedWorkloadWithoutAListener) {
  Enrol(WEIR_WORKLOAD_CLOSED);
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3"), SK_DROP);
  EXPECT_EQ(Run("fd00::2", "fd00::3"), SK_DROP);
  EXPECT_TRUE(Counted(WEIR_LOOKUP_NO_AGENT_DROPPED));
}

TEST_F(LookupTest, PassesForAnOpenWorkloadWithoutAListener) {
  Enrol(0);
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3"), SK_PASS);
  EXPECT_EQ(Run("fd00::2", "fd00::3"), SK_PASS);
  EXPECT_TRUE(Counted(WEIR_LOOKUP_NO_AGENT_OPEN));
}

TEST_F(LookupTest, PassesLoopbackItselfAndOtherProtocols) {
  Enrol(WEIR_WORKLOAD_CLOSED);
  EXPECT_EQ(Run("198.18.0.2", "127.1.2.3"), SK_PASS);
  EXPECT_EQ(Run("fd00::2", "::1"), SK_PASS);
  EXPECT_TRUE(Counted(WEIR_LOOKUP_LOOPBACK));
  EXPECT_EQ(Run("198.18.0.3", "198.18.0.3"), SK_PASS);
  EXPECT_EQ(Run("fd00::3", "fd00::3"), SK_PASS);
  EXPECT_TRUE(Counted(WEIR_LOOKUP_SELF));
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3", IPPROTO_UDP), SK_PASS);
}

TEST_F(LookupTest, PassesAnOwnLegByItsExactTupleOnly) {
  Enrol(WEIR_WORKLOAD_CLOSED);
  weir_tuple leg{};
  leg.netns_cookie = kCookie;
  leg.local = AbiOf("198.18.0.2");
  leg.remote = AbiOf("198.18.0.3");
  leg.local_port = 40000;
  leg.remote_port = 80;
  Set(object_->maps.weir_legs, leg, weir_leg{.kind = 2, .worker = 0, .request_handle = 0});
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3"), SK_PASS);
  EXPECT_TRUE(Counted(WEIR_LOOKUP_OWN_LEG));
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3", IPPROTO_TCP, 40001), SK_DROP);
  EXPECT_EQ(Run("198.18.0.4", "198.18.0.3"), SK_DROP);
}

TEST_F(LookupTest, TakesOnlyTheListeningPortsOfUnits) {
  ListenOn("198.18.0.3", 80, WEIR_WORKLOAD_CLOSED);
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.3"), SK_DROP);
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.4"), SK_PASS);
  ListenOn("::", 80, WEIR_WORKLOAD_CLOSED);
  EXPECT_EQ(Run("fd00::2", "fd00::3"), SK_DROP);
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.4"), SK_PASS);  // a v6 wildcard is one family's
  ListenOn("0.0.0.0", 80, WEIR_WORKLOAD_CLOSED);
  EXPECT_EQ(Run("198.18.0.2", "198.18.0.4"), SK_DROP);
}

}  // namespace
}  // namespace weir::test

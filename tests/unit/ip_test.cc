#include "agent/base/ip.h"

#include <gtest/gtest.h>

namespace weir::base {
namespace {

IpAddress Ip(std::string_view text) {
  return IpAddress::Parse(text).value();
}

TEST(IpAddressTest, IsOneFamilyForPlainAndMappedIpv4) {
  EXPECT_EQ(Ip("198.18.0.1"), Ip("::ffff:198.18.0.1"));
  EXPECT_TRUE(Ip("::ffff:198.18.0.1").is_v4());
  EXPECT_FALSE(Ip("fd00::1").is_v4());
}

TEST(IpAddressTest, RefusesWhatIsNoAddress) {
  for (const auto* text :
       {"", "1.2.3", "1.2.3.4.5", "256.1.1.1", "fd00::g", "fe80::1%eth0", "[::1]", " 1.2.3.4"}) {
    EXPECT_FALSE(IpAddress::Parse(text).has_value()) << text;
  }
}

TEST(IpAddressTest, KnowsItsSpecialRanges) {
  EXPECT_TRUE(Ip("127.255.0.1").is_loopback());
  EXPECT_TRUE(Ip("::1").is_loopback());
  EXPECT_FALSE(Ip("128.0.0.1").is_loopback());
  EXPECT_TRUE(Ip("0.0.0.0").is_unspecified());
  EXPECT_TRUE(Ip("::").is_unspecified());
  EXPECT_TRUE(Ip("fe80::1").is_link_local());
  EXPECT_TRUE(Ip("169.254.1.1").is_link_local());
  EXPECT_FALSE(Ip("fec0::1").is_link_local());
}

TEST(EndpointTest, PrintsAndReadsBothFamilies) {
  for (const auto* text : {"198.18.0.1:80", "[fd00::1]:65535", "0.0.0.0:0"}) {
    EXPECT_EQ(Endpoint::Parse(text).value().ToString(), text);
  }
}

TEST(EndpointTest, RefusesAmbiguousAndBrokenText) {
  for (const auto* text : {"fd00::1:80", "198.18.0.1", "198.18.0.1:", "198.18.0.1:65536",
                           "198.18.0.1:-1", ":80", "[fd00::1]", "host:80", "198.18.0.1:8o"}) {
    EXPECT_FALSE(Endpoint::Parse(text).has_value()) << text;
  }
}

TEST(EndpointTest, SurvivesTheSocketAddressForm) {
  for (const auto* text : {"198.18.0.1:80", "[fd00::1]:443"}) {
    const Endpoint endpoint = Endpoint::Parse(text).value();
    for (const bool mapped : {false, true}) {
      const RawSocketAddress raw = ToSockaddr(endpoint, mapped);
      EXPECT_EQ(FromSockaddr(raw.get(), raw.length), endpoint);
    }
  }
}

TEST(CidrTest, ContainsExactlyItsRange) {
  const Cidr range = Cidr::Parse("198.18.0.0/15").value();
  EXPECT_TRUE(range.Contains(Ip("198.18.0.0")));
  EXPECT_TRUE(range.Contains(Ip("198.19.255.255")));
  EXPECT_FALSE(range.Contains(Ip("198.17.255.255")));
  EXPECT_FALSE(range.Contains(Ip("198.20.0.0")));
  EXPECT_FALSE(range.Contains(Ip("::c612:1")));
  const Cidr v6 = Cidr::Parse("fd00:1:2::/47").value();
  EXPECT_TRUE(v6.Contains(Ip("fd00:1:3:ffff::1")));
  EXPECT_FALSE(v6.Contains(Ip("fd00:1:4::1")));
  EXPECT_TRUE(Cidr::Parse("0.0.0.0/0").value().Contains(Ip("203.0.113.9")));
  EXPECT_FALSE(Cidr::Parse("0.0.0.0/0").value().Contains(Ip("fd00::1")));
}

TEST(CidrTest, RefusesPrefixesThatAreTooLong) {
  EXPECT_FALSE(Cidr::Parse("198.18.0.0/33").has_value());
  EXPECT_FALSE(Cidr::Parse("fd00::/129").has_value());
  EXPECT_FALSE(Cidr::Parse("198.18.0.0/").has_value());
  EXPECT_EQ(Cidr::Parse("198.18.0.1").value().prefix_bits, 32);
}

}  // namespace
}  // namespace weir::base

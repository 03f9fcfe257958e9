#include "agent/tls/client_hello.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

namespace weir::tls {
namespace {

using Wire = std::vector<std::uint8_t>;

// A real ClientHello of BoringSSL.
Wire RealHello(const char* server_name, const std::vector<std::string>& alpn) {
  const bssl::UniquePtr<SSL_CTX> context(SSL_CTX_new(TLS_method()));
  const bssl::UniquePtr<SSL> ssl(SSL_new(context.get()));
  BIO* out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), out);
  if (server_name != nullptr) {
    EXPECT_EQ(SSL_set_tlsext_host_name(ssl.get(), server_name), 1);
  }
  Wire names;
  for (const std::string& name : alpn) {
    names.push_back(static_cast<std::uint8_t>(name.size()));
    names.insert(names.end(), name.begin(), name.end());
  }
  EXPECT_EQ(SSL_set_alpn_protos(ssl.get(), names.data(), static_cast<unsigned>(names.size())), 0);
  EXPECT_LT(SSL_connect(ssl.get()), 1);
  const std::uint8_t* bytes = nullptr;
  std::size_t size = 0;
  EXPECT_EQ(BIO_mem_contents(out, &bytes, &size), 1);
  return {bytes, bytes + size};
}

void Append(Wire& to, const Wire& from) {
  to.insert(to.end(), from.begin(), from.end());
}
void AppendNumber(Wire& to, std::size_t value, int width) {
  for (int i = width - 1; i >= 0; --i) {
    to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
  }
}
Wire Prefixed(const Wire& content, int width) {
  Wire wire;
  AppendNumber(wire, content.size(), width);
  Append(wire, content);
  return wire;
}
Wire Text(std::string_view text) {
  return {text.begin(), text.end()};
}

Wire Extension(std::size_t type, const Wire& content) {
  Wire wire;
  AppendNumber(wire, type, 2);
  Append(wire, Prefixed(content, 2));
  return wire;
}
Wire HostName(std::string_view name) {
  Wire entry = {0};
  Append(entry, Prefixed(Text(name), 2));
  return Extension(0, Prefixed(entry, 2));
}
Wire Alpn(std::string_view name) {
  return Extension(16, Prefixed(Prefixed(Text(name), 1), 2));
}

// A ClientHello message with these extensions, in records of at most `fragment` bytes.
Wire Hello(const Wire& extensions, std::size_t fragment = 16384) {
  Wire body = {3, 3};
  body.resize(34, 7);
  Append(body, {0, 0, 2, 0x13, 1, 1, 0});  // no session id, one suite, no compression
  Append(body, Prefixed(extensions, 2));
  Wire message = {1};
  Append(message, Prefixed(body, 3));
  Wire wire;
  for (std::size_t at = 0; at < message.size(); at += fragment) {
    const std::size_t size = std::min(fragment, message.size() - at);
    Append(wire, {22, 3, 1});
    AppendNumber(wire, size, 2);
    wire.insert(wire.end(), message.begin() + static_cast<std::ptrdiff_t>(at),
                message.begin() + static_cast<std::ptrdiff_t>(at + size));
  }
  return wire;
}

TEST(ClientHelloTest, ReadsServerNameAndAlpn) {
  const ClientHello hello = ParseClientHello(RealHello("db.shop.test", {"h2", "http/1.1"}));
  EXPECT_EQ(hello.status, HelloStatus::kClientHello);
  EXPECT_EQ(hello.server_name, "db.shop.test");
  EXPECT_EQ(hello.alpn, (std::vector<std::string>{"h2", "http/1.1"}));
  EXPECT_TRUE(OffersAlpn(hello, "h2"));
  EXPECT_FALSE(OffersAlpn(hello, "weir/1"));
}

TEST(ClientHelloTest, ReadsAHelloWithoutEither) {
  const ClientHello hello = ParseClientHello(RealHello(nullptr, {}));
  EXPECT_EQ(hello.status, HelloStatus::kClientHello);
  EXPECT_EQ(hello.server_name, "");
  EXPECT_TRUE(hello.alpn.empty());
}

TEST(ClientHelloTest, NeedsMoreAtEveryPrefix) {
  const Wire wire = RealHello("db.shop.test", {"weir/1"});
  for (std::size_t size = 0; size < wire.size(); ++size) {
    EXPECT_EQ(ParseClientHello(io::Bytes(wire).first(size)).status, HelloStatus::kNeedMore) << size;
  }
}

TEST(ClientHelloTest, IgnoresWhatFollows) {
  Wire wire = RealHello("db.shop.test", {"weir/1"});
  Append(wire, Text("anything else"));
  EXPECT_EQ(ParseClientHello(wire).server_name, "db.shop.test");
}

TEST(ClientHelloTest, JoinsRecords) {
  Wire extensions = HostName("db.shop.test");
  Append(extensions, Alpn("weir/1"));
  for (const std::size_t fragment : {1U, 2U, 3U, 5U, 64U}) {
    const Wire wire = Hello(extensions, fragment);
    const ClientHello hello = ParseClientHello(wire);
    EXPECT_EQ(hello.status, HelloStatus::kClientHello) << fragment;
    EXPECT_EQ(hello.server_name, "db.shop.test");
    EXPECT_TRUE(OffersAlpn(hello, "weir/1"));
    EXPECT_EQ(ParseClientHello(io::Bytes(wire).first(wire.size() - 1)).status,
              HelloStatus::kNeedMore);
  }
}

TEST(ClientHelloTest, TellsOtherProtocolsAtTheFirstByteThatDiffers) {
  for (const std::string_view text :
       {"G", "PRI * HTTP/2.0", "SSH-2.0-x", "\x16\x02", "\x16\x03\x04", "\x15\x03\x01"}) {
    EXPECT_EQ(ParseClientHello(Text(text)).status, HelloStatus::kNotTls) << text;
  }
  EXPECT_EQ(ParseClientHello(Wire{22, 3, 1, 0, 0}).status, HelloStatus::kNotTls);
  EXPECT_EQ(ParseClientHello(Wire{22, 3, 1, 0x40, 1}).status, HelloStatus::kNotTls);
  EXPECT_EQ(ParseClientHello(Wire{22, 3, 1, 0, 9, 2}).status, HelloStatus::kNotTls);  // ServerHello
}

TEST(ClientHelloTest, RefusesMessagesBeyondTheLimitAtTheirHeader) {
  EXPECT_EQ(ParseClientHello(Wire{22, 3, 1, 0, 9, 1, 0, 0x3f, 0xfc}).status,
            HelloStatus::kNeedMore);
  EXPECT_EQ(ParseClientHello(Wire{22, 3, 1, 0, 9, 1, 0, 0x3f, 0xfd}).status,
            HelloStatus::kMalformed);
}

TEST(ClientHelloTest, GivesUpOnTinyRecords) {
  const Wire wire = Hello(Extension(21, Wire(16000)), 1);  // padding, a byte a record
  EXPECT_EQ(ParseClientHello(io::Bytes(wire).first(kMaxClientHelloWireBytes - 1)).status,
            HelloStatus::kNeedMore);
  EXPECT_EQ(ParseClientHello(io::Bytes(wire).first(kMaxClientHelloWireBytes)).status,
            HelloStatus::kMalformed);
}

TEST(ClientHelloTest, RefusesAnotherRecordTypeInBetween) {
  Wire wire = Hello(HostName("db.shop.test"), 40);
  wire[45] = 23;  // the second record's type
  EXPECT_EQ(ParseClientHello(wire).status, HelloStatus::kMalformed);
}

TEST(ClientHelloTest, RefusesBrokenExtensions) {
  Wire twice = HostName("a.test");
  Append(twice, HostName("b.test"));
  Wire two_alpn = Alpn("h2");
  Append(two_alpn, Alpn("weir/1"));
  const std::array<Wire, 9> broken = {
      twice,
      two_alpn,
      HostName(""),
      HostName("a b"),
      HostName(std::string_view("a\0b", 3)),
      HostName(std::string(256, 'a')),
      Alpn(""),
      Extension(16, {}),
      Wire{0, 16, 0, 9, 0},  // an extension longer than its list
  };
  for (const Wire& extensions : broken) {
    const ClientHello hello = ParseClientHello(Hello(extensions));
    EXPECT_EQ(hello.status, HelloStatus::kMalformed);
    EXPECT_EQ(hello.server_name, "");
    EXPECT_TRUE(hello.alpn.empty());
  }
}

}  // namespace
}  // namespace weir::tls

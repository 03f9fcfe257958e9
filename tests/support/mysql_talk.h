#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/database/mysql_flags.h"
#include "tests/support/database_rig.h"

// MySQL's packets, as the documentation of its source code has them.
namespace weir::test::my {

inline std::string Number(std::uint64_t value, std::size_t bytes) {
  std::string text;
  for (std::size_t i = 0; i < bytes; ++i) {
    text += static_cast<char>((value >> (8 * i)) & 0xffU);
  }
  return text;
}
inline std::string Packet(std::string_view payload, std::uint8_t sequence = 0) {
  return Number(payload.size(), 3) + static_cast<char>(sequence) + std::string(payload);
}
inline std::string Text(std::string_view text) {
  return std::string(text) + '\0';
}

inline constexpr std::uint64_t kServer =
    database::mysql::kLongPassword | database::mysql::kConnectWithDb |
    database::mysql::kProtocol41 | database::mysql::kSsl | database::mysql::kCompress |
    database::mysql::kSecureConnection | database::mysql::kPluginAuthLenenc |
    database::mysql::kDeprecateEof | database::mysql::kQueryAttributes | database::mysql::kZstd |
    database::mysql::kOptionalMetadata;
inline constexpr std::uint64_t kClient =
    database::mysql::kLongPassword | database::mysql::kConnectWithDb |
    database::mysql::kProtocol41 | database::mysql::kSecureConnection;

inline std::string Greeting(std::uint64_t capabilities = kServer,
                            std::string_view version = "8.0.36") {
  return Packet(Number(10, 1) + Text(version) + Number(7, 4) + "saltsalt" + Number(0, 1) +
                Number(capabilities & 0xffffU, 2) + Number(45, 1) + Number(2, 2) +
                Number((capabilities >> 16U) & 0xffffU, 2) + Number(21, 1) + std::string(6, '\0') +
                Number(capabilities >> 32U, 4) + "saltsaltsalt" + Text("") +
                Text("mysql_native_password"));
}
inline std::string LoginPacket(std::uint64_t capabilities = kClient,
                               std::string_view database = "shop") {
  return Packet(Number(capabilities & 0xffffffffU, 4) + Number(1U << 24U, 4) + Number(45, 1) +
                    std::string(19, '\0') + Number(capabilities >> 32U, 4) + Text("bob") +
                    Number(6, 1) + "secret" + Text(database),
                1);
}
inline std::string Ok(std::uint64_t affected = 0, std::uint16_t status = 2,
                      std::uint8_t header = 0) {
  return Packet(Number(header, 1) + Number(affected, 1) + Number(0, 1) + Number(status, 2) +
                Number(0, 2));
}
inline std::string Eof(std::uint16_t status = 2) {
  return Packet(Number(0xfe, 1) + Number(0, 2) + Number(status, 2));
}
inline std::string Error(std::uint16_t number) {
  return Packet(Number(0xff, 1) + Number(number, 2) + "#42S02" + "secret is missing");
}
inline std::string Command(std::uint8_t command, std::string_view rest = {}) {
  return Packet(Number(command, 1) + std::string(rest));
}
inline std::string Query(std::string_view sql) {
  return Command(3, sql);
}
inline std::string Columns(std::uint64_t count) {
  return Packet(Number(count, 1));
}
inline std::string Definition() {
  return Packet("\3def\4shop\1t\1t\1c\1c\x0c" + std::string(12, '\1'));
}
inline std::string Row() {
  return Packet("\6secret");
}

inline Talk LoggedIn(const Talk& rest, std::uint64_t client = kClient,
                     const std::string& greeting = Greeting()) {
  Talk talk = {Server(greeting),
               test::Client(LoginPacket(client)),
               Server(Packet(Number(0xfe, 1) + Text("caching_sha2_password") + "salt", 2)),
               test::Client(Packet("secret", 3)),
               Server(Packet(std::string("\1\3", 2), 4)),
               Server(Ok())};
  talk.insert(talk.end(), rest.begin(), rest.end());
  return talk;
}

}  // namespace weir::test::my

#pragma once

#include <cstdint>

// Numbers of MySQL's protocol (MySQL 8.4 source code documentation, "Client/Server Protocol")
// and of MariaDB's ("Clients & Utilities", protocol).
namespace weir::database::mysql {

// Capabilities. MariaDB's own are above 32 bits.
inline constexpr std::uint64_t kLongPassword = 1U << 0U;  // a MariaDB server says no to it
inline constexpr std::uint64_t kConnectWithDb = 1U << 3U;
inline constexpr std::uint64_t kCompress = 1U << 5U;
inline constexpr std::uint64_t kProtocol41 = 1U << 9U;
inline constexpr std::uint64_t kSsl = 1U << 11U;
inline constexpr std::uint64_t kSecureConnection = 1U << 15U;
inline constexpr std::uint64_t kPluginAuthLenenc = 1U << 21U;
inline constexpr std::uint64_t kDeprecateEof = 1U << 24U;
inline constexpr std::uint64_t kOptionalMetadata = 1U << 25U;
inline constexpr std::uint64_t kZstd = 1U << 26U;
inline constexpr std::uint64_t kQueryAttributes = 1U << 27U;
inline constexpr std::uint64_t kCacheMetadata = 1ULL << 36U;

// Status of an OK or EOF packet.
inline constexpr std::uint16_t kMoreResults = 0x0008;
inline constexpr std::uint16_t kCursorExists = 0x0040;

// First bytes of answers.
inline constexpr std::uint8_t kOk = 0x00;
inline constexpr std::uint8_t kMoreAuth = 0x01;
inline constexpr std::uint8_t kNextAuth = 0x02;
inline constexpr std::uint8_t kInfile = 0xfb;
inline constexpr std::uint8_t kEof = 0xfe;
inline constexpr std::uint8_t kErr = 0xff;
// The error number of what is no error but a progress report of MariaDB.
inline constexpr std::uint16_t kProgress = 0xffff;

}  // namespace weir::database::mysql

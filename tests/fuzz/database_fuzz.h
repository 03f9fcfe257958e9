#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/database/tap.h"
#include "tests/fuzz/property.h"
#include "tests/support/database_rig.h"

// A conversation from bytes: before each piece stand who speaks (odd: the client) and its length
// in two bytes.
namespace weir::test {

inline Talk TalkFrom(std::string_view bytes) {
  constexpr std::size_t kHead = 3;
  Talk talk;
  while (bytes.size() > kHead) {
    const bool by_client = (bytes[0] & 1) != 0;
    const std::size_t length =
        (static_cast<std::uint8_t>(bytes[1]) << 8U) | static_cast<std::uint8_t>(bytes[2]);
    bytes.remove_prefix(kHead);
    const std::string_view piece = bytes.substr(0, length);
    talk.push_back({.by_client = by_client, .bytes = std::string(piece)});
    bytes.remove_prefix(piece.size());
  }
  return talk;
}

// Properties: nothing depends on how the bytes are split; each command that begins ends once;
// what is told keeps its limits; what is remembered too.
inline void CheckTap(database::System system, std::string_view bytes) {
  const Talk talk = TalkFrom(bytes);
  TapRig whole(system);
  whole.Hear(talk);
  TapRig pieces(system);
  pieces.HearInPieces(talk, 1);
  WEIR_PROPERTY(whole.Text() == pieces.Text());
  constexpr std::size_t kMostKept = 48U << 10U;
  WEIR_PROPERTY(whole.tap().kept_bytes() <= kMostKept);
  if (whole.tap().end() == database::TapEnd::kFollowing) {
    whole.tap().Finish();
    WEIR_PROPERTY(whole.started == whole.calls.size() + whole.dropped);
  } else {
    WEIR_PROPERTY(whole.started >= whole.calls.size() + whole.dropped);
  }
  for (const observe::DatabaseCall& call : whole.calls) {
    constexpr std::size_t kMostOperation = 40;
    WEIR_PROPERTY(call.operation.size() <= kMostOperation);
    WEIR_PROPERTY(call.summary.size() <= 255);
    WEIR_PROPERTY(call.collection.size() <= 128);
    WEIR_PROPERTY(call.name_space.size() <= 128);
    WEIR_PROPERTY(call.status.size() <= 32);
    WEIR_PROPERTY(call.is_error || call.status.empty());
  }
}

}  // namespace weir::test

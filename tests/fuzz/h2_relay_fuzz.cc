// An HTTP/2 connection between two ends, taken in turns from the input: a byte for who
// speaks, two for how much, then that. Properties: where the bytes are split does not matter;
// what comes out is HTTP/2 that an end can read, header blocks included, and all but header
// blocks, SETTINGS and the relay's own frames is what came in; the handler's streams end once.
#include <algorithm>
#include <string>
#include <string_view>

#include "tests/fuzz/property.h"
#include "tests/support/h2_relay_rig.h"

namespace {

using weir::http::H2FrameType;
using weir::http::H2Side;
using weir::test::FrameLog;
using weir::test::H2RelayRig;

void Run(H2RelayRig& rig, std::string_view input, std::uint8_t seed) {
  while (input.size() > 3) {
    const H2Side from = (input[0] & 1) == 0 ? H2Side::kClient : H2Side::kServer;
    const std::size_t size =
        std::min<std::size_t>(input.size() - 3, static_cast<std::uint8_t>(input[1]) * 256U +
                                                    static_cast<std::uint8_t>(input[2]));
    const std::string_view bytes = input.substr(3, size);
    if (seed == 0) {
      rig.Feed(from, weir::test::AsBytes(bytes));
    } else {
      weir::test::FeedInPieces(
          bytes, seed, [&](std::string_view piece) { rig.Feed(from, weir::test::AsBytes(piece)); });
    }
    input.remove_prefix(3 + size);
  }
}

// An end reads every whole frame of `log` with a codec of its own.
void CheckReadable(const FrameLog& log, bool at_server) {
  weir::http::FrameReader reader({.max_frame_bytes = weir::http::kH2LargestFrameBytes,
                                  .max_header_frame_bytes = weir::http::kH2LargestFrameBytes,
                                  .relayed = true});
  std::span<const std::uint8_t> bytes(log.bytes());
  if (at_server) {
    bytes = bytes.subspan(std::min(bytes.size(), weir::http::kH2Preface.size()));
  }
  std::uint32_t block_stream = 0;
  bool first = true;
  while (!bytes.empty()) {
    const auto event = reader.Next(bytes);
    if (event.kind == weir::http::H2EventKind::kNeedMore) {
      break;
    }
    WEIR_PROPERTY(event.kind != weir::http::H2EventKind::kError);
    const auto type = event.header.type;
    WEIR_PROPERTY(!first || type == H2FrameType::kSettings);
    first = false;
    WEIR_PROPERTY((block_stream != 0) == (type == H2FrameType::kContinuation));
    if (type == H2FrameType::kHeaders || type == H2FrameType::kContinuation) {
      const bool ends = event.header.Has(weir::http::kH2FlagEndHeaders);
      block_stream = ends ? 0 : event.header.stream_id;
    }
  }
}

void CheckLists(const FrameLog& log) {
  for (const std::string& list : log.Lists()) {
    // A block is lost on us only if the ends agreed on another table.
    if (list == "undecodable") {
      const auto settings = log.Frames(H2FrameType::kSettings);
      WEIR_PROPERTY(!settings.empty());
      return;
    }
    WEIR_PROPERTY(list.find('\n') == std::string::npos && list.find('\r') == std::string::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  H2RelayRig whole;
  Run(whole, input, 0);
  H2RelayRig pieces;
  Run(pieces, input, static_cast<std::uint8_t>(data[0] | 1));
  WEIR_PROPERTY(whole.relay.violation() == pieces.relay.violation());
  WEIR_PROPERTY(whole.relay.error() == pieces.relay.error());
  WEIR_PROPERTY(whole.notes == pieces.notes);
  WEIR_PROPERTY(whole.open >= 0);
  for (H2RelayRig* rig : {&whole, &pieces}) {
    CheckReadable(rig->to_server, /*at_server=*/true);
    CheckReadable(rig->to_client, /*at_server=*/false);
    CheckLists(rig->to_server);
    CheckLists(rig->to_client);
    // The relay adds little of its own to what came in.
    WEIR_PROPERTY(rig->to_server.bytes().size() + rig->to_client.bytes().size() <=
                  64 * input.size() + 4096);
  }
  if (!whole.relay.closed()) {
    WEIR_PROPERTY(whole.to_server.bytes() == pieces.to_server.bytes());
    WEIR_PROPERTY(whole.to_client.bytes() == pieces.to_client.bytes());
  }
  return 0;
}

// A stream of responses. The first byte says what they answer and how the second reader
// gets them cut. Property: what is read does not depend on the cuts.
#include <string_view>

#include "tests/fuzz/property.h"
#include "tests/support/http1_transcript.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using weir::test::Http1Transcript;
  if (size == 0) {
    return 0;
  }
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  const weir::http::RequestKind kind{.is_head = (data[0] & 1U) != 0,
                                     .is_connect = (data[0] & 2U) != 0,
                                     .wants_upgrade = (data[0] & 4U) != 0};
  const weir::http::Http1Limits limits{
      .max_start_line_bytes = 128, .max_header_bytes = 256, .max_header_count = 8};
  Http1Transcript whole(kind, limits);
  whole.Feed(stream);
  Http1Transcript cut(kind, limits);
  weir::test::FeedInPieces(stream, data[0], [&](std::string_view piece) { cut.Feed(piece); });
  WEIR_PROPERTY(whole.events() == cut.events());
  WEIR_PROPERTY(whole.error() == cut.error());
  WEIR_PROPERTY(whole.is_opaque() == cut.is_opaque());
  return 0;
}

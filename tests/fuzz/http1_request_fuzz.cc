// A stream of requests. The first byte says how the second reader gets it cut.
// Property: what is read does not depend on the cuts.
#include <string_view>

#include "tests/fuzz/property.h"
#include "tests/support/http1_transcript.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using weir::test::Http1Transcript;
  if (size == 0) {
    return 0;
  }
  const std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  const weir::http::Http1Limits limits{
      .max_start_line_bytes = 128, .max_header_bytes = 256, .max_header_count = 8};
  Http1Transcript whole(limits);
  whole.Feed(stream);
  Http1Transcript cut(limits);
  weir::test::FeedInPieces(stream, data[0], [&](std::string_view piece) { cut.Feed(piece); });
  WEIR_PROPERTY(whole.events() == cut.events());
  WEIR_PROPERTY(whole.error() == cut.error());
  WEIR_PROPERTY(whole.is_clean() == cut.is_clean());
  return 0;
}

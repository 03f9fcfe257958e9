#include "agent/client/gzip.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

#include "agent/base/check.h"

namespace weir::client {
namespace {

constexpr int kGzipWindowBits = 15 + 16;  // zlib.h, deflateInit2: 32 KiB, with a gzip header
constexpr int kLevel = 1;  // telemetry repeats itself: higher levels cost more than they save
constexpr std::size_t kStepBytes = 64U << 10U;

// zlib's struct knows no const; neither direction changes its input.
Bytef* Input(std::string_view text) {
  return reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
}

}  // namespace

std::string Gzip(std::string_view plain) {
  WEIR_CHECK(plain.size() <= std::numeric_limits<uInt>::max());
  z_stream stream{};
  WEIR_CHECK(::deflateInit2(&stream, kLevel, Z_DEFLATED, kGzipWindowBits, MAX_MEM_LEVEL,
                            Z_DEFAULT_STRATEGY) == Z_OK);  // it can only lack memory
  std::string packed(::deflateBound(&stream, plain.size()), '\0');
  stream.next_in = Input(plain);
  stream.avail_in = static_cast<uInt>(plain.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  WEIR_CHECK(::deflate(&stream, Z_FINISH) == Z_STREAM_END);  // there is room for all of it
  packed.resize(stream.total_out);
  (void)::deflateEnd(&stream);  // nothing is left to be lost
  return packed;
}

base::Result<std::string> Gunzip(std::string_view packed, std::size_t limit_bytes) {
  if (packed.size() > std::numeric_limits<uInt>::max()) {
    return base::MakeError(base::ErrorCode::kLimit, "gunzip: the packed text is too long");
  }
  z_stream stream{};
  WEIR_CHECK(::inflateInit2(&stream, kGzipWindowBits) == Z_OK);  // it can only lack memory
  stream.next_in = Input(packed);
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string plain;
  int state = Z_OK;
  do {
    const std::size_t before = plain.size();
    plain.resize(before + std::min(kStepBytes, limit_bytes + 1 - before));
    stream.next_out = reinterpret_cast<Bytef*>(plain.data() + before);
    stream.avail_out = static_cast<uInt>(plain.size() - before);
    state = ::inflate(&stream, Z_NO_FLUSH);
    plain.resize(plain.size() - stream.avail_out);
  } while (state == Z_OK && plain.size() <= limit_bytes);
  (void)::inflateEnd(&stream);  // only frees
  if (plain.size() > limit_bytes) {
    return base::MakeError(base::ErrorCode::kLimit, "gunzip: the plain text is too long");
  }
  if (state != Z_STREAM_END || stream.avail_in != 0) {
    return base::MakeError(base::ErrorCode::kProtocol, "gunzip: not one whole gzip text");
  }
  return plain;
}

}  // namespace weir::client

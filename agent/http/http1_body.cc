#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "agent/http/http1_parser.h"
#include "agent/http/token.h"

namespace weir::http {
namespace {

// A chunk's size and its extensions; nobody sends more, and what is there is never used.
constexpr std::uint32_t kMaxSizeLineBytes = 1024;

int HexDigit(char c) {
  const char lower = ToLower(c);
  if (lower >= '0' && lower <= '9') {
    return lower - '0';
  }
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

BodyReader::BodyReader(const Framing& framing) : remaining_(framing.length) {
  switch (framing.kind) {
    case BodyKind::kNone:
      state_ = State::kDone;
      break;
    case BodyKind::kCounted:
      state_ = remaining_ > 0 ? State::kCounted : State::kDone;
      break;
    case BodyKind::kChunked:
      remaining_ = 0;
      state_ = State::kSizeFirst;
      break;
    case BodyKind::kUntilEnd:
      state_ = State::kUntilEnd;
      break;
  }
}

void BodyReader::Fail(Http1Error error) {
  error_ = error;
  state_ = State::kFailed;
}

void BodyReader::Expect(bool met, State next, Http1Error error) {
  if (met) {
    state_ = next;
  } else {
    Fail(error);
  }
}

BodyReader::Step BodyReader::Read(std::string_view bytes, const Http1Limits& limits) {
  std::size_t taken = 0;
  while (taken < bytes.size() && state_ != State::kDone && state_ != State::kFailed) {
    if (state_ == State::kCounted || state_ == State::kUntilEnd || state_ == State::kData) {
      taken += TakeData(bytes.size() - taken);
    } else {
      TakeByte(bytes[taken], limits);
      taken += state_ == State::kFailed ? 0 : 1;
    }
  }
  if (state_ == State::kFailed) {
    return {.progress = Progress::kError, .consumed = taken};
  }
  return {.progress = state_ == State::kDone ? Progress::kComplete : Progress::kNeedMore,
          .consumed = taken};
}

std::size_t BodyReader::TakeData(std::size_t available) {
  if (state_ == State::kUntilEnd) {
    return available;
  }
  const std::uint64_t taken = std::min<std::uint64_t>(available, remaining_);
  remaining_ -= taken;
  if (remaining_ == 0) {
    state_ = state_ == State::kCounted ? State::kDone : State::kDataCr;
  }
  return static_cast<std::size_t>(taken);
}

void BodyReader::TakeByte(char byte, const Http1Limits& limits) {
  switch (state_) {
    case State::kSizeFirst:
    case State::kSize:
    case State::kExtension:
    case State::kSizeLf:
      TakeSizeByte(byte);
      break;
    case State::kDataCr:
      Expect(byte == '\r', State::kDataLf, Http1Error::kBadChunk);
      break;
    case State::kDataLf:
      Expect(byte == '\n', State::kSizeFirst, Http1Error::kBadChunk);
      break;
    case State::kTrailerStart:
    case State::kTrailerName:
    case State::kTrailerValue:
    case State::kTrailerLf:
    case State::kLastLf:
      TakeTrailerByte(byte, limits);
      break;
    case State::kDone:
    case State::kCounted:
    case State::kUntilEnd:
    case State::kData:
    case State::kFailed:
      break;
  }
}

// chunk-size [ chunk-ext ] CRLF, RFC 9112 section 7.1. White space around the extensions
// is refused: it is "bad" there, and not all servers take it.
void BodyReader::TakeSizeByte(char byte) {
  constexpr auto kMaxSize = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const int digit = HexDigit(byte);
  const bool in_size = state_ == State::kSizeFirst || state_ == State::kSize;
  if (state_ == State::kSizeFirst) {
    line_bytes_ = 0;
    remaining_ = 0;
  }
  if (++line_bytes_ > kMaxSizeLineBytes) {
    Fail(Http1Error::kBadChunkSize);
    return;
  }
  if (in_size && digit >= 0 && remaining_ <= (kMaxSize >> 4U)) {
    remaining_ = (remaining_ << 4U) | static_cast<unsigned>(digit);
    state_ = State::kSize;
  } else if (state_ == State::kSize && byte == ';') {
    state_ = State::kExtension;
  } else if ((state_ == State::kSize || state_ == State::kExtension) && byte == '\r') {
    state_ = State::kSizeLf;
  } else if (state_ == State::kSizeLf && byte == '\n') {
    state_ = remaining_ > 0 ? State::kData : State::kTrailerStart;
    line_bytes_ = 0;
  } else if (state_ != State::kExtension || !IsClass(byte, CharClass::kValue)) {
    Fail(Http1Error::kBadChunkSize);
  }
}

// *( field-line CRLF ) CRLF, by the same limits as the fields of a head.
void BodyReader::TakeTrailerByte(char byte, const Http1Limits& limits) {
  const bool token = IsClass(byte, CharClass::kToken);
  if (state_ == State::kLastLf) {
    Expect(byte == '\n', State::kDone, Http1Error::kBadTrailer);
    return;
  }
  if (state_ == State::kTrailerStart) {
    if (byte == '\r') {
      state_ = State::kLastLf;
      return;
    }
    if (token && ++trailer_count_ > limits.max_header_count) {
      Fail(Http1Error::kTooManyHeaders);
      return;
    }
  }
  if (++line_bytes_ > limits.max_header_bytes) {
    Fail(Http1Error::kHeadersTooLarge);
  } else if (state_ == State::kTrailerStart) {
    Expect(token, State::kTrailerName, Http1Error::kBadTrailer);
  } else if (state_ == State::kTrailerName) {
    Expect(token || byte == ':', byte == ':' ? State::kTrailerValue : State::kTrailerName,
           Http1Error::kBadTrailer);
  } else if (state_ == State::kTrailerValue) {
    const bool value = IsClass(byte, CharClass::kValue);
    Expect(value || byte == '\r', byte == '\r' ? State::kTrailerLf : State::kTrailerValue,
           Http1Error::kBadTrailer);
  } else {
    Expect(byte == '\n', State::kTrailerStart, Http1Error::kBadTrailer);
  }
}

}  // namespace weir::http

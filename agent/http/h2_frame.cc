#include "agent/http/h2_frame.h"

#include <algorithm>
#include <cstring>

#include "agent/base/check.h"

namespace weir::http {
namespace {

constexpr std::size_t kSettingBytes = 6;
constexpr std::size_t kPriorityBytes = 5;
constexpr std::uint32_t kGoAwayFixedBytes = 8;

void PutU16(std::uint8_t* out, std::uint32_t value) {
  out[0] = static_cast<std::uint8_t>(value >> 8U);
  out[1] = static_cast<std::uint8_t>(value);
}

void PutU32(std::uint8_t* out, std::uint32_t value) {
  PutU16(out, value >> 16U);
  PutU16(out + 2, value);
}

void PutFrameHeader(std::uint8_t* out, const H2FrameHeader& header) {
  out[0] = static_cast<std::uint8_t>(header.length >> 16U);
  PutU16(out + 1, header.length);
  out[3] = static_cast<std::uint8_t>(header.type);
  out[4] = header.flags;
  PutU32(out + 5, header.stream_id);
}

std::span<const std::uint8_t> TakeFront(std::span<const std::uint8_t>& bytes, std::size_t most) {
  const std::span<const std::uint8_t> front = bytes.first(std::min(bytes.size(), most));
  bytes = bytes.subspan(front.size());
  return front;
}

bool IsKnown(H2FrameType type) {
  return type <= H2FrameType::kContinuation;
}

}  // namespace

std::uint16_t ReadU16(std::span<const std::uint8_t> bytes) {
  return static_cast<std::uint16_t>((bytes[0] << 8U) | bytes[1]);
}

std::uint32_t ReadU32(std::span<const std::uint8_t> bytes) {
  return (static_cast<std::uint32_t>(ReadU16(bytes)) << 16U) | ReadU16(bytes.subspan(2));
}

void WriteU32(std::uint8_t* out, std::uint32_t value) {
  PutU32(out, value);
}

H2FrameHeader ParseFrameHeader(std::span<const std::uint8_t, kH2FrameHeaderBytes> bytes) {
  return {.length = ReadU32(bytes) >> 8U,
          .type = static_cast<H2FrameType>(bytes[3]),
          .flags = bytes[4],
          .stream_id = ReadU32(bytes.subspan(5)) & kH2LastStreamId};
}

void AppendFrame(ByteSink& sink, H2FrameHeader header, std::span<const std::uint8_t> payload) {
  WEIR_CHECK(payload.size() <= kH2LargestFrameBytes);
  header.length = static_cast<std::uint32_t>(payload.size());
  const std::size_t total = kH2FrameHeaderBytes + payload.size();
  const std::span<std::uint8_t> room = sink.Prepare(total);
  PutFrameHeader(room.data(), header);
  if (!payload.empty()) {
    std::memcpy(room.data() + kH2FrameHeaderBytes, payload.data(), payload.size());
  }
  sink.Commit(total);
}

void AppendFrameHeader(ByteSink& sink, const H2FrameHeader& header) {
  PutFrameHeader(sink.Prepare(kH2FrameHeaderBytes).data(), header);
  sink.Commit(kH2FrameHeaderBytes);
}

void AppendSettings(ByteSink& sink, std::span<const H2SettingValue> settings) {
  const std::size_t total = kH2FrameHeaderBytes + settings.size() * kSettingBytes;
  std::uint8_t* out = sink.Prepare(total).data();
  PutFrameHeader(out, {.length = static_cast<std::uint32_t>(settings.size() * kSettingBytes),
                       .type = H2FrameType::kSettings});
  out += kH2FrameHeaderBytes;
  for (const H2SettingValue& setting : settings) {
    PutU16(out, static_cast<std::uint32_t>(setting.id));
    PutU32(out + 2, setting.value);
    out += kSettingBytes;
  }
  sink.Commit(total);
}

void AppendSettingsAck(ByteSink& sink) {
  AppendFrame(sink, {.type = H2FrameType::kSettings, .flags = kH2FlagAck}, {});
}

void AppendWindowUpdate(ByteSink& sink, std::uint32_t stream_id, std::uint32_t increment) {
  std::array<std::uint8_t, 4> payload{};
  PutU32(payload.data(), increment);
  AppendFrame(sink, {.type = H2FrameType::kWindowUpdate, .stream_id = stream_id}, payload);
}

void AppendRstStream(ByteSink& sink, std::uint32_t stream_id, H2Error code) {
  std::array<std::uint8_t, 4> payload{};
  PutU32(payload.data(), static_cast<std::uint32_t>(code));
  AppendFrame(sink, {.type = H2FrameType::kRstStream, .stream_id = stream_id}, payload);
}

void AppendPing(ByteSink& sink, std::uint64_t opaque, std::uint8_t flags) {
  std::array<std::uint8_t, 8> payload{};
  PutU32(payload.data(), static_cast<std::uint32_t>(opaque >> 32U));
  PutU32(payload.data() + 4, static_cast<std::uint32_t>(opaque));
  AppendFrame(sink, {.type = H2FrameType::kPing, .flags = flags}, payload);
}

void AppendGoAway(ByteSink& sink, std::uint32_t last_stream_id, H2Error code,
                  std::string_view debug) {
  const std::string_view kept = debug.substr(0, FrameReader::kGoAwayKeptBytes - kGoAwayFixedBytes);
  std::array<std::uint8_t, FrameReader::kGoAwayKeptBytes> payload{};
  PutU32(payload.data(), last_stream_id);
  PutU32(payload.data() + 4, static_cast<std::uint32_t>(code));
  std::ranges::copy(kept, payload.begin() + kGoAwayFixedBytes);
  AppendFrame(sink, {.type = H2FrameType::kGoAway},
              std::span(payload).first(kGoAwayFixedBytes + kept.size()));
}

H2Event FrameReader::Next(std::span<const std::uint8_t>& bytes) {
  if (state_ == State::kHeader) {
    if (!TakeHeader(bytes)) {
      return {};
    }
    const H2Error violation = Begin();
    if (violation != H2Error::kNoError) {
      return Fail(violation);
    }
  }
  switch (state_) {
    case State::kHeader:  // Begin never leaves it there
    case State::kFailed:
      return Fail(error_);
    case State::kPadLength:
      return NextPadLength(bytes);
    case State::kData:
      return NextData(bytes);
    case State::kPadding:
      return NextPadding(bytes);
    case State::kBuffered:
      return NextBuffered(bytes);
    case State::kSkipped:
      return NextSkipped(bytes);
  }
  return Fail(H2Error::kInternalError);
}

void FrameReader::Trim() {
  if (at_frame_border()) {
    buffered_ = {};
  }
}

H2Event FrameReader::Fail(H2Error error) {
  state_ = State::kFailed;
  error_ = error;
  return {.kind = H2EventKind::kError, .error = error, .header = header_};
}

bool FrameReader::TakeHeader(std::span<const std::uint8_t>& bytes) {
  if (have_ == 0 && bytes.size() >= kH2FrameHeaderBytes) {
    header_ = ParseFrameHeader(bytes.first<kH2FrameHeaderBytes>());
    bytes = bytes.subspan(kH2FrameHeaderBytes);
    return true;
  }
  const std::span<const std::uint8_t> part = TakeFront(bytes, kH2FrameHeaderBytes - have_);
  std::ranges::copy(part, partial_header_.begin() + have_);
  have_ = static_cast<std::uint8_t>(have_ + part.size());
  if (have_ < kH2FrameHeaderBytes) {
    return false;
  }
  have_ = 0;
  header_ = ParseFrameHeader(partial_header_);
  return true;
}

H2Error FrameReader::Begin() {
  const H2Error violation = CheckHeader();
  if (violation != H2Error::kNoError) {
    return violation;
  }
  left_ = header_.length;
  data_bytes_ = header_.length;
  padding_ = 0;
  skipped_after_ = 0;
  buffered_.clear();
  if (header_.type == H2FrameType::kData) {
    state_ = header_.Has(kH2FlagPadded) ? State::kPadLength : State::kData;
  } else if (!IsKnown(header_.type)) {
    state_ = limits_.relayed ? State::kData : State::kSkipped;
  } else {
    state_ = State::kBuffered;
    if (header_.type == H2FrameType::kGoAway && left_ > kGoAwayKeptBytes && !limits_.relayed) {
      skipped_after_ = left_ - static_cast<std::uint32_t>(kGoAwayKeptBytes);
      left_ = kGoAwayKeptBytes;
    }
  }
  return H2Error::kNoError;
}

H2Error FrameReader::CheckHeader() const {
  if (header_.length > limits_.max_frame_bytes) {
    return H2Error::kFrameSizeError;
  }
  switch (header_.type) {
    case H2FrameType::kData:
    case H2FrameType::kHeaders:
    case H2FrameType::kContinuation:
    case H2FrameType::kPriority:
    case H2FrameType::kRstStream:
    case H2FrameType::kPushPromise:
      if (header_.stream_id == 0) {
        return H2Error::kProtocolError;
      }
      break;
    case H2FrameType::kSettings:
    case H2FrameType::kPing:
    case H2FrameType::kGoAway:
      if (header_.stream_id != 0) {
        return H2Error::kProtocolError;
      }
      break;
    case H2FrameType::kWindowUpdate:
      break;
  }
  return CheckLength();
}

H2Error FrameReader::CheckLength() const {
  const std::uint32_t length = header_.length;
  bool good = true;
  switch (header_.type) {
    case H2FrameType::kData:
      good = length >= (header_.Has(kH2FlagPadded) ? 1U : 0U);
      break;
    case H2FrameType::kHeaders:
      if (length > limits_.max_header_frame_bytes) {
        return H2Error::kEnhanceYourCalm;
      }
      good = length >= (header_.Has(kH2FlagPadded) ? 1U : 0U) +
                           (header_.Has(kH2FlagPriority) ? kPriorityBytes : 0U);
      break;
    case H2FrameType::kContinuation:
      if (length > limits_.max_header_frame_bytes) {
        return H2Error::kEnhanceYourCalm;
      }
      break;
    case H2FrameType::kPriority:
      good = length == kPriorityBytes;
      break;
    case H2FrameType::kRstStream:
    case H2FrameType::kWindowUpdate:
      good = length == 4;
      break;
    case H2FrameType::kSettings:
      if (length > limits_.max_settings_count * kSettingBytes) {
        return H2Error::kEnhanceYourCalm;
      }
      good = header_.Has(kH2FlagAck) ? length == 0 : length % kSettingBytes == 0;
      break;
    case H2FrameType::kPushPromise:
      return H2Error::kProtocolError;  // nobody here ever allows it
    case H2FrameType::kPing:
      good = length == 8;
      break;
    case H2FrameType::kGoAway:
      if (limits_.relayed && length > kH2DefaultFrameBytes) {
        return H2Error::kEnhanceYourCalm;
      }
      good = length >= kGoAwayFixedBytes;
      break;
  }
  return good ? H2Error::kNoError : H2Error::kFrameSizeError;
}

H2Event FrameReader::DataEvent(std::span<const std::uint8_t> payload, std::uint32_t padding_bytes) {
  const bool ends = left_ == 0 && (state_ == State::kPadding || padding_ == 0);
  if (ends) {
    state_ = State::kHeader;
  } else if (left_ == 0) {
    state_ = State::kPadding;
    left_ = padding_;
  }
  return {.kind = H2EventKind::kData,
          .header = header_,
          .payload = payload,
          .padding_bytes = padding_bytes,
          .frame_data_bytes = data_bytes_,
          .frame_ends = ends};
}

H2Event FrameReader::NextPadLength(std::span<const std::uint8_t>& bytes) {
  if (bytes.empty()) {
    return {};
  }
  padding_ = TakeFront(bytes, 1)[0];
  --left_;
  if (padding_ > left_) {
    return Fail(H2Error::kProtocolError);
  }
  left_ -= padding_;
  data_bytes_ = left_;
  state_ = State::kData;
  const std::span<const std::uint8_t> data = TakeFront(bytes, left_);
  left_ -= static_cast<std::uint32_t>(data.size());
  return DataEvent(data, 1);
}

H2Event FrameReader::NextData(std::span<const std::uint8_t>& bytes) {
  if (bytes.empty() && left_ > 0) {
    return {};
  }
  const std::span<const std::uint8_t> data = TakeFront(bytes, left_);
  left_ -= static_cast<std::uint32_t>(data.size());
  return DataEvent(data, 0);
}

H2Event FrameReader::NextPadding(std::span<const std::uint8_t>& bytes) {
  const auto count = static_cast<std::uint32_t>(TakeFront(bytes, left_).size());
  if (count == 0) {
    return {};
  }
  left_ -= count;
  return DataEvent({}, count);
}

H2Event FrameReader::NextBuffered(std::span<const std::uint8_t>& bytes) {
  const std::span<const std::uint8_t> part = TakeFront(bytes, left_);
  left_ -= static_cast<std::uint32_t>(part.size());
  if (left_ == 0 && buffered_.empty()) {
    return FinishBuffered(part);
  }
  buffered_.insert(buffered_.end(), part.begin(), part.end());
  return left_ == 0 ? FinishBuffered(buffered_) : H2Event{};
}

H2Event FrameReader::FinishBuffered(std::span<const std::uint8_t> payload) {
  left_ = skipped_after_;
  state_ = left_ > 0 ? State::kSkipped : State::kHeader;
  std::span<const std::uint8_t> priority;
  if (header_.type == H2FrameType::kHeaders) {
    if (header_.Has(kH2FlagPadded)) {
      const std::size_t padding = payload[0];
      payload = payload.subspan(1);
      const std::size_t fixed = header_.Has(kH2FlagPriority) ? kPriorityBytes : 0;
      if (padding + fixed > payload.size()) {
        return Fail(H2Error::kProtocolError);
      }
      payload = payload.first(payload.size() - padding);
    }
    if (header_.Has(kH2FlagPriority)) {
      priority = payload.first(kPriorityBytes);
      payload = payload.subspan(kPriorityBytes);
    }
  }
  return {.kind = H2EventKind::kFrame, .header = header_, .payload = payload, .priority = priority};
}

H2Event FrameReader::NextSkipped(std::span<const std::uint8_t>& bytes) {
  left_ -= static_cast<std::uint32_t>(TakeFront(bytes, left_).size());
  if (left_ > 0) {
    return {};
  }
  state_ = State::kHeader;
  if (header_.type == H2FrameType::kGoAway) {
    return Next(bytes);  // its kept part has been handed on already
  }
  return {.kind = H2EventKind::kFrame, .header = header_};
}

}  // namespace weir::http

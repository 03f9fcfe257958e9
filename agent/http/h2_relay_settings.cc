// H2Relay: SETTINGS, and from when on they count.
#include <algorithm>
#include <array>
#include <utility>

#include "agent/http/h2_relay.h"

namespace weir::http {
namespace {

constexpr std::size_t kSettingBytes = 6;
// SETTINGS of one end that wait for their acknowledgement.
constexpr std::size_t kMaxUnacknowledged = 64;

void AppendSetting(H2Setting id, std::uint32_t value, std::vector<std::uint8_t>& payload) {
  std::array<std::uint8_t, kSettingBytes> setting{};
  setting[1] = static_cast<std::uint8_t>(id);
  WriteU32(setting.data() + 2, value);
  payload.insert(payload.end(), setting.begin(), setting.end());
}

// RFC 9113 section 6.5.2: what is wrong with a value.
H2Error CheckSetting(H2Side from, H2Setting id, std::uint32_t value) {
  switch (id) {
    case H2Setting::kEnablePush:
      return value <= (from == H2Side::kClient ? 1U : 0U) ? H2Error::kNoError
                                                          : H2Error::kProtocolError;
    case H2Setting::kInitialWindowSize:
      return value <= kH2LargestWindowBytes ? H2Error::kNoError : H2Error::kFlowControlError;
    case H2Setting::kMaxFrameSize:
      return value >= kH2DefaultFrameBytes && value <= kH2LargestFrameBytes
                 ? H2Error::kNoError
                 : H2Error::kProtocolError;
    case H2Setting::kHeaderTableSize:
    case H2Setting::kMaxConcurrentStreams:
    case H2Setting::kMaxHeaderListSize:
      break;
  }
  return H2Error::kNoError;
}

// The value that is passed on for it.
std::uint32_t LimitSetting(H2Side from, H2Setting id, std::uint32_t value,
                           const H2RelayLimits& limits) {
  switch (id) {
    case H2Setting::kHeaderTableSize:
      return std::min(value, kH2MaxHeaderTableBytes);
    case H2Setting::kEnablePush:
      return 0;
    case H2Setting::kMaxConcurrentStreams:
      return from == H2Side::kServer ? std::min(value, limits.max_streams) : value;
    case H2Setting::kMaxHeaderListSize:
      return std::min(value, limits.max_header_bytes);
    case H2Setting::kInitialWindowSize:
    case H2Setting::kMaxFrameSize:
      break;
  }
  return value;
}

}  // namespace

std::expected<H2SettingsNotes, H2SettingsError> SanitizeH2Settings(
    H2Side from, bool first, const H2RelayLimits& limits, std::vector<std::uint8_t>& payload) {
  H2SettingsNotes notes;
  const H2Setting wanted =
      from == H2Side::kClient ? H2Setting::kEnablePush : H2Setting::kMaxConcurrentStreams;
  bool has_wanted = false;
  for (std::size_t at = 0; at + kSettingBytes <= payload.size(); at += kSettingBytes) {
    const auto setting = std::span(payload).subspan(at, kSettingBytes);
    const auto id = static_cast<H2Setting>(ReadU16(setting));
    const std::uint32_t value = ReadU32(setting.subspan(2));
    if (const H2Error error = CheckSetting(from, id, value); error != H2Error::kNoError) {
      return std::unexpected(H2SettingsError{error});
    }
    const std::uint32_t limited = LimitSetting(from, id, value, limits);
    WriteU32(setting.data() + 2, limited);
    has_wanted = has_wanted || id == wanted;
    if (id == H2Setting::kHeaderTableSize) {
      notes.table_bytes = limited;
    } else if (id == H2Setting::kMaxFrameSize) {
      notes.max_frame_bytes = limited;
    }
  }
  if (first && !has_wanted) {
    AppendSetting(wanted, from == H2Side::kClient ? 0 : limits.max_streams, payload);
  }
  return notes;
}

void H2Relay::BeginUpgraded(const H2SettingsNotes& settings) {
  last_stream_ = 1;
  streams_[1].client_ended = true;
  From(H2Side::kClient).unacknowledged.push_back(settings);
  NoteAcknowledged(H2Side::kServer);  // by the 101 (RFC 7540 section 3.2.1)
}

void H2Relay::OnSettings(Turn& turn, const H2Event& event, const std::uint8_t* begin,
                         const std::uint8_t* end) {
  Direction& dir = turn.dir;
  if (event.header.Has(kH2FlagAck)) {
    if (From(Other(turn.from)).unacknowledged.empty()) {
      Fail(turn, H2Error::kProtocolError, H2Violation::kBadSettings);
      return;
    }
    Pass(turn, event, begin, end);
    NoteAcknowledged(turn.from);
    return;
  }
  if (!Allow(turn, FloodGuard::Kind::kSettings)) {
    return;
  }
  if (dir.unacknowledged.size() >= kMaxUnacknowledged) {
    Fail(turn, H2Error::kEnhanceYourCalm, H2Violation::kSettingsFlood);
    return;
  }
  std::vector<std::uint8_t> payload(event.payload.begin(), event.payload.end());
  const bool first = !dir.settings_seen;
  const auto notes = SanitizeH2Settings(turn.from, first, limits_, payload);
  if (!notes) {
    Fail(turn, notes.error().code, H2Violation::kBadSettings);
    return;
  }
  dir.settings_seen = true;
  dir.unacknowledged.push_back(*notes);
  LimitReader(Other(turn.from));
  if (std::ranges::equal(payload, event.payload)) {
    Pass(turn, event, begin, end);
  } else {
    Flush(turn);
    AppendFrame(SinkTo(Other(turn.from), turn.out), event.header, payload);
  }
  SendInjected(turn);
}

// `side` has acknowledged the oldest SETTINGS of the other end: from here on it keeps to
// them, so its blocks are read, and sent on, by them.
void H2Relay::NoteAcknowledged(H2Side side) {
  Direction& dir = From(side);
  std::vector<H2SettingsNotes>& waiting = From(Other(side)).unacknowledged;
  const H2SettingsNotes notes = waiting.front();
  waiting.erase(waiting.begin());
  if (notes.table_bytes) {
    dir.decoder.OnSettingsAcknowledged(*notes.table_bytes);
    dir.encoder.OnPeerTableSize(*notes.table_bytes);
  }
  dir.max_frame_bytes = notes.max_frame_bytes.value_or(dir.max_frame_bytes);
  LimitReader(side);
}

// An end may use a larger frame size as soon as it is told of it, and must keep to a smaller
// one from its acknowledgement on.
void H2Relay::LimitReader(H2Side side) {
  Direction& dir = From(side);
  std::uint32_t most = dir.max_frame_bytes;
  for (const H2SettingsNotes& notes : From(Other(side)).unacknowledged) {
    most = std::max(most, notes.max_frame_bytes.value_or(0));
  }
  dir.reader.set_max_frame_bytes(most);
}

}  // namespace weir::http

#include "agent/http/h2c_upgrade.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "agent/http/token.h"

namespace weir::http {
namespace {

constexpr std::string_view kAlphabet =  // RFC 4648 section 5
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr unsigned kSextetBits = 6;
constexpr unsigned kByteBits = 8;
constexpr std::size_t kSettingBytes = 6;
constexpr std::size_t kMaxSettingsBytes = 64 * kSettingBytes;

// Whether a comma-separated list names `lower`.
bool Lists(std::string_view list, std::string_view lower) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    if (EqualsIgnoreCase(TrimOws(list.substr(0, comma)), lower)) {
      return true;
    }
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return false;
}

std::optional<std::vector<std::uint8_t>> DecodeSettings(std::string_view text) {
  while (text.ends_with('=')) {
    text.remove_suffix(1);
  }
  std::vector<std::uint8_t> bytes;
  unsigned bits = 0;
  unsigned held = 0;
  for (const char c : text) {
    const std::size_t digit = kAlphabet.find(c);
    if (digit == std::string_view::npos || bytes.size() > kMaxSettingsBytes) {
      return std::nullopt;
    }
    bits = (bits << kSextetBits) | static_cast<unsigned>(digit);
    held += kSextetBits;
    if (held >= kByteBits) {
      held -= kByteBits;
      bytes.push_back(static_cast<std::uint8_t>(bits >> held));
    }
  }
  const bool whole = bytes.size() % kSettingBytes == 0 && bytes.size() <= kMaxSettingsBytes;
  return whole ? std::optional(std::move(bytes)) : std::nullopt;
}

std::string EncodeSettings(const std::vector<std::uint8_t>& bytes) {
  std::string text;
  unsigned bits = 0;
  unsigned held = 0;
  const auto put = [&] { text += kAlphabet[(bits >> held) & 0x3fU]; };
  for (const std::uint8_t byte : bytes) {
    bits = (bits << kByteBits) | byte;
    held += kByteBits;
    while (held >= kSextetBits) {
      held -= kSextetBits;
      put();
    }
  }
  if (held > 0) {
    bits <<= kSextetBits - held;
    held = 0;
    put();
  }
  return text;
}

}  // namespace

std::optional<H2cOffer> ReadH2cOffer(const RequestHead& head, const H2RelayLimits& limits) {
  if (!head.wants_upgrade) {
    return std::nullopt;
  }
  bool named = false;
  H2cOffer offer;
  for (const Field& field : head.fields) {
    if (field.id == FieldId::kUpgrade) {
      named = named || Lists(field.value, "h2c");
    } else if (EqualsIgnoreCase(field.name, "http2-settings")) {
      if (offer.settings != nullptr) {
        return std::nullopt;  // exactly one, says section 3.2.1
      }
      offer.settings = &field;
    }
  }
  if (!named || offer.settings == nullptr) {
    return std::nullopt;
  }
  auto payload = DecodeSettings(offer.settings->value);
  if (!payload) {
    return std::nullopt;
  }
  const auto notes = SanitizeH2Settings(H2Side::kClient, /*first=*/true, limits, *payload);
  if (!notes) {
    return std::nullopt;
  }
  offer.notes = *notes;
  offer.value = EncodeSettings(*payload);
  return offer;
}

bool AcceptsH2c(const ResponseHead& head) {
  return std::ranges::any_of(head.fields, [](const Field& field) {
    return field.id == FieldId::kUpgrade && EqualsIgnoreCase(TrimOws(field.value), "h2c");
  });
}

}  // namespace weir::http

// Header blocks of a peer, several for one decoder (each behind a byte with its length).
// What decodes must keep the limits, and come out the same after encoding it again.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "agent/http/connect_fields.h"
#include "agent/http/hpack.h"
#include "tests/fuzz/property.h"

namespace {

using weir::http::H2Field;
using weir::http::H2FieldList;
using weir::http::HpackDecoder;
using weir::http::HpackEncoder;

constexpr HpackDecoder::Limits kLimits{.max_list_bytes = 2000, .max_fields = 20};

void CheckFields(const H2FieldList& list) {
  std::size_t list_bytes = 0;
  std::vector<H2Field> fields;
  for (std::size_t i = 0; i < list.size(); ++i) {
    fields.push_back(list[i]);
    list_bytes += fields[i].name.size() + fields[i].value.size() + 32;
  }
  WEIR_PROPERTY(list_bytes <= kLimits.max_list_bytes && list.size() <= kLimits.max_fields);
  (void)weir::http::ParseConnectRequest(list);
  (void)weir::http::ParseConnectStatus(list);
  HpackEncoder encoder;
  std::vector<std::uint8_t> block;
  encoder.Encode(fields, block);
  HpackDecoder decoder(kLimits);
  H2FieldList again;
  WEIR_PROPERTY(decoder.Decode(block, again).has_value() && again.size() == list.size());
  for (std::size_t i = 0; i < list.size(); ++i) {
    WEIR_PROPERTY(again[i].name == list[i].name && again[i].value == list[i].value);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::span<const std::uint8_t> rest(data, size);
  HpackDecoder decoder(kLimits);
  H2FieldList list;
  while (!rest.empty()) {
    const std::size_t length = rest[0];
    rest = rest.subspan(1);
    if (length == 255) {
      decoder.OnSettingsAcknowledged(0);
      continue;
    }
    const auto block = rest.first(length < rest.size() ? length : rest.size());
    rest = rest.subspan(block.size());
    const auto decoded = decoder.Decode(block, list);
    if (decoded) {
      CheckFields(list);
    } else if (decoded.error() == weir::http::HpackError::kMalformed) {
      break;
    }
  }
  return 0;
}

#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/http/h2_frame.h"

// HPACK (RFC 7541) around nghttp2's coder. Tunnels keep no header state: nothing is indexed
// when sending, and a table of size 0 is what they advertise. The relay of applications'
// connections keeps the tables that both ends agreed on.
namespace weir::http {

struct H2Field {
  std::string_view name;
  std::string_view value;
  // RFC 7541 section 6.2.3: must be sent on as a literal that is never indexed.
  bool never_indexed = false;
};

// H2FieldList is a decoded header block. Its views die with it or with the next Clear.
class H2FieldList {
 public:
  void Clear();
  void Add(std::string_view name, std::string_view value, bool never_indexed = false);
  [[nodiscard]] std::size_t size() const { return fields_.size(); }
  [[nodiscard]] H2Field operator[](std::size_t index) const;
  // The value of the first field of that name.
  [[nodiscard]] std::optional<std::string_view> Find(std::string_view name) const;
  // Frees the memory.
  void Trim();

 private:
  struct Entry {
    std::uint32_t offset;
    std::uint32_t name_bytes;
    std::uint32_t value_bytes;
    bool never_indexed;
  };
  std::string text_;
  std::vector<Entry> fields_;
};

enum class HpackError : std::uint8_t {
  kMalformed,  // the connection's compression state is lost (COMPRESSION_ERROR)
  kTooLarge,   // over the limits, decoded to its end: the state is still good
  kBomb        // over Limits::abort_list_bytes: the rest was not decoded, the state is lost
};

// HpackDecoder reads the peer's header blocks. Uses the default table of 4,096 bytes
// until OnSettingsAcknowledged: from then on the peer must keep to the table size that we
// advertised, and its next block must begin with a table size update (RFC 7541 section 4.2).
class HpackDecoder {
 public:
  // Limits as SETTINGS_MAX_HEADER_LIST_SIZE counts: name + value + 32 for each field.
  struct Limits {
    std::uint32_t max_list_bytes = 16384;
    std::uint32_t max_fields = 128;
    std::uint32_t abort_list_bytes = UINT32_MAX;  // no more than that is ever decoded
  };

  explicit HpackDecoder(const Limits& limits);
  HpackDecoder(const HpackDecoder&) = delete;
  HpackDecoder& operator=(const HpackDecoder&) = delete;
  ~HpackDecoder();

  // Decodes one whole block into `fields` (cleared first).
  std::expected<void, HpackError> Decode(std::span<const std::uint8_t> block, H2FieldList& fields);
  // The peer has acknowledged our SETTINGS_HEADER_TABLE_SIZE of `table_bytes`.
  void OnSettingsAcknowledged(std::uint32_t table_bytes);

 private:
  struct Inflater;
  std::unique_ptr<Inflater> inflater_;
  Limits limits_;
};

// HpackEncoder writes header blocks. With a table of 0 bytes all are literals without
// indexing (RFC 7541 section 6.2.2), so its only state is whether a table size update is due.
class HpackEncoder {
 public:
  // Keeps a dynamic table of at most `max_table_bytes`, and never more than the peer's.
  explicit HpackEncoder(std::uint32_t max_table_bytes = 0);
  HpackEncoder(const HpackEncoder&) = delete;
  HpackEncoder& operator=(const HpackEncoder&) = delete;
  ~HpackEncoder();

  // Appends the block of `fields` to `block`; fails only for lack of memory, which ends
  // the process.
  void Encode(std::span<const H2Field> fields, std::vector<std::uint8_t>& block);
  // The peer's SETTINGS_HEADER_TABLE_SIZE is in force: the next block begins with an update to
  // what both admit.
  void OnPeerTableSize(std::uint32_t table_bytes);

 private:
  struct Deflater;
  std::unique_ptr<Deflater> deflater_;
};

}  // namespace weir::http

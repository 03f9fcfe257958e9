#include "agent/http/hpack.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>

#include "agent/base/check.h"

namespace weir::http {
namespace {

constexpr std::size_t kFieldOverheadBytes = 32;  // RFC 9113 section 6.5.2

std::string_view View(const std::uint8_t* bytes, std::size_t count) {
  return {reinterpret_cast<const char*>(bytes), count};
}

// nghttp2 wants pointers to non-const, but only reads.
std::uint8_t* Bytes(std::string_view text) {
  return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(text.data()));
}

}  // namespace

void H2FieldList::Clear() {
  text_.clear();
  fields_.clear();
}

void H2FieldList::Add(std::string_view name, std::string_view value, bool never_indexed) {
  fields_.push_back({.offset = static_cast<std::uint32_t>(text_.size()),
                     .name_bytes = static_cast<std::uint32_t>(name.size()),
                     .value_bytes = static_cast<std::uint32_t>(value.size()),
                     .never_indexed = never_indexed});
  text_.append(name).append(value);
}

H2Field H2FieldList::operator[](std::size_t index) const {
  const Entry& entry = fields_[index];
  const std::string_view text(text_);
  return {.name = text.substr(entry.offset, entry.name_bytes),
          .value = text.substr(entry.offset + entry.name_bytes, entry.value_bytes),
          .never_indexed = entry.never_indexed};
}

std::optional<std::string_view> H2FieldList::Find(std::string_view name) const {
  for (std::size_t i = 0; i < fields_.size(); ++i) {
    const H2Field field = (*this)[i];
    if (field.name == name) {
      return field.value;
    }
  }
  return std::nullopt;
}

void H2FieldList::Trim() {
  if (fields_.empty()) {
    text_ = {};
    fields_ = {};
  }
}

struct HpackDecoder::Inflater {
  Inflater() { WEIR_CHECK(nghttp2_hd_inflate_new(&inflater) == 0); }
  ~Inflater() { nghttp2_hd_inflate_del(inflater); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  nghttp2_hd_inflater* inflater = nullptr;
};

HpackDecoder::HpackDecoder(const Limits& limits)
    : inflater_(std::make_unique<Inflater>()), limits_(limits) {}

HpackDecoder::~HpackDecoder() = default;

std::expected<void, HpackError> HpackDecoder::Decode(std::span<const std::uint8_t> block,
                                                     H2FieldList& fields) {
  fields.Clear();
  std::size_t list_bytes = 0;
  bool too_large = false;
  while (true) {
    nghttp2_nv field{};
    int flags = 0;
    const auto used = nghttp2_hd_inflate_hd2(inflater_->inflater, &field, &flags, block.data(),
                                             block.size(), /*in_final=*/1);
    if (used < 0) {
      return std::unexpected(HpackError::kMalformed);
    }
    block = block.subspan(static_cast<std::size_t>(used));
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
      list_bytes += field.namelen + field.valuelen + kFieldOverheadBytes;
      if (list_bytes > limits_.abort_list_bytes) {
        fields.Clear();
        return std::unexpected(HpackError::kBomb);
      }
      too_large =
          too_large || list_bytes > limits_.max_list_bytes || fields.size() >= limits_.max_fields;
      if (!too_large) {
        fields.Add(View(field.name, field.namelen), View(field.value, field.valuelen),
                   (field.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
      }
    }
    if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0) {
      break;
    }
    if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0 && block.empty()) {
      return std::unexpected(HpackError::kMalformed);  // the block ends inside a field
    }
  }
  nghttp2_hd_inflate_end_headers(inflater_->inflater);
  if (too_large) {
    fields.Clear();
    return std::unexpected(HpackError::kTooLarge);
  }
  return {};
}

void HpackDecoder::OnSettingsAcknowledged(std::uint32_t table_bytes) {
  WEIR_CHECK(nghttp2_hd_inflate_change_table_size(inflater_->inflater, table_bytes) == 0);
}

struct HpackEncoder::Deflater {
  explicit Deflater(std::uint32_t max_table_bytes) {
    WEIR_CHECK(nghttp2_hd_deflate_new(&deflater, max_table_bytes) == 0);
  }
  ~Deflater() { nghttp2_hd_deflate_del(deflater); }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;
  nghttp2_hd_deflater* deflater = nullptr;
};

HpackEncoder::HpackEncoder(std::uint32_t max_table_bytes)
    : deflater_(std::make_unique<Deflater>(max_table_bytes)) {}

HpackEncoder::~HpackEncoder() = default;

void HpackEncoder::Encode(std::span<const H2Field> fields, std::vector<std::uint8_t>& block) {
  std::vector<nghttp2_nv> list(fields.size());
  std::ranges::transform(fields, list.begin(), [](const H2Field& field) {
    return nghttp2_nv{.name = Bytes(field.name),
                      .value = Bytes(field.value),
                      .namelen = field.name.size(),
                      .valuelen = field.value.size(),
                      .flags = static_cast<std::uint8_t>(
                          field.never_indexed ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE)};
  });
  const std::size_t bound = nghttp2_hd_deflate_bound(deflater_->deflater, list.data(), list.size());
  const std::size_t before = block.size();
  block.resize(before + bound);
  const auto used = nghttp2_hd_deflate_hd(deflater_->deflater, block.data() + before, bound,
                                          list.data(), list.size());
  WEIR_CHECK(used >= 0);  // only memory can be missing: the bound is exact
  block.resize(before + static_cast<std::size_t>(used));
}

void HpackEncoder::OnPeerTableSize(std::uint32_t table_bytes) {
  WEIR_CHECK(nghttp2_hd_deflate_change_table_size(deflater_->deflater, table_bytes) == 0);
}

}  // namespace weir::http

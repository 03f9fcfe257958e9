#pragma once

#include <compare>
#include <string>
#include <string_view>

#include "agent/base/error.h"

namespace weir::model {

// SpiffeId is a validated SPIFFE ID (SPIFFE-ID section 2): trust domain in lower
// case, path segments of letters, digits, '.', '_', '-', no empty, "." or ".."
// segment, 2048 bytes at most. Equality is by bytes. A trust domain's own ID has an
// empty path.
class SpiffeId {
 public:
  static base::Result<SpiffeId> Parse(std::string_view uri);
  static base::Result<SpiffeId> Make(std::string_view trust_domain, std::string_view path);

  [[nodiscard]] const std::string& uri() const { return uri_; }
  [[nodiscard]] std::string_view trust_domain() const;
  [[nodiscard]] std::string_view path() const;  // with leading slash, or empty
  friend auto operator<=>(const SpiffeId&, const SpiffeId&) = default;

 private:
  explicit SpiffeId(std::string uri) : uri_(std::move(uri)) {}
  std::string uri_;
};

}  // namespace weir::model

#include "agent/tls/spiffe_uri.h"

#include <algorithm>

namespace weir::tls {
namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::size_t kMaxUriBytes = 2048;         // SPIFFE-ID section 2.3
constexpr std::size_t kMaxTrustDomainBytes = 255;  // SPIFFE-ID section 2.3

bool IsTrustDomainByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

bool IsSegment(std::string_view segment) {
  const auto allowed = [](char c) { return IsTrustDomainByte(c) || (c >= 'A' && c <= 'Z'); };
  return !segment.empty() && segment != "." && segment != ".." &&
         std::ranges::all_of(segment, allowed);
}

}  // namespace

std::optional<SpiffeUri> ParseSpiffeUri(std::string_view uri) {
  if (uri.size() > kMaxUriBytes || !uri.starts_with(kScheme)) {
    return std::nullopt;
  }
  uri.remove_prefix(kScheme.size());
  const std::string_view domain = uri.substr(0, uri.find('/'));
  if (domain.empty() || domain.size() > kMaxTrustDomainBytes ||
      !std::ranges::all_of(domain, IsTrustDomainByte)) {
    return std::nullopt;
  }
  const std::string_view path = uri.substr(domain.size());
  for (std::string_view rest = path; !rest.empty();) {
    rest.remove_prefix(1);  // the slash that ended what came before
    const std::string_view segment = rest.substr(0, rest.find('/'));
    if (!IsSegment(segment)) {
      return std::nullopt;
    }
    rest.remove_prefix(segment.size());
  }
  return SpiffeUri{.trust_domain = domain, .path = path};
}

}  // namespace weir::tls

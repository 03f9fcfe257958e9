#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace weir::http {

// What a proxy before weir says of a request; empty where it says nothing that is valid.
// Whoever sends the request can write it: for records only, never for decisions.
struct ForwardedFacts {
  std::string_view host;    // that was asked for, with its port if one was named
  std::string_view scheme;  // "http" or "https"
  std::string client;       // the address of the first caller, as text
};

// ForwardedHeaders gathers Forwarded (RFC 7239) and the X-Forwarded-For, -Host and -Proto of
// one request, which stand in where Forwarded says nothing. Of a list the first element
// counts: what the proxy next to the first caller saw. Values must live until Read, and what
// it gives dies with them. Reused from request to request.
class ForwardedHeaders {
 public:
  void Clear() { values_ = {}; }
  // Takes one header, of any kind; the first of its name counts.
  void Note(std::string_view name, std::string_view value);
  [[nodiscard]] ForwardedFacts Read() const;

 private:
  enum class Which : std::uint8_t { kForwarded, kFor, kHost, kProto };
  static constexpr std::array<std::string_view, 4> kNames = {
      "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"};
  [[nodiscard]] std::string_view At(Which which) const {
    return values_[static_cast<std::size_t>(which)];
  }

  std::array<std::string_view, kNames.size()> values_{};
};

}  // namespace weir::http

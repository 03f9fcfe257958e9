#include "agent/http/h2_message.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>

#include "agent/http/token.h"

namespace weir::http {
namespace {

constexpr std::size_t kMaxContentLengthDigits = 19;
constexpr std::uint16_t kSwitchingProtocols = 101;  // RFC 9113 section 8.6: not in HTTP/2

// RFC 9113 section 8.2.1: lower case, a token.
bool IsFieldName(std::string_view name) {
  return !name.empty() && AllOfClass(name, CharClass::kToken) &&
         std::ranges::none_of(name, [](char c) { return c >= 'A' && c <= 'Z'; });
}

bool IsFieldValue(std::string_view value) {
  return TrimOws(value).size() == value.size() &&
         (value.empty() || AllOfClass(value, CharClass::kValue));
}

// RFC 9113 section 8.2.2.
bool IsConnectionField(const H2Field& field) {
  static constexpr std::array<std::string_view, 5> kNames = {
      "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"};
  if (field.name == "te") {
    return !EqualsIgnoreCase(field.value, "trailers");
  }
  return std::ranges::find(kNames, field.name) != kNames.end();
}

bool IsContentLength(std::string_view value) {
  return !value.empty() && value.size() <= kMaxContentLengthDigits &&
         AllOfClass(value, CharClass::kDigit);
}

// Checks of every list: names and values, and that pseudo fields stand in front.
class ListCheck {
 public:
  // What is wrong with the next field of the list.
  H2MessageError Take(const H2Field& field) {
    if (field.name.starts_with(':')) {
      return seen_regular_ ? H2MessageError::kPseudoMisplaced : CheckValue(field);
    }
    seen_regular_ = true;
    if (!IsFieldName(field.name)) {
      return H2MessageError::kBadFieldName;
    }
    if (IsConnectionField(field)) {
      return H2MessageError::kConnectionField;
    }
    if (field.name == "content-length") {
      if (!IsContentLength(field.value) ||
          (!content_length_.empty() && content_length_ != field.value)) {
        return H2MessageError::kBadContentLength;
      }
      content_length_ = field.value;
    }
    return CheckValue(field);
  }

 private:
  static H2MessageError CheckValue(const H2Field& field) {
    return IsFieldValue(field.value) ? H2MessageError::kNone : H2MessageError::kBadFieldValue;
  }
  bool seen_regular_ = false;
  std::string_view content_length_;
};

// The pseudo fields of a request (section 8.3.1) and Host.
struct RequestFields {
  std::optional<std::string_view> method;
  std::optional<std::string_view> scheme;
  std::optional<std::string_view> authority;
  std::optional<std::string_view> path;
  std::optional<std::string_view> protocol;
  std::optional<std::string_view> host;
};

H2MessageError TakePseudo(const H2Field& field, RequestFields& fields) {
  std::optional<std::string_view>* slot = nullptr;
  if (field.name == ":method") {
    slot = &fields.method;
  } else if (field.name == ":scheme") {
    slot = &fields.scheme;
  } else if (field.name == ":authority") {
    slot = &fields.authority;
  } else if (field.name == ":path") {
    slot = &fields.path;
  } else if (field.name == ":protocol") {
    slot = &fields.protocol;
  } else {
    return H2MessageError::kPseudoMisplaced;
  }
  if (slot->has_value()) {
    return H2MessageError::kPseudoRepeated;
  }
  *slot = field.value;
  return H2MessageError::kNone;
}

void NoteRegular(const H2Field& field, H2RequestHead& head) {
  if (field.name == "user-agent") {
    head.user_agent = field.value;
  } else if (field.name == "content-type") {
    head.content_type = field.value;
  }
}

bool IsPath(std::string_view path, std::string_view method) {
  if (path.starts_with('/')) {
    return AllOfClass(path, CharClass::kTarget);
  }
  return path == "*" && method == "OPTIONS";
}

bool IsAuthority(std::string_view authority) {
  return AllOfClass(authority, CharClass::kTarget) &&
         authority.find_first_of("@/?#\\") == std::string_view::npos;
}

// Which of them there must and may be (sections 8.3.1 and 8.5, RFC 8441 section 4).
H2MessageError CheckPseudo(const RequestFields& fields) {
  if (!fields.method) {
    return H2MessageError::kPseudoMissing;
  }
  const bool connects = *fields.method == "CONNECT";
  const bool extended = fields.protocol.has_value();
  if (extended && !connects) {
    return H2MessageError::kPseudoMisplaced;
  }
  const bool wants_target = !connects || extended;
  if (fields.scheme.has_value() != wants_target || fields.path.has_value() != wants_target ||
      (connects && !fields.authority)) {
    return H2MessageError::kPseudoMissing;
  }
  const bool good =
      !fields.method->empty() && AllOfClass(*fields.method, CharClass::kToken) &&
      (!wants_target || (!fields.scheme->empty() && AllOfClass(*fields.scheme, CharClass::kToken) &&
                         IsPath(*fields.path, *fields.method))) &&
      (!fields.authority || fields.authority->empty() || IsAuthority(*fields.authority)) &&
      (!fields.host || fields.host->empty() || IsAuthority(*fields.host)) &&
      (!connects || !fields.authority->empty());
  if (!good) {
    return H2MessageError::kBadPseudoValue;
  }
  const auto same = [](std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) { return ToLower(x) == ToLower(y); });
  };
  const bool agrees = !fields.host || !fields.authority || same(*fields.host, *fields.authority);
  return agrees ? H2MessageError::kNone : H2MessageError::kHostMismatch;
}

void Describe(const RequestFields& fields, H2RequestHead& head) {
  head.method = fields.method.value_or("");
  head.scheme = fields.scheme.value_or("");
  head.protocol = fields.protocol.value_or("");
  head.authority = fields.authority.value_or(fields.host.value_or(""));
  head.path = fields.path.value_or("");
  if (const std::size_t mark = head.path.find('?'); mark != std::string_view::npos) {
    head.query = head.path.substr(mark + 1);
    head.path = head.path.substr(0, mark);
  }
}

std::uint16_t ParseStatus(std::string_view value) {
  constexpr std::size_t kDigits = 3;
  std::uint16_t status = 0;
  if (value.size() == kDigits && AllOfClass(value, CharClass::kDigit)) {
    (void)std::from_chars(value.data(), value.data() + value.size(), status);  // three digits
  }
  return status;
}

}  // namespace

std::string_view ToString(H2MessageError error) {
  switch (error) {
    case H2MessageError::kNone:
      return "none";
    case H2MessageError::kBadFieldName:
      return "bad field name";
    case H2MessageError::kBadFieldValue:
      return "bad field value";
    case H2MessageError::kPseudoMisplaced:
      return "misplaced pseudo field";
    case H2MessageError::kPseudoRepeated:
      return "repeated pseudo field";
    case H2MessageError::kPseudoMissing:
      return "missing pseudo field";
    case H2MessageError::kBadPseudoValue:
      return "bad value of a pseudo field";
    case H2MessageError::kConnectionField:
      return "connection-specific field";
    case H2MessageError::kHostMismatch:
      return "host and authority differ";
    case H2MessageError::kBadContentLength:
      return "bad content-length";
    case H2MessageError::kBadEnd:
      return "bad end of stream";
  }
  return "unknown";
}

H2MessageError ParseH2Request(const H2FieldList& fields, H2RequestHead& head) {
  head = {};
  RequestFields found;
  ListCheck check;
  H2MessageError error = H2MessageError::kNone;
  for (std::size_t i = 0; i < fields.size() && error == H2MessageError::kNone; ++i) {
    const H2Field field = fields[i];
    error = check.Take(field);
    if (error != H2MessageError::kNone) {
      break;
    }
    if (field.name.starts_with(':')) {
      error = TakePseudo(field, found);
    } else if (field.name == "host") {
      if (found.host) {
        error = H2MessageError::kHostMismatch;
      }
      found.host = field.value;
    } else {
      NoteRegular(field, head);
    }
  }
  Describe(found, head);
  return error != H2MessageError::kNone ? error : CheckPseudo(found);
}

H2MessageError ParseH2Response(const H2FieldList& fields, bool ends_stream, H2ResponseHead& head) {
  head = {};
  bool has_status = false;
  ListCheck check;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const H2Field field = fields[i];
    if (const H2MessageError error = check.Take(field); error != H2MessageError::kNone) {
      return error;
    }
    if (field.name == ":status") {
      if (has_status) {
        return H2MessageError::kPseudoRepeated;
      }
      has_status = true;
      head.status = ParseStatus(field.value);
    } else if (field.name.starts_with(':')) {
      return H2MessageError::kPseudoMisplaced;
    } else if (field.name == "content-type") {
      head.content_type = field.value;
    } else if (field.name == "grpc-status") {
      head.grpc_status = field.value;
    }
  }
  if (!has_status) {
    return H2MessageError::kPseudoMissing;
  }
  if (head.status < 100 || head.status == kSwitchingProtocols) {
    return H2MessageError::kBadPseudoValue;
  }
  return head.is_interim() && ends_stream ? H2MessageError::kBadEnd : H2MessageError::kNone;
}

H2MessageError CheckH2Trailers(const H2FieldList& fields, bool ends_stream) {
  ListCheck check;
  for (std::size_t i = 0; i < fields.size(); ++i) {
    const H2Field field = fields[i];
    if (field.name.starts_with(':')) {
      return H2MessageError::kPseudoMisplaced;
    }
    if (const H2MessageError error = check.Take(field); error != H2MessageError::kNone) {
      return error;
    }
  }
  return ends_stream ? H2MessageError::kNone : H2MessageError::kBadEnd;
}

bool IsGrpcContentType(std::string_view content_type) {
  constexpr std::string_view kGrpc = "application/grpc";
  if (content_type.size() < kGrpc.size() ||
      !EqualsIgnoreCase(content_type.substr(0, kGrpc.size()), kGrpc)) {
    return false;
  }
  // Not gRPC-Web, whose status is in the body.
  return content_type.size() == kGrpc.size() || content_type[kGrpc.size()] == '+' ||
         content_type[kGrpc.size()] == ';' || content_type[kGrpc.size()] == ' ';
}

std::optional<std::uint16_t> ParseGrpcStatus(std::string_view value) {
  constexpr std::size_t kMaxDigits = 3;
  std::uint16_t code = 0;
  if (value.empty() || value.size() > kMaxDigits || !AllOfClass(value, CharClass::kDigit)) {
    return std::nullopt;
  }
  (void)std::from_chars(value.data(), value.data() + value.size(), code);  // digits alone
  return code;
}

}  // namespace weir::http

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/http/http1_parser.h"
#include "agent/http/token.h"

namespace weir::http {
namespace {

// What the fields say about framing, gathered over the whole head.
struct FieldFacts {
  std::string_view host;
  std::string_view user_agent;
  std::uint64_t length = 0;
  std::uint32_t host_count = 0;
  bool has_length = false;
  bool has_transfer_encoding = false;
  bool is_chunked = false;
  bool names_upgrade = false;       // Upgrade
  bool connection_upgrade = false;  // Connection: upgrade
};

FieldId Identify(std::string_view name) {
  struct Known {
    std::string_view name;
    FieldId id;
  };
  static constexpr std::array<Known, 6> kKnown = {{
      {.name = "connection", .id = FieldId::kConnection},
      {.name = "content-length", .id = FieldId::kContentLength},
      {.name = "host", .id = FieldId::kHost},
      {.name = "transfer-encoding", .id = FieldId::kTransferEncoding},
      {.name = "upgrade", .id = FieldId::kUpgrade},
      {.name = "user-agent", .id = FieldId::kUserAgent},
  }};
  for (const Known& known : kKnown) {
    if (EqualsIgnoreCase(name, known.name)) {
      return known.id;
    }
  }
  return FieldId::kOther;
}

// Takes the next line, without its CRLF, off the front of `rest`. HeadScanner saw that
// each line ends in CRLF.
std::string_view TakeLine(std::string_view& rest) {
  const std::size_t end = rest.find('\n');
  const std::string_view line = rest.substr(0, end - 1);
  rest.remove_prefix(end + 1);
  return line;
}

bool HasBareCr(std::string_view line) {
  return line.find('\r') != std::string_view::npos;
}

// RFC 9112 section 5: field-name ":" OWS field-value OWS.
Http1Error ParseField(std::string_view line, Field& field) {
  if (line.front() == ' ' || line.front() == '\t') {
    return Http1Error::kObsFold;
  }
  const std::size_t colon = line.find(':');
  field.name = line.substr(0, colon);
  if (colon == std::string_view::npos || colon == 0 || !AllOfClass(field.name, CharClass::kToken)) {
    return HasBareCr(line) ? Http1Error::kBareCr : Http1Error::kBadFieldName;
  }
  field.value = TrimOws(line.substr(colon + 1));
  if (!AllOfClass(field.value, CharClass::kValue)) {
    return HasBareCr(line) ? Http1Error::kBareCr : Http1Error::kBadFieldValue;
  }
  field.line = {line.data(), line.size() + 2};
  field.id = Identify(field.name);
  return Http1Error::kNone;
}

// RFC 9110 section 8.6: digits only. A list of equal lengths would be allowed to be taken
// as one; two readers that differ there is how requests are smuggled.
Http1Error NoteContentLength(std::string_view value, FieldFacts& facts) {
  constexpr std::size_t kMaxDigits = 19;
  if (facts.has_length) {
    return Http1Error::kRepeatedContentLength;
  }
  facts.has_length = true;
  if (value.empty() || value.size() > kMaxDigits || !AllOfClass(value, CharClass::kDigit)) {
    return Http1Error::kBadContentLength;
  }
  for (const char digit : value) {
    facts.length = facts.length * 10 + static_cast<std::uint64_t>(digit - '0');
  }
  constexpr auto kMaxLength = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  return facts.length <= kMaxLength ? Http1Error::kNone : Http1Error::kBadContentLength;
}

// Takes the next element of a comma-separated list off the front of `rest`.
std::string_view TakeListElement(std::string_view& rest) {
  const std::size_t comma = rest.find(',');
  const std::string_view element = TrimOws(rest.substr(0, comma));
  rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  return element;
}

// RFC 9112 section 6.1: only the registered codings, chunked once and last.
Http1Error NoteTransferEncoding(std::string_view value, FieldFacts& facts) {
  static constexpr std::array<std::string_view, 5> kOtherCodings = {"gzip", "x-gzip", "deflate",
                                                                    "compress", "x-compress"};
  facts.has_transfer_encoding = true;
  bool more = true;
  while (more) {
    more = value.find(',') != std::string_view::npos;
    const std::string_view coding = TakeListElement(value);
    if (facts.is_chunked) {
      return Http1Error::kBadTransferEncoding;
    }
    if (EqualsIgnoreCase(coding, "chunked")) {
      facts.is_chunked = true;
      continue;
    }
    bool known = false;
    for (const std::string_view other : kOtherCodings) {
      known = known || EqualsIgnoreCase(coding, other);
    }
    if (!known) {
      return Http1Error::kBadTransferEncoding;
    }
  }
  return Http1Error::kNone;
}

bool ListNames(std::string_view list, std::string_view lower) {
  while (!list.empty()) {
    if (EqualsIgnoreCase(TakeListElement(list), lower)) {
      return true;
    }
  }
  return false;
}

// RFC 3986 section 3.2: what an authority without user information can hold.
bool IsHost(std::string_view host) {
  return AllOfClass(host, CharClass::kTarget) &&
         host.find_first_of("/?#@\\,\"<>^`{|}") == std::string_view::npos;
}

Http1Error NoteField(const Field& field, FieldFacts& facts) {
  switch (field.id) {
    case FieldId::kConnection:
      facts.connection_upgrade = facts.connection_upgrade || ListNames(field.value, "upgrade");
      break;
    case FieldId::kContentLength:
      return NoteContentLength(field.value, facts);
    case FieldId::kHost:
      facts.host = field.value;
      ++facts.host_count;
      break;
    case FieldId::kTransferEncoding:
      return NoteTransferEncoding(field.value, facts);
    case FieldId::kUpgrade:
      facts.names_upgrade = true;
      break;
    case FieldId::kUserAgent:
      facts.user_agent = field.value;
      break;
    case FieldId::kOther:
      break;
  }
  return Http1Error::kNone;
}

Http1Error ParseFields(std::string_view rest, std::vector<Field>& fields, FieldFacts& facts) {
  while (true) {
    const std::string_view line = TakeLine(rest);
    if (line.empty()) {
      break;
    }
    Field field;
    if (const Http1Error error = ParseField(line, field); error != Http1Error::kNone) {
      return error;
    }
    fields.push_back(field);
    if (const Http1Error error = NoteField(field, facts); error != Http1Error::kNone) {
      return error;
    }
  }
  const bool both = facts.has_length && facts.has_transfer_encoding;
  return both ? Http1Error::kBothLengths : Http1Error::kNone;
}

// "HTTP/1.0" or "HTTP/1.1".
bool ParseVersion(std::string_view text, std::uint8_t& minor) {
  if (text.size() != 8 || !text.starts_with("HTTP/1.") || (text[7] != '0' && text[7] != '1')) {
    return false;
  }
  minor = text[7] == '1' ? 1 : 0;
  return true;
}

void SplitPath(std::string_view text, RequestHead& head) {
  text = text.substr(0, text.find('#'));
  const std::size_t mark = text.find('?');
  head.path = text.substr(0, mark);
  head.query = mark == std::string_view::npos ? std::string_view() : text.substr(mark + 1);
}

// scheme "://" authority path, RFC 9112 section 3.2.2.
bool ParseAbsoluteTarget(RequestHead& head) {
  const std::size_t mark = head.target.find("://");
  if (mark == 0 || mark == std::string_view::npos) {
    return false;
  }
  for (const char c : head.target.substr(0, mark)) {
    const char lower = ToLower(c);
    const bool alpha = lower >= 'a' && lower <= 'z';
    if (!alpha && !IsClass(c, CharClass::kDigit) && c != '+' && c != '-' && c != '.') {
      return false;
    }
  }
  const std::string_view rest = head.target.substr(mark + 3);
  const std::size_t end = rest.find_first_of("/?#");
  std::string_view authority = rest.substr(0, end);
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos) {
    authority.remove_prefix(at + 1);  // user information is nobody's business
  }
  head.host = authority;
  SplitPath(end == std::string_view::npos ? std::string_view() : rest.substr(end), head);
  return !authority.empty() && IsHost(authority);
}

// The four forms of RFC 9112 section 3.2.
bool ParseTarget(RequestHead& head) {
  if (head.target.empty() || !AllOfClass(head.target, CharClass::kTarget)) {
    return false;
  }
  if (head.is_connect) {
    head.host = head.target;
    const std::size_t colon = head.target.rfind(':');
    return colon != std::string_view::npos && colon > 0 && colon + 1 < head.target.size() &&
           AllOfClass(head.target.substr(colon + 1), CharClass::kDigit) && IsHost(head.target);
  }
  if (head.target.front() == '/') {
    SplitPath(head.target, head);
    return true;
  }
  if (head.target == "*") {
    head.path = head.target;
    return head.method == "OPTIONS";
  }
  return ParseAbsoluteTarget(head);
}

// method SP request-target SP HTTP-version, RFC 9112 section 3: single spaces only.
Http1Error ParseRequestLine(std::string_view line, RequestHead& head) {
  if (HasBareCr(line)) {
    return Http1Error::kBareCr;
  }
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return Http1Error::kBadStartLine;
  }
  head.method = line.substr(0, first);
  if (head.method.empty() || !AllOfClass(head.method, CharClass::kToken)) {
    return Http1Error::kBadMethod;
  }
  head.is_connect = head.method == "CONNECT";
  head.is_head = head.method == "HEAD";
  if (!ParseVersion(line.substr(last + 1), head.version_minor)) {
    return Http1Error::kBadVersion;
  }
  head.target = line.substr(first + 1, last - first - 1);
  return ParseTarget(head) ? Http1Error::kNone : Http1Error::kBadTarget;
}

Http1Error CheckHost(const FieldFacts& facts, std::uint8_t version_minor) {
  const bool missing = facts.host_count == 0 && version_minor == 1;
  return missing || facts.host_count > 1 || !IsHost(facts.host) ? Http1Error::kBadHost
                                                                : Http1Error::kNone;
}

Http1Error FrameRequest(const FieldFacts& facts, RequestHead& head) {
  if (facts.has_transfer_encoding) {
    if (!facts.is_chunked || head.version_minor == 0 || head.is_connect) {
      return Http1Error::kBadTransferEncoding;
    }
    head.framing = {.kind = BodyKind::kChunked, .length = 0};
  } else if (facts.length > 0) {
    if (head.is_connect) {
      return Http1Error::kBadContentLength;
    }
    head.framing = {.kind = BodyKind::kCounted, .length = facts.length};
  }
  return Http1Error::kNone;
}

// HTTP-version SP 3DIGIT [ SP [ reason-phrase ] ], RFC 9112 section 4. The space behind the
// status is often left out with the reason.
Http1Error ParseStatusLine(std::string_view line, ResponseHead& head) {
  if (HasBareCr(line)) {
    return Http1Error::kBareCr;
  }
  constexpr std::size_t kVersionBytes = 8;
  constexpr std::size_t kStatusEnd = 12;
  if (!ParseVersion(line.substr(0, kVersionBytes), head.version_minor)) {
    return Http1Error::kBadVersion;
  }
  if (line.size() < kStatusEnd || line[kVersionBytes] != ' ' ||
      !AllOfClass(line.substr(kVersionBytes + 1, 3), CharClass::kDigit) ||
      line[kVersionBytes + 1] == '0') {
    return Http1Error::kBadStatus;
  }
  for (const char digit : line.substr(kVersionBytes + 1, 3)) {
    head.status = static_cast<std::uint16_t>(head.status * 10 + (digit - '0'));
  }
  const std::string_view rest = line.substr(kStatusEnd);
  const bool good = rest.empty() || (rest.front() == ' ' && AllOfClass(rest, CharClass::kValue));
  return good ? Http1Error::kNone : Http1Error::kBadStartLine;
}

// RFC 9112 section 6.3.
Http1Error FrameResponse(const FieldFacts& facts, const RequestKind& kind, ResponseHead& head) {
  if (facts.has_transfer_encoding && head.version_minor == 0) {
    return Http1Error::kBadTransferEncoding;
  }
  if (head.status == 101 && !kind.wants_upgrade) {
    return Http1Error::kBadStatus;
  }
  head.switches_protocol = head.status == 101 || (kind.is_connect && head.status / 100 == 2);
  head.is_interim = head.status / 100 == 1 && head.status != 101;
  if (head.switches_protocol || head.is_interim || kind.is_head || head.status == 204 ||
      head.status == 304) {
    return Http1Error::kNone;
  }
  if (facts.is_chunked) {
    head.framing.kind = BodyKind::kChunked;
  } else if (facts.has_length) {
    head.framing = {.kind = facts.length > 0 ? BodyKind::kCounted : BodyKind::kNone,
                    .length = facts.length};
  } else {
    head.framing.kind = BodyKind::kUntilEnd;
  }
  return Http1Error::kNone;
}

}  // namespace

std::string_view ToString(Http1Error error) {
  static constexpr std::array<std::string_view, kHttp1ErrorCount> kTexts = {
      "none",
      "start-line-too-long",
      "headers-too-large",
      "too-many-headers",
      "bare-cr",
      "bare-lf",
      "bad-start-line",
      "bad-method",
      "bad-target",
      "bad-version",
      "bad-status",
      "bad-field-name",
      "bad-field-value",
      "obs-fold",
      "bad-content-length",
      "repeated-content-length",
      "both-lengths",
      "bad-transfer-encoding",
      "bad-host",
      "bad-chunk-size",
      "bad-chunk",
      "bad-trailer",
  };
  return kTexts[static_cast<std::size_t>(error)];
}

std::uint16_t StatusFor(Http1Error error) {
  if (error == Http1Error::kStartLineTooLong) {
    return 414;
  }
  const bool large = error == Http1Error::kHeadersTooLarge || error == Http1Error::kTooManyHeaders;
  return large ? 431 : 400;
}

Progress HeadScanner::Fail(Http1Error error) {
  error_ = error;
  return Progress::kError;
}

// The limits are checked before anything else of a line, and on a line of which only a
// part is there as on a whole one: the first limit that is passed does not depend on reads.
Http1Error HeadScanner::CheckLength(std::size_t content, const Http1Limits& limits) const {
  if (content == 0) {
    return Http1Error::kNone;
  }
  if (line_count_ == 0) {
    return content > limits.max_start_line_bytes ? Http1Error::kStartLineTooLong
                                                 : Http1Error::kNone;
  }
  if (line_count_ > limits.max_header_count) {
    return Http1Error::kTooManyHeaders;
  }
  const std::size_t with_line = line_begin_ - fields_begin_ + content + 2;
  return with_line > limits.max_header_bytes ? Http1Error::kHeadersTooLarge : Http1Error::kNone;
}

Progress HeadScanner::Scan(std::string_view bytes, const Http1Limits& limits) {
  while (true) {
    const std::size_t lf = bytes.find('\n', scanned_);
    const bool whole = lf != std::string_view::npos;
    const std::size_t end = whole ? lf : bytes.size();
    const bool has_cr = end > line_begin_ && bytes[end - 1] == '\r';
    const std::size_t content = end - line_begin_ - (has_cr ? 1 : 0);
    if (const Http1Error error = CheckLength(content, limits); error != Http1Error::kNone) {
      return Fail(error);
    }
    scanned_ = end;
    if (!whole) {
      return Progress::kNeedMore;
    }
    if (!has_cr) {
      return Fail(Http1Error::kBareLf);
    }
    if (const Progress progress = EndLine(content); progress != Progress::kNeedMore) {
      return progress;
    }
  }
}

// Goes behind a line of `content` bytes, which may be the empty one that ends the head.
// RFC 9112 section 2.2: one empty line before a request is passed over.
Progress HeadScanner::EndLine(std::size_t content) {
  const bool is_first = line_count_ == 0;
  if (content == 0 && is_first && line_begin_ > 0) {
    return Fail(Http1Error::kBadStartLine);
  }
  line_begin_ = ++scanned_;
  if (content == 0) {
    return is_first ? Progress::kNeedMore : Progress::kComplete;
  }
  ++line_count_;
  if (is_first) {
    fields_begin_ = line_begin_;
  }
  return Progress::kNeedMore;
}

Http1Error ParseRequestHead(std::string_view bytes, RequestHead& head) {
  std::vector<Field> fields = std::move(head.fields);
  fields.clear();
  head = RequestHead();
  head.fields = std::move(fields);
  if (bytes.starts_with("\r\n")) {
    bytes.remove_prefix(2);
  }
  if (const Http1Error error = ParseRequestLine(TakeLine(bytes), head);
      error != Http1Error::kNone) {
    return error;
  }
  FieldFacts facts;
  if (const Http1Error error = ParseFields(bytes, head.fields, facts); error != Http1Error::kNone) {
    return error;
  }
  if (const Http1Error error = CheckHost(facts, head.version_minor); error != Http1Error::kNone) {
    return error;
  }
  if (head.host.empty()) {
    head.host = facts.host;
  }
  head.user_agent = facts.user_agent;
  head.wants_upgrade = head.version_minor == 1 && facts.names_upgrade && facts.connection_upgrade;
  return FrameRequest(facts, head);
}

Http1Error ParseResponseHead(std::string_view bytes, const RequestKind& kind, ResponseHead& head) {
  std::vector<Field> fields = std::move(head.fields);
  fields.clear();
  head = ResponseHead();
  head.fields = std::move(fields);
  if (const Http1Error error = ParseStatusLine(TakeLine(bytes), head); error != Http1Error::kNone) {
    return error;
  }
  FieldFacts facts;
  if (const Http1Error error = ParseFields(bytes, head.fields, facts); error != Http1Error::kNone) {
    return error;
  }
  return FrameResponse(facts, kind, head);
}

}  // namespace weir::http

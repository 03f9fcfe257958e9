#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "agent/http/hpack.h"

// The rules for header lists of HTTP/2 messages (RFC 9113 section 8), strict: what breaks
// one is malformed and never passed on. Pure; any thread.
namespace weir::http {

enum class H2MessageError : std::uint8_t {
  kNone,
  kBadFieldName,     // empty, upper case, or a character that no name may have
  kBadFieldValue,    // CR, LF, NUL, or white space at an end
  kPseudoMisplaced,  // behind a regular field, in trailers, unknown, or of the other direction
  kPseudoRepeated,
  kPseudoMissing,  // :method, :scheme, :path or :status; or one that CONNECT may not have
  kBadPseudoValue,
  kConnectionField,  // Connection and its relatives, or TE other than "trailers"
  kHostMismatch,     // Host says something else than :authority
  kBadContentLength,
  kBadEnd,  // trailers without END_STREAM, or an interim response with it
};
std::string_view ToString(H2MessageError error);

// What of a request is of interest; views into the list.
struct H2RequestHead {
  std::string_view method;
  std::string_view scheme;
  std::string_view authority;  // of :authority, else the Host field; may be empty
  std::string_view path;       // without the query; empty for CONNECT
  std::string_view query;      // behind the "?"
  std::string_view protocol;   // of an extended CONNECT (RFC 8441)
  std::string_view user_agent;
  std::string_view content_type;
};

// Checks a request's list; after an error `head` holds what was understood until then.
[[nodiscard]] H2MessageError ParseH2Request(const H2FieldList& fields, H2RequestHead& head);

struct H2ResponseHead {
  std::uint16_t status = 0;
  std::string_view content_type;
  std::string_view grpc_status;  // where the answer has no body; empty if there is none
  [[nodiscard]] bool is_interim() const { return status < 200; }
};
[[nodiscard]] H2MessageError ParseH2Response(const H2FieldList& fields, bool ends_stream,
                                             H2ResponseHead& head);
[[nodiscard]] H2MessageError CheckH2Trailers(const H2FieldList& fields, bool ends_stream);

// Whether a content type says gRPC: "application/grpc", with or without a suffix.
bool IsGrpcContentType(std::string_view content_type);
// The code of a grpc-status field; nothing if it is no number from 0 to 999.
std::optional<std::uint16_t> ParseGrpcStatus(std::string_view value);

}  // namespace weir::http

#pragma once

#include <string>
#include <string_view>

#include "agent/observe/record.h"

namespace weir::telemetry {

// SpanEncoder writes spans in OTLP's wire format, by the semantic conventions for HTTP, gRPC
// and databases. One thread; keeps scratch memory between calls.
class SpanEncoder {
 public:
  // Appends the span of `record`, which must have one, as a field `spans` of ScopeSpans.
  void AppendSpan(const observe::Record& record, std::string& out);

 private:
  void Text(std::string_view key, std::string_view value);
  void Number(std::string_view key, std::int64_t value);
  void HttpAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void GrpcAttributes(const observe::HttpExchange& http);
  void DatabaseAttributes(const observe::DatabaseCall& call);
  void ConnectionAttributes(const observe::Record& record);
  void PeerAttributes(const observe::Record& record);
  void NetworkAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void ClientAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void ServerAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void WeirAttributes(const observe::Record& record);
  void ServerName(const observe::Record& record, const observe::HttpExchange& http);

  std::string body_;  // of the message in hand
};

}  // namespace weir::telemetry

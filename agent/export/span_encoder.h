#pragma once

#include <span>
#include <string>
#include <string_view>

#include "agent/observe/record.h"

namespace weir::telemetry {

// `service.name` of `local`'s resource, or what stands in for it; null: an unknown service.
// Pure.
std::string ServiceName(const model::LocalWorkload* local);

// SpanEncoder writes spans in OTLP's wire format, by the stable HTTP semantic conventions.
// Text from peers that is not UTF-8 is mended, since a collector refuses a whole request
// for it. One thread; keeps scratch memory between calls.
class SpanEncoder {
 public:
  // Appends the span of `record`, which must have one, as a field `spans` of ScopeSpans.
  void AppendSpan(const observe::Record& record, std::string& out);

  // Appends a field `resource_spans` of ExportTraceServiceRequest: the resource of `local`
  // (null: an unknown service), the scope weir, and `spans`, made by AppendSpan.
  void AppendResourceSpans(const model::LocalWorkload* local,
                           std::span<const std::string_view> spans, std::string& out);

 private:
  void Text(std::string_view key, std::string_view value);
  void Number(std::string_view key, std::int64_t value);
  void HttpAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void GrpcAttributes(const observe::HttpExchange& http);
  void NetworkAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void ClientAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void ServerAttributes(const observe::Record& record, const observe::HttpExchange& http);
  void WeirAttributes(const observe::Record& record);
  void ServerName(const observe::Record& record, const observe::HttpExchange& http);

  std::string body_;   // of the message in hand
  std::string clean_;  // of ToUtf8
  std::uint32_t attributes_field_ = 0;
};

}  // namespace weir::telemetry

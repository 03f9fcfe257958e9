// Requests and responses, taken in turns from the input. Properties: a relay that makes no
// spans passes a prefix of what came in, unchanged; one that makes spans passes the same
// but for the trace headers, of which each request has a good one; and each request is
// reported exactly once.
#include <string>
#include <string_view>

#include "tests/fuzz/property.h"
#include "tests/support/http1_relay_rig.h"

namespace {

using Rig = weir::test::Http1RelayRig;
using Action = Rig::Relay::Action;
namespace http = weir::http;

// The stream without the trace fields of its requests; counts the requests.
struct Stripped {
  std::string rest;
  std::size_t requests = 0;
};

Stripped StripTraceFields(std::string_view stream, bool must_have_parent) {
  const http::Http1Limits limits;
  Stripped stripped;
  http::RequestHead head;
  while (!stream.empty()) {
    http::HeadScanner scanner;
    if (scanner.Scan(stream, limits) != http::Progress::kComplete ||
        http::ParseRequestHead(stream.substr(0, scanner.size()), head) != http::Http1Error::kNone) {
      break;  // opaque bytes behind a CONNECT
    }
    const char* kept = stream.data();
    std::size_t parents = 0;
    std::size_t states = 0;
    for (const http::Field& field : head.fields) {
      const http::TraceHeader which = http::IdentifyTraceHeader(field.name);
      const bool is_parent = which == http::TraceHeader::kTraceParent;
      const bool is_state = which == http::TraceHeader::kTraceState;
      if (which != http::TraceHeader::kNone) {
        stripped.rest.append(kept, field.line.data());
        kept = field.line.data() + field.line.size();
        parents += is_parent ? 1 : 0;
        states += is_state ? 1 : 0;
      }
      if (must_have_parent && is_parent) {
        WEIR_PROPERTY(http::ParseTraceParent(field.value).has_value());
      }
    }
    if (must_have_parent) {
      WEIR_PROPERTY(parents == 1 && states <= 1);
    }
    stripped.rest.append(kept, stream.data() + scanner.size());
    ++stripped.requests;
    stream.remove_prefix(scanner.size());
    http::BodyReader body(head.framing);
    const std::size_t consumed = body.Read(stream, limits).consumed;
    stripped.rest += stream.substr(0, consumed);
    stream.remove_prefix(consumed);
    if (!body.complete() || head.is_connect || head.wants_upgrade) {
      break;
    }
  }
  stripped.rest += stream;
  return stripped;
}

// Feeds both streams in turns, cut by `seed`, until the relay is done.
void Run(Rig& rig, std::string_view requests, std::string_view responses, std::uint8_t seed) {
  bool open = true;
  const auto note = [&](const Rig::Relay::Result& result) {
    open = result.action == Action::kContinue;
  };
  weir::test::FeedInPieces(requests, seed, [&](std::string_view piece) {
    if (open && rig.relay().wants_downstream()) {
      note(rig.Downstream(piece));
    }
  });
  weir::test::FeedInPieces(responses, seed, [&](std::string_view piece) {
    if (open) {
      note(rig.Upstream(piece));
    }
  });
  if (open) {
    note(rig.UpstreamEnd());
  }
  rig.relay().Finish(weir::observe::Reason::kNone);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::string_view all(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::size_t split = std::min<std::size_t>(all.size(), data[1] * std::size_t{4});
  const std::string_view requests = all.substr(0, split);
  const std::string_view responses = all.substr(split);

  Rig plain(Rig::Role::kPlain);
  Run(plain, requests, responses, data[0]);
  Rig tracing(Rig::Role::kJoined);
  Run(tracing, requests, responses, data[0]);

  WEIR_PROPERTY(requests.starts_with(plain.upstream()));
  WEIR_PROPERTY(plain.downstream() == tracing.downstream());
  const Stripped without = StripTraceFields(plain.upstream(), /*must_have_parent=*/false);
  const Stripped with = StripTraceFields(tracing.upstream(), /*must_have_parent=*/true);
  WEIR_PROPERTY(without.rest == with.rest);
  WEIR_PROPERTY(plain.exchanges().size() == tracing.exchanges().size());
  for (std::size_t i = 0; i < plain.exchanges().size(); ++i) {
    WEIR_PROPERTY(plain.exchanges()[i].http.request_index == i);
    WEIR_PROPERTY(plain.exchanges()[i].reason == tracing.exchanges()[i].reason);
    WEIR_PROPERTY(plain.exchanges()[i].bytes_received == tracing.exchanges()[i].bytes_received);
  }
  // What was passed on was reported; what failed here is reported too.
  WEIR_PROPERTY(with.requests <= tracing.exchanges().size());
  WEIR_PROPERTY(tracing.exchanges().size() <= with.requests + 1);
  return 0;
}

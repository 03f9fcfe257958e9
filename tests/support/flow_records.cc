#include "tests/support/flow_records.h"

#include <algorithm>
#include <string_view>

namespace weir::test {
namespace {

void SetName(observe::Flow& flow, std::string_view name) {
  flow.comm = {};
  std::ranges::copy(name, flow.comm.begin());
}

}  // namespace

std::shared_ptr<const model::Workload> MakeWorkload(const std::string& ns, const std::string& name,
                                                    const std::string& address) {
  model::Workload workload{
      .name = name,
      .ns = ns,
      .service_account = name,
      .identity = *model::SpiffeId::Make("mesh.test", "/ns/" + ns + "/sa/" + name),
      .node = name == "cart" ? "node-a" : "node-b",
      .addresses = {*base::IpAddress::Parse(address)},
      .inbounds = {},
      .labels = {}};
  return std::make_shared<const model::Workload>(std::move(workload));
}

observe::Record MakeRequest() {
  observe::Record record;
  observe::Flow& flow = record.flow;
  flow.direction = observe::Direction::kOutbound;
  flow.protocol = observe::Protocol::kHttp1;
  flow.mtls = observe::MtlsState::kTunnel;
  flow.parent_source = observe::ParentSource::kTurn;
  flow.is_request = true;
  flow.sampled = true;
  flow.tls_version = 0x0304;
  flow.connection_id = 7;
  flow.peer_certificate_expiry = 1'800'086'400;
  flow.bytes_sent = 120;
  flow.bytes_received = 5'300;
  flow.pid = 4242;
  SetName(flow, "cart-server");
  flow.trace_id = {0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6,
                   0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36};
  flow.span_id = {0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7};
  flow.source = {.workload = MakeWorkload("shop", "cart", "198.18.1.2"),
                 .endpoint = *base::Endpoint::Parse("198.18.1.2:40001")};
  flow.destination = {.workload = MakeWorkload("shop", "price", "198.18.2.3"),
                      .endpoint = *base::Endpoint::Parse("198.18.2.3:8080")};
  flow.via = "tunnel 198.18.2.3:8080";
  flow.http = observe::HttpExchange{.method = "GET",
                                    .host = "price.shop:8080",
                                    .path = "/p/42",
                                    .query_keys = "lang",
                                    .user_agent = "curl/8",
                                    .status = 200};
  flow.timing = {.start = kFlowsBegin,
                 .total = std::chrono::microseconds(3100),
                 .tunnel_wait = std::chrono::microseconds(12),
                 .upstream_connect = base::Nanoseconds(-1),
                 .first_byte = std::chrono::microseconds(2900)};
  return record;
}

observe::Record MakeFailedRequest() {
  observe::Record record = MakeRequest();
  record.flow.verdict = observe::Verdict::kError;
  record.flow.reason = observe::Reason::kUpstreamRefused;
  record.flow.http->status = 503;
  record.flow.http->path = "/slow";
  record.flow.timing.start = kFlowsBegin + std::chrono::seconds(1);
  record.flow.timing.total = std::chrono::milliseconds(450);
  record.flow.parent_source = observe::ParentSource::kNone;
  return record;
}

observe::Record MakeDeniedConnection() {
  observe::Record record;
  observe::Flow& flow = record.flow;
  flow.direction = observe::Direction::kInbound;
  flow.verdict = observe::Verdict::kDeny;
  flow.reason = observe::Reason::kPlaintextRefused;
  flow.policy = "strict-needs-mtls";
  flow.connection_id = 8;
  flow.source = {.workload = nullptr, .endpoint = *base::Endpoint::Parse("203.0.113.9:50000")};
  flow.destination = {.workload = MakeWorkload("shop", "db", "198.18.2.4"),
                      .endpoint = *base::Endpoint::Parse("198.18.2.4:5432")};
  flow.timing = {.start = kFlowsBegin + std::chrono::seconds(2),
                 .total = std::chrono::microseconds(80)};
  return record;
}

std::vector<observe::Record> MakeRequests(std::uint64_t count) {
  std::vector<observe::Record> records;
  records.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    records.push_back(MakeRequest());
    records.back().flow.http->path = "/" + std::to_string(i);
    records.back().flow.timing.start = kFlowsBegin + std::chrono::milliseconds(i);
  }
  return records;
}

}  // namespace weir::test

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/ip.h"
#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/config/yaml.h"
#include "agent/model/snapshot.h"

namespace weir::config {
namespace {

constexpr std::size_t kMaxAddresses = 16;
constexpr std::size_t kMaxInbounds = 1000;

struct ProtocolName {
  std::string_view name;
  model::ProtocolHint hint;
};

// kuma.io/protocol: Kuma's own names, databases, and those whose server speaks first.
constexpr std::array<ProtocolName, 15> kProtocols{{
    {.name = "tcp", .hint = model::ProtocolHint::kTcp},
    {.name = "tls", .hint = model::ProtocolHint::kTls},
    {.name = "http", .hint = model::ProtocolHint::kHttp},
    {.name = "http2", .hint = model::ProtocolHint::kHttp2},
    {.name = "grpc", .hint = model::ProtocolHint::kGrpc},
    {.name = "kafka", .hint = model::ProtocolHint::kTcp},
    {.name = "postgresql", .hint = model::ProtocolHint::kPostgresql},
    {.name = "postgres", .hint = model::ProtocolHint::kPostgresql},
    {.name = "mysql", .hint = model::ProtocolHint::kMysql},
    {.name = "redis", .hint = model::ProtocolHint::kRedis},
    {.name = "smtp", .hint = model::ProtocolHint::kServerFirst},
    {.name = "ssh", .hint = model::ProtocolHint::kServerFirst},
    {.name = "ftp", .hint = model::ProtocolHint::kServerFirst},
    {.name = "imap", .hint = model::ProtocolHint::kServerFirst},
    {.name = "pop3", .hint = model::ProtocolHint::kServerFirst},
}};

model::ProtocolHint HintOf(const std::string& protocol, const Node& at, const Reader& reader) {
  if (protocol.empty()) {
    return model::ProtocolHint::kNone;
  }
  const auto* const found = std::ranges::find(kProtocols, protocol, &ProtocolName::name);
  if (found != kProtocols.end()) {
    return found->hint;
  }
  std::vector<std::string_view> names;
  for (const ProtocolName& one : kProtocols) {
    names.push_back(one.name);
  }
  reader.Error(at,
               "unknown protocol \"" + protocol.substr(0, 64) + "\"" + DidYouMean(protocol, names));
  return model::ProtocolHint::kNone;
}

DataplaneInbound ReadInbound(const Node& node, const Reader& reader) {
  DataplaneInbound inbound;
  inbound.place = reader.At(node);
  Fields fields(node, "an inbound", reader);
  (void)fields.Require("port");  // its absence is reported here
  const auto port = fields.Unsigned("port", {.least = 1, .most = 65535});
  inbound.port = static_cast<std::uint16_t>(port.value_or(0));
  inbound.name = fields.String("name").value_or("");
  inbound.tags = fields.StringMap("tags");
  const auto tag = inbound.tags.find("kuma.io/protocol");
  inbound.hint = HintOf(
      fields.String("protocol").value_or(tag == inbound.tags.end() ? std::string() : tag->second),
      node, reader);
  const auto service_port = fields.Unsigned("servicePort", {.least = 0, .most = 65535});
  if (service_port && *service_port != 0 && service_port != port) {
    reader.Warn(node,
                "\"servicePort\" of an inbound is not acted on: nothing is rewritten, the "
                "application listens on \"port\"");
  }
  fields.NotActedOn({"address", "serviceAddress", "serviceProbe", "health", "state"});
  fields.Finish();
  return inbound;
}

void AddAddress(const std::string& text, const Place& place, const Reader& reader,
                std::vector<base::IpAddress>& addresses) {
  const auto address = base::IpAddress::Parse(text);
  if (!address) {
    reader.diagnostics->Error(place, address.error().message() + "; names are not resolved");
  } else if (address->is_unspecified() || address->is_loopback() || address->is_link_local()) {
    reader.diagnostics->Error(place, "'" + text + "' is not an address that other nodes can reach");
  } else if (std::ranges::find(addresses, *address) == addresses.end()) {
    addresses.push_back(*address);
  }
}

// weir.io/addresses: further addresses of the workload, for example of the other family.
void ReadFurtherAddresses(std::string_view list, const Envelope& envelope, const Reader& reader,
                          std::vector<base::IpAddress>& addresses) {
  while (!list.empty()) {
    const std::size_t comma = std::min(list.find(','), list.size());
    std::string_view part = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
    part = part.substr(0, part.find_last_not_of(' ') + 1);
    AddAddress(std::string(part), envelope.place, reader, addresses);
    if (addresses.size() > kMaxAddresses) {
      reader.diagnostics->Error(envelope.place,
                                "more than " + std::to_string(kMaxAddresses) + " addresses");
      return;
    }
  }
}

void ReadInbounds(Fields& networking, DataplaneDocument& workload) {
  std::map<std::uint16_t, int> lines;
  networking.ForEach("inbound", [&](const Node& node) {
    if (workload.inbounds.size() >= kMaxInbounds) {
      return;
    }
    DataplaneInbound inbound = ReadInbound(node, networking.reader());
    const auto [at, is_new] = lines.emplace(inbound.port, node.line);
    if (!is_new && inbound.port != 0) {
      networking.reader().Error(node, "port " + std::to_string(inbound.port) + " is also at line " +
                                          std::to_string(at->second));
    }
    workload.inbounds.push_back(std::move(inbound));
    if (workload.inbounds.size() == kMaxInbounds) {
      networking.ErrorAt("inbound", "more than " + std::to_string(kMaxInbounds - 1) + " inbounds");
    }
  });
}

void ReadNetworking(Fields& body, DataplaneDocument& workload) {
  const Node* node = body.Require("networking");
  if (node == nullptr) {
    return;
  }
  Fields networking(*node, "networking", body.reader());
  (void)networking.Require("address");  // its absence is reported here
  for (const std::string_view name : {"address", "advertisedAddress"}) {
    if (const auto text = networking.String(name)) {
      AddAddress(*text, networking.PlaceOf(name), body.reader(), workload.addresses);
    }
  }
  ReadFurtherAddresses(workload.envelope.Label("weir.io/addresses"), workload.envelope,
                       body.reader(), workload.addresses);
  ReadInbounds(networking, workload);
  workload.gateway = networking.map().Find("gateway") != nullptr;
  networking.NotActedOn({"gateway", "outbound", "transparentProxying", "admin", "listeners"});
  networking.Finish();
}

void ReadLabels(const Reader& reader, DataplaneDocument& workload) {
  const Envelope& envelope = workload.envelope;
  const auto fail = [&](const std::string& text) {
    reader.diagnostics->Error(envelope.place, text);
  };
  workload.ns = envelope.Label("k8s.kuma.io/namespace");
  if (workload.ns.empty()) {
    workload.ns = envelope.ns;
  } else if (!envelope.ns.empty() && envelope.ns != workload.ns) {
    fail("label k8s.kuma.io/namespace says \"" + workload.ns + "\", metadata.namespace \"" +
         envelope.ns + "\"");
  }
  workload.service_account = envelope.Label("k8s.kuma.io/service-account");
  workload.node = envelope.Label("weir.io/node");
  for (const auto& [label, value] :
       {std::pair("k8s.kuma.io/namespace", workload.ns),
        std::pair("k8s.kuma.io/service-account", workload.service_account),
        std::pair("weir.io/node", workload.node)}) {
    if (!value.empty() && !IsName(value)) {
      fail(std::string("label ") + label + " must be lower-case letters, digits, '-', '.' and '_'");
    }
  }
  if (const std::string tunnel = envelope.Label("weir.io/tunnel"); tunnel == "hbone") {
    workload.tunnel_port = model::TunnelPort::kHbone15008;
  } else if (!tunnel.empty() && tunnel != "original") {
    fail("label weir.io/tunnel must be original or hbone");
  }
  if (const std::string down = envelope.Label("weir.io/on-agent-down"); !down.empty()) {
    if (down != "closed" && down != "open") {
      fail("label weir.io/on-agent-down must be closed or open");
    }
    workload.on_agent_down =
        down == "open" ? model::OnAgentDown::kOpen : model::OnAgentDown::kClosed;
  }
}

}  // namespace

void ReadDataplane(Fields& body, const Envelope& envelope, DocumentSet& set) {
  DataplaneDocument workload;
  workload.envelope = envelope;
  ReadLabels(body.reader(), workload);
  ReadNetworking(body, workload);
  body.NotActedOn({"metrics", "probes"});
  set.dataplanes.push_back(std::move(workload));
}

}  // namespace weir::config

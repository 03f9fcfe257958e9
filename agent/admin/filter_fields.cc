#include "agent/admin/filter_fields.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <utility>
#include <vector>

#include "agent/admin/filter.h"
#include "agent/observe/grpc_status.h"

namespace weir::admin {
namespace {

using observe::Flow;
using observe::Party;
using Addresses = FieldValues<base::IpAddress>;
using Numbers = FieldValues<std::int64_t>;
using Texts = FieldValues<std::string>;

constexpr std::array<std::string_view, 2> kDirections = {"out", "in"};
constexpr std::array<std::string_view, 2> kKinds = {"connection", "request"};
constexpr std::array<std::string_view, 8> kProtocols = {"opaque", "tls",        "http1", "http2",
                                                        "grpc",   "postgresql", "mysql", "redis"};
constexpr std::array<std::string_view, 5> kVerdicts = {"allow", "deny", "bypass", "passthrough",
                                                       "error"};
constexpr std::array<std::string_view, 4> kMtls = {"on", "off", "mtls", "local"};
constexpr std::array<std::string_view, 5> kParents = {"none", "header", "runtime", "turn", "sole"};

std::span<const std::string_view> ReasonWords() {
  static const auto kWords = [] {
    std::array<std::string_view, observe::kReasonCount> words;
    for (std::size_t i = 0; i < words.size(); ++i) {
      words[i] = observe::ToString(static_cast<observe::Reason>(i));
    }
    return words;
  }();
  return kWords;
}

void AddName(const Party& party, Texts& texts) {
  if (party.workload == nullptr) {
    texts.Add(party.endpoint.address.ToString());
    return;
  }
  if (!party.workload->ns.empty()) {
    texts.Add(party.workload->display_name());
  }
  texts.Add(party.workload->name);
}

template <auto Member>
void AddWorkloadText(const Party& party, Texts& texts) {
  if (party.workload != nullptr) {
    texts.Add((*party.workload).*Member);
  }
}

void AddIdentity(const Party& party, Texts& texts) {
  if (party.workload != nullptr) {
    texts.Add(party.workload->identity.uri());
  }
}

void AddAddress(const Party& party, Addresses& addresses) {
  addresses.Add(party.endpoint.address);
}

void AddPort(const Party& party, Numbers& numbers) {
  numbers.Add(party.endpoint.port);
}

// The three forms of a party's field: one side, the other, either.
template <auto Add, typename Values>
void OfSource(const Flow& flow, Values& values) {
  Add(flow.source, values);
}
template <auto Add, typename Values>
void OfDestination(const Flow& flow, Values& values) {
  Add(flow.destination, values);
}
template <auto Add, typename Values>
void OfEither(const Flow& flow, Values& values) {
  Add(flow.source, values);
  Add(flow.destination, values);
}

template <auto Member>
void HttpText(const Flow& flow, Texts& texts) {
  if (flow.http) {
    texts.Add((*flow.http).*Member);
  }
}

template <auto Member>
void DatabaseText(const Flow& flow, Texts& texts) {
  if (flow.database != nullptr && !((*flow.database).*Member).empty()) {
    texts.Add((*flow.database).*Member);
  }
}

template <auto Member>
void FlowWord(const Flow& flow, Texts& texts) {
  texts.Add(std::string(observe::ToString(flow.*Member)));
}

void Mtls(const Flow& flow, Texts& texts) {
  FlowWord<&Flow::mtls>(flow, texts);
  if (flow.mtls != observe::MtlsState::kOff) {
    texts.Add("on");
  }
}

void TlsVersion(const Flow& flow, Texts& texts) {
  if (flow.tls_version >= 0x0301 && flow.tls_version <= 0x0304) {  // RFC 8446 section 4.2.1
    texts.Add("1." + std::to_string(flow.tls_version - 0x0301));
  }
}

template <auto Member>
void Id(const Flow& flow, Texts& texts) {
  const auto& id = flow.*Member;
  if (std::ranges::any_of(id, [](std::uint8_t byte) { return byte != 0; })) {
    texts.Add(observe::ToHex(id));
  }
}

template <auto Member>
void Part(const Flow& flow, Numbers& numbers) {
  const auto part = flow.timing.*Member;
  if (part.count() >= 0) {
    numbers.Add(part.count());
  }
}

template <auto Member>
void Number(const Flow& flow, Numbers& numbers) {
  numbers.Add(static_cast<std::int64_t>(flow.*Member));
}

// A VM's workload has no namespace.
void AddVm(const Party& party, Texts& texts) {
  if (party.workload != nullptr && party.workload->ns.empty()) {
    texts.Add(party.workload->name);
  }
}

// As a client calls it: the label that names the service, or else the workload.
void AddService(const Party& party, Texts& texts) {
  if (party.workload == nullptr) {
    return;
  }
  const auto& labels = party.workload->labels;
  for (const char* label : {"kuma.io/service", "app.kubernetes.io/name", "app"}) {
    if (const auto found = labels.find(label); found != labels.end()) {
      texts.Add(found->second);
      break;
    }
  }
  texts.Add(party.workload->name);
}

void Status(const Flow& flow, Numbers& numbers) {
  if (flow.http && flow.http->status != 0) {
    numbers.Add(flow.http->status);
  }
}

void GrpcStatus(const Flow& flow, Texts& texts) {
  if (flow.http && flow.http->grpc_status >= 0) {
    texts.Add(observe::GrpcStatusName(flow.http->grpc_status));
    texts.Add(std::to_string(flow.http->grpc_status));
  }
}

void Tags(const Flow& flow, Texts& texts) {
  for (const observe::SpanTag& tag : flow.tags) {
    texts.Add(tag.name + ":" + tag.value);
  }
}

Field Text(std::string_view name, std::string_view help, void (*get)(const Flow&, Texts&)) {
  return {.name = name, .help = help, .type = FieldType::kText, .texts = get};
}

Field Word(std::string_view name, std::string_view help, void (*get)(const Flow&, Texts&),
           std::span<const std::string_view> words) {
  return {.name = name, .help = help, .type = FieldType::kWord, .texts = get, .words = words};
}

Field Num(std::string_view name, std::string_view help, void (*get)(const Flow&, Numbers&),
          FieldType type = FieldType::kNumber) {
  return {.name = name, .help = help, .type = type, .numbers = get};
}

Field Ip(std::string_view name, std::string_view help, void (*get)(const Flow&, Addresses&)) {
  return {.name = name, .help = help, .type = FieldType::kAddress, .addresses = get};
}

constexpr auto kAddNs = AddWorkloadText<&model::Workload::ns>;
constexpr auto kAddNode = AddWorkloadText<&model::Workload::node>;

std::vector<Field> PartyFields() {
  return {
      Text("src", "source: namespace/name, name, or its address", OfSource<AddName, Texts>),
      Text("dst", "destination: namespace/name, name, or its address",
           OfDestination<AddName, Texts>),
      Text("workload", "source or destination", OfEither<AddName, Texts>),
      Text("src.vm", "VM that the source is: a workload without a namespace",
           OfSource<AddVm, Texts>),
      Text("dst.vm", "VM that the destination is", OfDestination<AddVm, Texts>),
      Text("vm", "VM that either is", OfEither<AddVm, Texts>),
      Text("src.service", "service of the source, by its labels or name",
           OfSource<AddService, Texts>),
      Text("dst.service", "service of the destination", OfDestination<AddService, Texts>),
      Text("service", "service of either", OfEither<AddService, Texts>),
      Text("src.ns", "namespace of the source", OfSource<kAddNs, Texts>),
      Text("dst.ns", "namespace of the destination", OfDestination<kAddNs, Texts>),
      Text("ns", "namespace of either", OfEither<kAddNs, Texts>),
      Text("src.id", "SPIFFE ID of the source", OfSource<AddIdentity, Texts>),
      Text("dst.id", "SPIFFE ID of the destination", OfDestination<AddIdentity, Texts>),
      Text("id", "SPIFFE ID of either", OfEither<AddIdentity, Texts>),
      Text("src.node", "node that the source lives on", OfSource<kAddNode, Texts>),
      Text("dst.node", "node that the destination lives on", OfDestination<kAddNode, Texts>),
      Text("node", "node of either", OfEither<kAddNode, Texts>),
      Ip("src.ip", "address or range of the source", OfSource<AddAddress, Addresses>),
      Ip("dst.ip", "address or range of the destination", OfDestination<AddAddress, Addresses>),
      Ip("ip", "address or range of either", OfEither<AddAddress, Addresses>),
      Num("src.port", "port of the source", OfSource<AddPort, Numbers>),
      Num("dst.port", "port of the destination", OfDestination<AddPort, Numbers>),
      Num("port", "port of either", OfEither<AddPort, Numbers>),
  };
}

std::vector<Field> ExchangeFields() {
  using observe::DatabaseCall;
  using observe::HttpExchange;
  using observe::Timing;
  return {
      Word("dir", "out or in, seen from the workload", FlowWord<&Flow::direction>, kDirections),
      Word(
          "kind", "connection or request",
          [](const Flow& flow, Texts& texts) {
            texts.Add(flow.is_request ? "request" : "connection");
          },
          kKinds),
      Word("proto", "opaque, tls, http1, http2, grpc, postgresql, mysql or redis",
           FlowWord<&Flow::protocol>, kProtocols),
      Text("method", "of the HTTP request", HttpText<&HttpExchange::method>),
      Text("host", "Host or authority", HttpText<&HttpExchange::host>),
      Text("path", "without the query", HttpText<&HttpExchange::path>),
      Text("query", "keys of the query", HttpText<&HttpExchange::query_keys>),
      Text("agent", "User-Agent", HttpText<&HttpExchange::user_agent>),
      Text("tag", "NAME:VALUE of a header that MeshTrace keeps", Tags),
      Num("status", "of the HTTP response; 5xx is a class", Status, FieldType::kStatus),
      Text("grpc", "status of the gRPC call, by name or number", GrpcStatus),
      Text("operation", "of the database command", DatabaseText<&DatabaseCall::operation>),
      Text("table", "that the database command names", DatabaseText<&DatabaseCall::collection>),
      Text("summary", "of the database command", DatabaseText<&DatabaseCall::summary>),
      Text("database", "that the command goes to", DatabaseText<&DatabaseCall::name_space>),
      Text("db-status", "error code of the database", DatabaseText<&DatabaseCall::status>),
      Num("duration", "of the whole", Part<&Timing::total>, FieldType::kDuration),
      Num("tunnel-wait", "until a tunnel was ready", Part<&Timing::tunnel_wait>,
          FieldType::kDuration),
      Num("connect", "until the upstream was connected", Part<&Timing::upstream_connect>,
          FieldType::kDuration),
      Num("first-byte", "until the first byte of the response", Part<&Timing::first_byte>,
          FieldType::kDuration),
      Num(
          "body", "of the answer, from its first byte on",
          [](const Flow& flow, Numbers& numbers) {
            if (flow.timing.first_byte.count() >= 0) {
              numbers.Add((flow.timing.total - flow.timing.first_byte).count());
            }
          },
          FieldType::kDuration),
      Num(
          "bytes", "sent and received",
          [](const Flow& flow, Numbers& numbers) {
            numbers.Add(static_cast<std::int64_t>(flow.bytes_sent + flow.bytes_received));
          },
          FieldType::kBytes),
      Num("sent", "bytes towards the upstream", Number<&Flow::bytes_sent>, FieldType::kBytes),
      Num("received", "bytes from the upstream", Number<&Flow::bytes_received>, FieldType::kBytes),
  };
}

std::vector<Field> DecisionFields() {
  return {
      Word("verdict", "allow, deny, bypass, passthrough or error", FlowWord<&Flow::verdict>,
           kVerdicts),
      Word("reason", "why it ended other than well", FlowWord<&Flow::reason>, ReasonWords()),
      Text("policy", "rule that admitted or refused it",
           [](const Flow& flow, Texts& texts) { texts.Add(flow.policy); }),
      Num("retries", "of the upstream connection", Number<&Flow::retries>),
      Word("mtls", "on (mtls or local) or off", Mtls, kMtls),
      Text("tls", "TLS version, for example 1.3", TlsVersion),
      Text("sni", "server name of the application's own TLS",
           [](const Flow& flow, Texts& texts) { texts.Add(flow.sni); }),
      Text("via", "the way that it took",
           [](const Flow& flow, Texts& texts) { texts.Add(flow.via); }),
      Word("parent", "where the parent span was known from", FlowWord<&Flow::parent_source>,
           kParents),
      Text("trace", "trace id", Id<&Flow::trace_id>),
      Text("span", "span id", Id<&Flow::span_id>),
      Text("parent-span", "span id of the parent", Id<&Flow::parent_span_id>),
      Num("conn", "number of the connection", Number<&Flow::connection_id>),
      Num("pid", "process that connected", Number<&Flow::pid>),
      Text("comm", "its name",
           [](const Flow& flow, Texts& texts) {
             const auto end = std::ranges::find(flow.comm, '\0');
             texts.Add(std::string(flow.comm.begin(), end));
           }),
  };
}

}  // namespace

std::span<const Field> Fields() {
  static const std::vector<Field> kFields = [] {
    std::vector<Field> fields = PartyFields();
    for (std::vector<Field> (*part)() : {ExchangeFields, DecisionFields}) {
      std::ranges::copy(part(), std::back_inserter(fields));
    }
    return fields;
  }();
  return kFields;
}

const Field* FindField(std::string_view name) {
  const auto fields = Fields();
  const auto found = std::ranges::find(fields, name, &Field::name);
  return found == fields.end() ? nullptr : &*found;
}

std::vector<FilterField> FilterFields() {
  std::vector<FilterField> fields;
  for (const Field& field : Fields()) {
    fields.push_back({.name = field.name, .help = field.help});
  }
  return fields;
}

}  // namespace weir::admin

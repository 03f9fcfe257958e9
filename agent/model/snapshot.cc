#include "agent/model/snapshot.h"

#include <algorithm>

namespace weir::model {
namespace {

constexpr std::string_view kScheme = "spiffe://";
constexpr std::size_t kMaxSpiffeIdBytes = 2048;    // SPIFFE-ID section 2.3
constexpr std::size_t kMaxTrustDomainBytes = 255;  // SPIFFE-ID section 2.3

bool IsTrustDomainChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_';
}

bool IsPathChar(char c) {
  return IsTrustDomainChar(c) || (c >= 'A' && c <= 'Z');
}

bool IsPath(std::string_view path) {
  while (!path.empty()) {
    if (path.front() != '/') {
      return false;
    }
    path.remove_prefix(1);
    const std::string_view segment = path.substr(0, path.find('/'));
    if (segment.empty() || segment == "." || segment == ".." ||
        !std::ranges::all_of(segment, IsPathChar)) {
      return false;
    }
    path.remove_prefix(segment.size());
  }
  return true;
}

}  // namespace

base::Result<SpiffeId> SpiffeId::Parse(std::string_view uri) {
  const auto bad = [&](std::string_view why) {
    return base::MakeError(
        base::ErrorCode::kInvalidArgument,
        "'" + std::string(uri.substr(0, 128)) + "' is not a SPIFFE ID: " + std::string(why));
  };
  if (uri.size() > kMaxSpiffeIdBytes) {
    return bad("longer than 2048 bytes");
  }
  if (!uri.starts_with(kScheme)) {
    return bad("does not begin with spiffe://");
  }
  const std::string_view rest = uri.substr(kScheme.size());
  const std::string_view domain = rest.substr(0, rest.find('/'));
  if (domain.empty() || domain.size() > kMaxTrustDomainBytes ||
      !std::ranges::all_of(domain, IsTrustDomainChar)) {
    return bad("its trust domain is not 1 to 255 of a-z 0-9 . - _");
  }
  if (!IsPath(rest.substr(domain.size()))) {
    return bad("its path has an empty, relative or misspelt segment");
  }
  return SpiffeId(std::string(uri));
}

base::Result<SpiffeId> SpiffeId::Make(std::string_view trust_domain, std::string_view path) {
  return Parse(std::string(kScheme) + std::string(trust_domain) + std::string(path));
}

std::string_view SpiffeId::trust_domain() const {
  const std::string_view rest = std::string_view(uri_).substr(kScheme.size());
  return rest.substr(0, rest.find('/'));
}

std::string_view SpiffeId::path() const {
  return std::string_view(uri_).substr(kScheme.size() + trust_domain().size());
}

std::string Workload::display_name() const {
  return ns.empty() ? name : ns + "/" + name;
}

ProtocolHint Workload::HintFor(std::uint16_t port) const {
  const auto found = std::ranges::find(inbounds, port, &Inbound::port);
  return found == inbounds.end() ? ProtocolHint::kNone : found->hint;
}

Snapshot::Snapshot(Parts parts) : parts_(std::move(parts)) {
  for (std::size_t i = 0; i < parts_.workloads.size(); ++i) {
    const auto& workload = parts_.workloads[i];
    for (const auto& address : workload->addresses) {
      by_address_.emplace(address, workload.get());
    }
    by_identity_.emplace(workload->identity.uri(), workload.get());
    index_of_.emplace(workload.get(), i);
  }
  for (std::size_t i = 0; i < parts_.locals.size(); ++i) {
    const auto& local = parts_.locals[i];
    index_of_.emplace(local.get(), i);
    by_local_id_.emplace(static_cast<std::uint32_t>(local->id), local.get());
    local_of_.emplace(local->workload.get(), local.get());
  }
}

const Workload* Snapshot::FindByAddress(const base::Endpoint& endpoint) const {
  const auto [first, last] = by_address_.equal_range(endpoint.address);
  if (first == last) {
    return nullptr;
  }
  if (std::next(first) == last) {
    return first->second;
  }
  for (auto at = first; at != last; ++at) {
    const auto& inbounds = at->second->inbounds;
    if (std::ranges::find(inbounds, endpoint.port, &Inbound::port) != inbounds.end()) {
      return at->second;
    }
  }
  return nullptr;
}

const Workload* Snapshot::FindBySource(const base::IpAddress& address) const {
  const auto [first, last] = by_address_.equal_range(address);
  return first != last && std::next(first) == last ? first->second : nullptr;
}

const Workload* Snapshot::FindPeer(const base::IpAddress& address,
                                   std::string_view identity) const {
  const auto [first, last] = by_address_.equal_range(address);
  const auto found = std::find_if(
      first, last, [&](const auto& entry) { return entry.second->identity.uri() == identity; });
  return found == last ? nullptr : found->second;
}

const Workload* Snapshot::FindByIdentity(const SpiffeId& identity) const {
  const auto found = by_identity_.find(identity.uri());
  return found == by_identity_.end() ? nullptr : found->second;
}

const LocalWorkload* Snapshot::FindLocal(LocalId id) const {
  const auto found = by_local_id_.find(static_cast<std::uint32_t>(id));
  return found == by_local_id_.end() ? nullptr : found->second;
}

const LocalWorkload* Snapshot::FindLocal(const Workload& workload) const {
  const auto found = local_of_.find(&workload);
  return found == local_of_.end() ? nullptr : found->second;
}

std::shared_ptr<const Workload> Snapshot::Shared(const Workload* workload) const {
  const auto found = index_of_.find(workload);
  return found == index_of_.end() ? nullptr : parts_.workloads[found->second];
}

std::shared_ptr<const LocalWorkload> Snapshot::Shared(const LocalWorkload* local) const {
  const auto found = index_of_.find(local);
  return found == index_of_.end() ? nullptr : parts_.locals[found->second];
}

bool Snapshot::InMeshRange(const base::IpAddress& address) const {
  return std::ranges::any_of(parts_.mesh_ranges,
                             [&](const base::Cidr& range) { return range.Contains(address); });
}

}  // namespace weir::model

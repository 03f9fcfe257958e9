#include "tests/support/proxy_bed.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "agent/io/socket.h"

namespace weir::test {
namespace {

[[noreturn]] void Die(const std::string& what) {
  std::fprintf(stderr, "test bed: %s\n", what.c_str());
  std::abort();
}

template <typename T>
T Must(base::Result<T> result) {
  if (!result) {
    Die(result.error().ToString());
  }
  return std::move(*result);
}

void SetTimeouts(int fd) {
  const timeval wait{.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(kBedWait).count(),
                     .tv_usec = 0};
  (void)::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  (void)::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
}

base::UniqueFd BoundSocket(const base::IpAddress& source, bool blocking) {
  base::UniqueFd fd(
      ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0));
  const auto raw = base::ToSockaddr({.address = source, .port = 0});
  if (!fd.valid() || ::bind(fd.get(), raw.get(), raw.length) != 0) {
    Die("bind " + source.ToString());
  }
  return fd;
}

}  // namespace

std::shared_ptr<const model::PermissionSet> MakePermissions(const std::vector<BedRule>& rules) {
  auto set = std::make_shared<model::PermissionSet>();
  for (const BedRule& rule : rules) {
    set->Add(rule.match, std::make_shared<const model::PermissionRule>(model::PermissionRule{
                             .effect = rule.effect, .name = rule.name, .source = "bed"}));
  }
  return set;
}

void FakeKernel::AddWorkload(model::LocalId id, const base::IpAddress& address) {
  const std::lock_guard lock(mutex_);
  addresses_[id] = address;
}

void FakeKernel::AddApplication(const base::Endpoint& seems, const base::Endpoint& really) {
  const std::lock_guard lock(mutex_);
  applications_[seems] = really;
}

void FakeKernel::Record(const base::Endpoint& client, const seam::OriginalDestination& original) {
  const std::lock_guard lock(mutex_);
  records_[client] = original;
}

void FakeKernel::DropWitnesses(std::optional<base::Endpoint> sink) {
  const std::lock_guard lock(mutex_);
  witness_sink_ = sink;
}

void FakeKernel::Divert(const base::Endpoint& destination, const base::Endpoint& instead) {
  const std::lock_guard lock(mutex_);
  diverted_[destination] = instead;
}

void FakeKernel::StallDeliveries(int count, const base::Endpoint& black_hole) {
  const std::lock_guard lock(mutex_);
  stalled_ = count;
  black_hole_ = black_hole;
}

int FakeKernel::connects(seam::LegKind kind) const {
  const std::lock_guard lock(mutex_);
  const auto found = connects_.find(kind);
  return found == connects_.end() ? 0 : found->second;
}

base::Endpoint FakeKernel::PlaceOf(const seam::ConnectRequest& request) {
  if (request.kind == seam::LegKind::kDelivery) {
    if (stalled_ > 0) {
      --stalled_;
      return *black_hole_;
    }
    const auto found = applications_.find(request.destination);
    return found == applications_.end() ? request.destination : found->second;
  }
  if (request.kind == seam::LegKind::kWitness && witness_sink_) {
    return *witness_sink_;
  }
  const auto diverted = diverted_.find(request.destination);
  return diverted == diverted_.end() ? request.destination : diverted->second;
}

base::Result<base::UniqueFd> FakeKernel::Connect(const seam::ConnectRequest& request) {
  const std::lock_guard lock(mutex_);
  const auto found = addresses_.find(request.from);
  if (found == addresses_.end()) {
    return base::MakeError(base::ErrorCode::kNotFound, "no such workload");
  }
  ++connects_[request.kind];
  base::UniqueFd fd =
      BoundSocket(request.transparent_source.value_or(found->second), /*blocking=*/false);
  legs_[Must(base::LocalEndpoint(fd.get()))] = {.kind = request.kind, .worker = request.worker};
  const auto raw = base::ToSockaddr(PlaceOf(request));
  if (::connect(fd.get(), raw.get(), raw.length) != 0 && errno != EINPROGRESS) {
    return base::SystemError("connect");
  }
  return fd;
}

std::optional<seam::OriginalDestination> FakeKernel::TakeOriginalDestination(
    const seam::Listener& listener, const base::ConnectionTuple& accepted) {
  (void)listener;
  const std::lock_guard lock(mutex_);
  auto node = records_.extract(accepted.remote);
  return node.empty() ? std::nullopt : std::optional(node.mapped());
}

model::LocalId FakeKernel::InboundOwner(const seam::Listener& listener,
                                        const base::Endpoint& local) {
  (void)listener;
  const std::lock_guard lock(mutex_);
  for (const auto& [id, address] : addresses_) {
    if (address == local.address) {
      return id;
    }
  }
  return model::LocalId::kNone;
}

std::optional<seam::OwnLeg> FakeKernel::FindOwnLeg(model::LocalId source,
                                                   const base::ConnectionTuple& accepted) {
  (void)source;
  const std::lock_guard lock(mutex_);
  const auto found = legs_.find(accepted.remote);
  return found == legs_.end() ? std::nullopt : std::optional(found->second);
}

void FakeCausality::Say(const seam::ParentHint& hint) {
  const std::lock_guard lock(mutex_);
  next_ = hint;
}

std::vector<FakeCausality::Begun> FakeCausality::begun() const {
  const std::lock_guard lock(mutex_);
  return begun_;
}

int FakeCausality::held() const {
  const std::lock_guard lock(mutex_);
  return held_;
}

int FakeCausality::multiplexed() const {
  const std::lock_guard lock(mutex_);
  return multiplexed_;
}

int FakeCausality::streams() const {
  const std::lock_guard lock(mutex_);
  return streams_;
}

int FakeCausality::ended() const {
  const std::lock_guard lock(mutex_);
  return ended_;
}

int FakeCausality::asked() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

std::uint32_t FakeCausality::AcquireHandle(std::uint32_t worker) {
  (void)worker;
  const std::lock_guard lock(mutex_);
  ++held_;
  return ++last_handle_;
}

void FakeCausality::ReleaseHandle(std::uint32_t worker, std::uint32_t handle) {
  (void)worker;
  (void)handle;
  const std::lock_guard lock(mutex_);
  --held_;
}

void FakeCausality::BeginRequest(std::uint32_t handle, const seam::ParentContext& context) {
  const std::lock_guard lock(mutex_);
  begun_.push_back({.handle = handle, .context = context});
}

void FakeCausality::MarkMultiplexed(std::uint32_t handle) {
  (void)handle;
  const std::lock_guard lock(mutex_);
  ++multiplexed_;
}

void FakeCausality::MarkStreams(std::uint32_t handle) {
  (void)handle;
  const std::lock_guard lock(mutex_);
  ++streams_;
}

void FakeCausality::EndRequest(std::uint32_t handle, bool broken_off) {
  (void)handle;
  (void)broken_off;
  const std::lock_guard lock(mutex_);
  ++ended_;
}

std::optional<seam::ParentHint> FakeCausality::TakeHint(model::LocalId source,
                                                        const base::ConnectionTuple& accepted) {
  (void)source;
  (void)accepted;
  const std::lock_guard lock(mutex_);
  ++asked_;
  return std::exchange(next_, std::nullopt);
}

void RecordCollector::Offer(std::vector<observe::Record>&& records) noexcept {
  const std::lock_guard lock(mutex_);
  for (auto& record : records) {
    records_.push_back(std::move(record));
  }
  arrived_.notify_all();
}

std::vector<observe::Record> RecordCollector::Wait(std::size_t count) {
  std::unique_lock lock(mutex_);
  (void)arrived_.wait_for(lock, kBedWait, [&] { return records_.size() >= count; });
  return records_;
}

std::optional<observe::Record> RecordCollector::WaitFor(
    const std::function<bool(const observe::Record&)>& wanted) {
  std::unique_lock lock(mutex_);
  std::optional<observe::Record> found;
  (void)arrived_.wait_for(lock, kBedWait, [&] {
    for (const auto& record : records_) {
      if (wanted(record)) {
        found = record;
        return true;
      }
    }
    return false;
  });
  return found;
}

std::size_t RecordCollector::size() const {
  const std::lock_guard lock(mutex_);
  return records_.size();
}

ProxyBed::ProxyBed(std::vector<std::uint32_t> workers) : pki_("mesh.test", base::SystemClock()) {
  // Test programs that run side by side get a /18 of loopback each.
  range_ = 0x7f000000U | ((16U + static_cast<std::uint32_t>(::getpid()) % 800U) << 14U);
  for (std::size_t i = 0; i < workers.size(); ++i) {
    auto node = std::make_unique<Node>();
    node->name = "node-" + std::to_string(i);
    node->workers = Must(proxy::WorkerSet::Create({.sockets = kernel_,
                                                   .redirections = kernel_,
                                                   .causality = &causality_,
                                                   .records = node->records,
                                                   .post_to_worker = {}},
                                                  workers[i]));
    (void)node->workers->Start(/*pin=*/false);
    nodes_.push_back(std::move(node));
  }
}

ProxyBed::~ProxyBed() {
  for (const auto& node : nodes_) {
    node->workers->Stop();
  }
}

// No bed of the process has used it before, until all have been: connections of an earlier one that
// linger (TIME_WAIT) would keep their ports from the listeners of this one.
base::IpAddress ProxyBed::FreshAddress() {
  constexpr std::uint32_t kAddresses = (1U << 14U) - 2;
  static std::uint32_t used = 0;
  return base::IpAddress::V4(htonl(range_ + 1 + used++ % kAddresses));
}

std::size_t ProxyBed::AddPod(std::size_t node, const std::string& name, model::TlsMode mode) {
  BedPod pod;
  pod.id = model::LocalId{next_id_++};
  pod.name = name;
  pod.node = node;
  pod.address = FreshAddress();
  pod.tls_mode = mode;
  pod.permissions = MakePermissions({{.match = {.kind = model::PermissionMatch::Kind::kPrefix,
                                                .spiffe_id = "spiffe://mesh.test/",
                                                .server_name = {}},
                                      .name = "everybody"}});
  pod.workload = std::make_shared<model::Workload>(
      model::Workload{.name = name,
                      .ns = "test",
                      .service_account = name,
                      .identity = Must(model::SpiffeId::Make("mesh.test", "/ns/test/sa/" + name)),
                      .node = nodes_[node]->name,
                      .addresses = {pod.address},
                      .inbounds = {},
                      .labels = {}});
  kernel_.AddWorkload(pod.id, pod.address);
  base::UniqueFd fd = Must(io::ListenTcp({.address = FreshAddress(), .port = 0}, 4096));
  pod.outbound = Must(base::LocalEndpoint(fd.get()));
  std::vector<seam::Listener> listeners;
  listeners.push_back({.fd = std::move(fd),
                       .kind = seam::ListenerKind::kOutbound,
                       .owner = pod.id,
                       .bound = pod.outbound});
  workers(node).at(0).Post(proxy::AddListeners{.listeners = std::move(listeners)});
  pods_.push_back(std::move(pod));
  IssueCredential(pods_.size() - 1);
  return pods_.size() - 1;
}

ProxyBed::Application ProxyBed::Expose(std::size_t index, model::ProtocolHint hint,
                                       std::uint32_t worker) {
  BedPod& pod = pods_[index];
  Application application;
  application.listener = Must(io::ListenTcp({.address = FreshAddress(), .port = 0}, 4096));
  const int flags = ::fcntl(application.listener.get(), F_GETFL);
  (void)::fcntl(application.listener.get(), F_SETFL, flags & ~O_NONBLOCK);
  SetTimeouts(application.listener.get());
  const base::Endpoint really = Must(base::LocalEndpoint(application.listener.get()));
  application.endpoint = {.address = pod.address, .port = really.port};
  kernel_.AddApplication(application.endpoint, really);
  AddInbound(pod, application.endpoint, worker);
  auto workload = std::make_shared<model::Workload>(*pod.workload);
  workload->inbounds.push_back(
      {.port = really.port, .name = "port-" + std::to_string(really.port), .hint = hint});
  pod.workload = std::move(workload);
  return application;
}

void ProxyBed::AddInbound(const BedPod& pod, const base::Endpoint& endpoint, std::uint32_t worker) {
  std::vector<seam::Listener> listeners;
  listeners.push_back({.fd = Must(io::ListenTcp(endpoint, 4096)),
                       .kind = seam::ListenerKind::kInbound,
                       .owner = pod.id,
                       .bound = {.address = FreshAddress(), .port = 1}});
  workers(pod.node).at(worker).Post(proxy::AddListeners{.listeners = std::move(listeners)});
}

void ProxyBed::ExposeHbone(std::size_t index) {
  BedPod& pod = pods_[index];
  AddInbound(pod, {.address = pod.address, .port = 15008}, 0);
  auto workload = std::make_shared<model::Workload>(*pod.workload);
  workload->tunnel_port = model::TunnelPort::kHbone15008;
  pod.workload = std::move(workload);
}

base::Endpoint ProxyBed::ExposeDead(std::size_t index) {
  return Expose(index).endpoint;  // its listener closes: connections are refused
}

void ProxyBed::Publish(std::optional<std::size_t> only) {
  ++revision_;
  for (std::size_t i = only.value_or(0); i < (only ? *only + 1 : nodes_.size()); ++i) {
    model::Snapshot::Parts parts;
    parts.revision = revision_;
    parts.trust_domain = "mesh.test";
    parts.node_name = nodes_[i]->name;
    parts.mesh_ranges = {{.base = base::IpAddress::V4(htonl(range_)), .prefix_bits = 18}};
    parts.limits = limits_;
    for (const BedPod& pod : pods_) {
      parts.workloads.push_back(pod.workload);
      if (pod.node == i && pod.enrolled) {
        auto local = std::make_shared<model::LocalWorkload>();
        local->id = pod.id;
        local->workload = pod.workload;
        local->tls_mode = pod.tls_mode;
        local->causality = pod.causality;
        local->trace = pod.trace;
        local->permissions.general = pod.permissions;
        parts.locals.push_back(std::move(local));
      }
    }
    const std::uint64_t before = workers(i).at(0).stats().snapshots.value();
    workers(i).InstallSnapshot(std::make_shared<const model::Snapshot>(std::move(parts)));
    if (!Eventually([&] { return workers(i).at(0).stats().snapshots.value() > before; })) {
      Die("a worker does not install its snapshot");
    }
  }
}

void ProxyBed::IssueCredential(std::size_t index, const std::string& path,
                               const std::string& node) {
  const BedPod& pod = pods_[index];
  workers(pod.node).InstallCredential(pod.id,
                                      pki_.Workload(path.empty() ? "/ns/test/sa/" + pod.name : path,
                                                    node.empty() ? nodes_[pod.node]->name : node));
}

base::UniqueFd ProxyBed::Connect(std::size_t index, const base::Endpoint& destination) {
  const BedPod& pod = pods_[index];
  base::UniqueFd fd = BoundSocket(pod.address, /*blocking=*/true);
  SetTimeouts(fd.get());
  kernel_.Record(Must(base::LocalEndpoint(fd.get())),
                 {.destination = destination, .source = pod.id, .pid = 4711, .comm = "client"});
  const auto raw = base::ToSockaddr(pod.outbound);
  if (::connect(fd.get(), raw.get(), raw.length) != 0) {
    Die("connect to the outbound listener");
  }
  return fd;
}

base::UniqueFd ProxyBed::ConnectFromOutside(const base::Endpoint& endpoint) {
  base::UniqueFd fd = BoundSocket(FreshAddress(), /*blocking=*/true);
  SetTimeouts(fd.get());
  const auto raw = base::ToSockaddr(endpoint);
  if (::connect(fd.get(), raw.get(), raw.length) != 0) {
    Die("connect to " + endpoint.ToString());
  }
  return fd;
}

std::uint64_t ProxyBed::Reasons(std::size_t node, observe::Reason reason) const {
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < nodes_[node]->workers->size(); ++i) {
    sum += nodes_[node]->workers->at(i).stats().reasons[static_cast<std::size_t>(reason)].value();
  }
  return sum;
}

bool ProxyBed::SeesReason(std::size_t node, observe::Reason reason) const {
  return Eventually([&] { return Reasons(node, reason) > 0; }) && Reasons(node, reason) == 1;
}

bool ProxyBed::Eventually(const std::function<bool()>& ready) {
  const auto deadline = std::chrono::steady_clock::now() + kBedWait;
  while (!ready()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // polls; not for luck
  }
  return true;
}

bool SendText(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (count <= 0) {
      return false;
    }
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

std::string ReceiveText(int fd, std::size_t size) {
  std::string text(size, '\0');
  std::size_t have = 0;
  while (have < size) {
    const ssize_t count = ::recv(fd, text.data() + have, size - have, 0);
    if (count <= 0) {
      break;
    }
    have += static_cast<std::size_t>(count);
  }
  text.resize(have);
  return text;
}

StreamEnd ReceiveEnd(int fd) {
  char byte = 0;
  const ssize_t count = ::recv(fd, &byte, 1, 0);
  if (count == 0) {
    return StreamEnd::kFin;
  }
  return count < 0 && errno == ECONNRESET ? StreamEnd::kReset : StreamEnd::kNothing;
}

void HalfClose(int fd) {
  (void)::shutdown(fd, SHUT_WR);
}

namespace {

void PassOneWay(int from, int to) {
  std::array<char, 4096> bytes{};
  for (ssize_t n = 0; (n = ::recv(from, bytes.data(), bytes.size(), 0)) > 0;) {
    (void)::send(to, bytes.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL);
  }
  (void)::shutdown(to, SHUT_RDWR);
}

}  // namespace

void PassBothWays(int one, int other) {
  std::thread back([&] { PassOneWay(other, one); });
  PassOneWay(one, other);
  back.join();
}

}  // namespace weir::test

#include "tests/support/agent.h"

#include <poll.h>
#include <sys/socket.h>

#include <utility>

#include "agent/io/socket.h"
#include "tests/support/tcp.h"

namespace weir::test {

namespace {
constexpr int kPollMilliseconds = 5;  // so that new listeners are seen soon
}

EchoAgent::EchoAgent(std::unique_ptr<datapath::Datapath> datapath)
    : datapath_(std::move(datapath)), thread_([this] { Serve(); }) {}

EchoAgent::~EchoAgent() {
  ending_ = true;
  thread_.join();
}

base::Result<void> EchoAgent::Enrol(const datapath::Enrolment& wanted) {
  auto by_worker = datapath_->Enrol(wanted);
  if (!by_worker) {
    return std::unexpected(by_worker.error());
  }
  const std::lock_guard guard(mutex_);
  for (auto& listeners : *by_worker) {
    for (auto& listener : listeners) {
      listeners_.push_back(std::move(listener));
    }
  }
  return {};
}

base::Result<void> EchoAgent::Unenrol(model::LocalId id) {
  auto done = datapath_->Unenrol(id);
  const std::lock_guard guard(mutex_);
  std::erase_if(listeners_, [&](const auto& listener) { return listener.owner == id; });
  return done;
}

void EchoAgent::CloseListeners() {
  const std::lock_guard guard(mutex_);
  listeners_.clear();
}

void EchoAgent::Serve() {
  while (!ending_) {
    const std::lock_guard guard(mutex_);
    std::vector<pollfd> entries;
    for (const auto& listener : listeners_) {
      entries.push_back({.fd = listener.fd.get(), .events = POLLIN, .revents = 0});
    }
    if (::poll(entries.data(), entries.size(), kPollMilliseconds) <= 0) {
      continue;
    }
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].revents != 0) {
        Answer(listeners_[i]);
      }
    }
  }
}

void EchoAgent::Answer(const seam::Listener& listener) {
  const base::UniqueFd fd(::accept4(listener.fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd.valid()) {
    return;
  }
  ++accepted_;
  const auto local = base::LocalEndpoint(fd.get());
  const auto remote = base::RemoteEndpoint(fd.get());
  if (!local || !remote) {
    return;
  }
  const std::string id = std::to_string(static_cast<unsigned>(listener.owner));
  if (listener.kind == seam::ListenerKind::kInbound) {
    (void)SendAll(fd.get(),
                  "in " + id + " " + remote->address.ToString() + " " + local->ToString());
    return;
  }
  const auto original = datapath_->TakeOriginalDestination(listener, {*local, *remote});
  if (!original) {
    io::ResetOnClose(fd.get());
  } else if (original->destination == seam::kProbeDestination) {
    (void)SendAll(fd.get(), seam::kProbeAnswer);
  } else {
    (void)SendAll(fd.get(), "out " + id + " " + original->destination.ToString() + " " +
                                static_cast<const char*>(original->comm));
  }
}

datapath::Options OptionsFor(const Sandbox& sandbox, const std::string& instance) {
  datapath::Options options;
  options.cgroup_path = sandbox.cgroup();
  options.bpffs_dir = sandbox.bpffs() + "/" + instance;
  options.worker_count = 2;
  return options;
}

}  // namespace weir::test

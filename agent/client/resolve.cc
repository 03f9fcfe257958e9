#include "agent/client/resolve.h"

#include <netdb.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

namespace weir::client {
namespace {

using base::ErrorCode;
using base::MakeError;

constexpr auto kCancelInterval = std::chrono::milliseconds(50);

std::atomic<int> g_lookups{0};

// What the waiting and the looking thread share; the last of them frees it.
struct Lookup {
  std::mutex mutex;
  std::condition_variable finished;
  bool done = false;
  int status = 0;
  std::vector<base::IpAddress> addresses;
};

void LookUp(const std::string& host, const std::shared_ptr<Lookup>& lookup) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int status = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  std::vector<base::IpAddress> addresses;
  for (const addrinfo* entry = list; entry != nullptr && addresses.size() < kMaxAddresses;
       entry = entry->ai_next) {
    if (const auto endpoint = base::FromSockaddr(entry->ai_addr, entry->ai_addrlen)) {
      addresses.push_back(endpoint->address);
    }
  }
  if (list != nullptr) {
    ::freeaddrinfo(list);
  }
  {
    const std::lock_guard lock(lookup->mutex);
    lookup->status = status;
    lookup->addresses = std::move(addresses);
    lookup->done = true;
  }
  lookup->finished.notify_one();
  g_lookups.fetch_sub(1, std::memory_order_relaxed);
}

base::Result<std::shared_ptr<Lookup>> StartLookup(const std::string& host) {
  if (g_lookups.fetch_add(1, std::memory_order_relaxed) >= kMaxLookups) {
    g_lookups.fetch_sub(1, std::memory_order_relaxed);
    return MakeError(ErrorCode::kLimit,
                     "look up " + host + ": earlier lookups have not been answered");
  }
  auto lookup = std::make_shared<Lookup>();
  try {
    std::thread([host, lookup] { LookUp(host, lookup); }).detach();
  } catch (const std::system_error& error) {
    g_lookups.fetch_sub(1, std::memory_order_relaxed);
    return base::SystemError("start a thread to look up " + host, error.code().value());
  }
  return lookup;
}

}  // namespace

base::Result<std::vector<base::IpAddress>> ResolveHost(
    const std::string& host, std::chrono::steady_clock::time_point deadline,
    const std::atomic<bool>& cancelled) {
  if (const auto literal = base::IpAddress::Parse(host)) {
    return std::vector{*literal};
  }
  const auto started = StartLookup(host);
  if (!started) {
    return std::unexpected(started.error());
  }
  Lookup& lookup = **started;
  std::unique_lock lock(lookup.mutex);
  while (!lookup.done) {
    const auto now = std::chrono::steady_clock::now();
    if (cancelled.load(std::memory_order_relaxed)) {
      return MakeError(ErrorCode::kUnavailable, "look up " + host + ": cancelled");
    }
    if (now >= deadline) {
      return MakeError(ErrorCode::kTimeout, "look up " + host + ": no answer in time");
    }
    lookup.finished.wait_until(lock, std::min(deadline, now + kCancelInterval));
  }
  if (lookup.status != 0) {
    return MakeError(ErrorCode::kUnavailable,
                     "look up " + host + ": " + ::gai_strerror(lookup.status));
  }
  if (lookup.addresses.empty()) {
    return MakeError(ErrorCode::kUnavailable, "look up " + host + ": it has no address");
  }
  return std::move(lookup.addresses);
}

}  // namespace weir::client

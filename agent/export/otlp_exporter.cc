#include "agent/export/otlp_exporter.h"

#include <google/protobuf/io/gzip_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <system_error>

#include "agent/base/check.h"
#include "agent/export/otlp_response.h"

namespace weir::telemetry {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kMaxResponseBytes = 4U << 20U;  // OTLP specification, "OTLP/HTTP"

base::MonotonicTime Now() {
  return base::SystemClock().Now();
}

base::WallTime WallNow() {
  return base::SystemClock().WallNow();
}

std::string Gzip(const std::string& body) {
  std::string packed;
  google::protobuf::io::StringOutputStream sink(&packed);
  google::protobuf::io::GzipOutputStream::Options options;
  options.compression_level = 1;  // spans repeat themselves: higher levels cost more than they save
  google::protobuf::io::GzipOutputStream gzip(&sink, options);
  std::string_view rest = body;
  void* room = nullptr;
  int size = 0;
  while (!rest.empty() && gzip.Next(&room, &size)) {
    const std::size_t count = std::min(rest.size(), static_cast<std::size_t>(size));
    std::memcpy(room, rest.data(), count);
    gzip.BackUp(size - static_cast<int>(count));
    rest.remove_prefix(count);
  }
  (void)gzip.Close();  // it can only fail where the string cannot grow
  return packed;
}

client::HttpRequest ToHttp(const OtlpEndpoint& endpoint, const std::string& body) {
  client::HttpRequest request{.method = "POST",
                              .target = endpoint.url.target,
                              .headers = {{"Content-Type", "application/x-protobuf"},
                                          {"User-Agent", "weir-otlp-exporter/" WEIR_VERSION}}};
  if (endpoint.compression == OtlpCompression::kGzip) {
    request.headers.emplace_back("Content-Encoding", "gzip");
    request.body = Gzip(body);
  } else {
    request.body = body;
  }
  request.headers.insert(request.headers.end(), endpoint.headers.begin(), endpoint.headers.end());
  return request;
}

}  // namespace

std::string_view ToString(OtlpDrop reason) {
  switch (reason) {
    case OtlpDrop::kQueueFull:
      return "queue-full";
    case OtlpDrop::kRefused:
      return "refused";
    case OtlpDrop::kRejected:
      return "rejected";
    case OtlpDrop::kGaveUp:
      return "gave-up";
    case OtlpDrop::kBadResponse:
      return "bad-response";
    case OtlpDrop::kShutdown:
      return "shutdown";
    case OtlpDrop::kDisabled:
      return "disabled";
  }
  return "unknown";
}

std::uint64_t OtlpStatus::dropped_total() const {
  return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
}

OtlpExporter::OtlpExporter(const OtlpOptions& options)
    : options_(options), random_(std::random_device{}()) {
  status_.queue_limit_bytes = options_.queue_limit_bytes;
}

OtlpExporter::~OtlpExporter() {
  Stop(milliseconds(0));
}

base::Result<void> OtlpExporter::Start() {
  WEIR_CHECK(!thread_.joinable());
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    return base::SystemError("start the exporter's thread", error.code().value());
  }
  (void)::pthread_setname_np(thread_.native_handle(), "weir-otlp");  // cosmetic
  return {};
}

void OtlpExporter::Stop(milliseconds bound) {
  {
    Lock lock(mutex_);
    is_stopping_ = true;
    stop_deadline_ = Now() + bound;
    wake_.notify_all();
    if (thread_.joinable() &&
        !wake_.wait_until(lock, stop_deadline_, [this] { return is_finished_; }) &&
        connection_ != nullptr) {
      connection_->Cancel();
    }
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  const Lock lock(mutex_);
  DropQueue(OtlpDrop::kShutdown);
}

void OtlpExporter::SetEndpoint(std::optional<OtlpEndpoint> endpoint) {
  const Lock lock(mutex_);
  if (endpoint == endpoint_) {
    return;
  }
  endpoint_ = std::move(endpoint);
  ++endpoint_revision_;
  status_.enabled = endpoint_.has_value();
  status_.url = endpoint_ ? endpoint_->url.origin() + endpoint_->url.target : std::string();
  status_.is_reachable = false;
  status_.is_accepting = false;
  if (connection_ != nullptr) {
    connection_->Cancel();
  }
  if (!endpoint_) {
    DropQueue(OtlpDrop::kDisabled);
  }
  wake_.notify_all();
}

OtlpStatus OtlpExporter::status() const {
  const Lock lock(mutex_);
  return status_;
}

void OtlpExporter::Consume(const std::vector<observe::Record>& records) noexcept {
  bool is_enabled = false;
  {
    const Lock lock(mutex_);
    is_enabled = endpoint_.has_value();
    if (!is_enabled) {
      status_.kept += static_cast<std::uint64_t>(std::ranges::count_if(
          records, [](const auto& record) { return record.span.has_value(); }));
    }
  }
  if (is_enabled) {
    Enqueue(Encode(records));
  }
}

std::vector<OtlpExporter::Chunk> OtlpExporter::Encode(const std::vector<observe::Record>& records) {
  std::vector<Chunk> chunks;
  for (const observe::Record& record : records) {
    if (!record.span) {
      continue;
    }
    auto chunk = std::ranges::find_if(chunks, [&](const Chunk& candidate) {
      return candidate.local == record.local && candidate.spans.size() < options_.batch_bytes;
    });
    if (chunk == chunks.end()) {
      chunks.push_back({.local = record.local, .queued_at = Now()});
      chunk = std::prev(chunks.end());
    }
    encoder_.AppendSpan(record, chunk->spans);
    ++chunk->count;
  }
  return chunks;
}

void OtlpExporter::Enqueue(std::vector<Chunk> chunks) {
  const Lock lock(mutex_);
  const bool was_idle = queue_.empty();
  const bool was_full_batch = waiting_bytes_ >= options_.batch_bytes;
  for (Chunk& chunk : chunks) {
    status_.offered += chunk.count;
    const std::size_t bytes = chunk.bytes();
    if (is_finished_ || !endpoint_) {
      const OtlpDrop reason = is_finished_ ? OtlpDrop::kShutdown : OtlpDrop::kDisabled;
      status_.dropped[static_cast<std::size_t>(reason)] += chunk.count;
    } else if (status_.queue_bytes + bytes > options_.queue_limit_bytes) {
      status_.dropped[static_cast<std::size_t>(OtlpDrop::kQueueFull)] += chunk.count;
    } else {
      status_.queued += chunk.count;
      status_.queue_bytes += bytes;
      waiting_bytes_ += bytes;
      queue_.push_back(std::move(chunk));
    }
  }
  if (was_idle || (!was_full_batch && waiting_bytes_ >= options_.batch_bytes)) {
    wake_.notify_all();
  }
}

void OtlpExporter::Run() noexcept {
  Lock lock(mutex_);
  while (WaitForWork(lock)) {
    std::vector<Chunk> chunks = TakeChunks();
    lock.unlock();
    const Request request = MakeRequest(chunks);
    std::vector<Chunk>().swap(chunks);
    Deliver(request);
    lock.lock();
  }
  DropQueue(OtlpDrop::kShutdown);
  is_finished_ = true;
  wake_.notify_all();
}

// True when a request is due, false when the thread must end.
bool OtlpExporter::WaitForWork(Lock& lock) {
  for (;;) {
    if (is_stopping_) {
      return !queue_.empty() && endpoint_ && !is_hopeless_ && Now() < stop_deadline_;
    }
    if (queue_.empty() || !endpoint_) {
      wake_.wait(lock);
      continue;
    }
    const base::MonotonicTime due = queue_.front().queued_at + options_.batch_age;
    if (waiting_bytes_ >= options_.batch_bytes || Now() >= due) {
      return true;
    }
    wake_.wait_until(lock, due);
  }
}

std::vector<OtlpExporter::Chunk> OtlpExporter::TakeChunks() {
  std::vector<Chunk> chunks;
  std::size_t bytes = 0;
  do {
    bytes += queue_.front().bytes();
    chunks.push_back(std::move(queue_.front()));
    queue_.pop_front();
  } while (!queue_.empty() && bytes + queue_.front().bytes() <= options_.max_request_bytes);
  waiting_bytes_ -= bytes;
  return chunks;
}

// One ResourceSpans per workload, in the order of their first span.
OtlpExporter::Request OtlpExporter::MakeRequest(const std::vector<Chunk>& chunks) {
  Request request;
  std::vector<std::pair<const model::LocalWorkload*, std::vector<std::string_view>>> groups;
  for (const Chunk& chunk : chunks) {
    request.count += chunk.count;
    request.bytes += chunk.bytes();
    auto group =
        std::ranges::find(groups, chunk.local.get(), [](const auto& g) { return g.first; });
    if (group == groups.end()) {
      groups.emplace_back(chunk.local.get(), std::vector<std::string_view>());
      group = std::prev(groups.end());
    }
    group->second.push_back(chunk.spans);
  }
  request.body.reserve(request.bytes + groups.size() * 512);
  for (const auto& [local, spans] : groups) {
    request_encoder_.AppendResourceSpans(local, spans, request.body);
  }
  return request;
}

void OtlpExporter::Deliver(const Request& request) {
  const base::MonotonicTime give_up_at = Now() + options_.give_up_after;
  milliseconds delay = options_.backoff_first;
  for (;;) {
    const Outcome outcome = Attempt(request);
    if (outcome.next == Next::kDone) {
      return;
    }
    {
      const Lock lock(mutex_);
      if (outcome.next == Next::kDisabled) {
        Drop(OtlpDrop::kDisabled, request);
        return;
      }
      if (Now() >= give_up_at) {
        Drop(OtlpDrop::kGaveUp, request);
        return;
      }
    }
    if (!WaitForRetry(request, outcome, Jittered(delay))) {
      return;
    }
    delay = std::min(delay * 2, options_.backoff_limit);
  }
}

OtlpExporter::Outcome OtlpExporter::Attempt(const Request& request) {
  OtlpEndpoint endpoint;
  {
    const Lock lock(mutex_);
    if (!endpoint_) {
      return {.next = Next::kDisabled};
    }
    endpoint = *endpoint_;
    if (connection_ == nullptr || connection_revision_ != endpoint_revision_) {
      connection_ = std::make_unique<client::HttpConnection>(client::HttpPeer::Of(endpoint.url));
      connection_revision_ = endpoint_revision_;
    }
    if (is_stopping_) {
      const auto left = std::chrono::ceil<milliseconds>(stop_deadline_ - Now());
      endpoint.timeout = std::clamp(left, milliseconds(1), endpoint.timeout);
    }
  }
  const auto response =
      connection_->Send(ToHttp(endpoint, request.body),
                        {.timeout = endpoint.timeout, .body_bytes = kMaxResponseBytes});
  return response ? TakeAnswer(request, *response) : TakeError(request, response.error());
}

OtlpExporter::Outcome OtlpExporter::TakeAnswer(const Request& request,
                                               const client::HttpResponse& response) {
  const OtlpAnswer answer = ReadOtlpAnswer(response, request.count, WallNow());
  const Lock lock(mutex_);
  switch (answer.verdict) {
    case OtlpVerdict::kAccepted:
      ++status_.requests;
      status_.is_reachable = true;
      status_.is_accepting = true;
      status_.last_success = WallNow();
      if (!answer.message.empty()) {
        status_.last_error = answer.message;
      }
      status_.exported += request.count - answer.rejected;
      status_.dropped[static_cast<std::size_t>(OtlpDrop::kRejected)] += answer.rejected;
      status_.queued -= request.count;
      status_.queue_bytes -= request.bytes;
      return {.next = Next::kDone};
    case OtlpVerdict::kRetry:
      NoteFailure(answer.message, /*is_reachable=*/true);
      return {.next = Next::kRetry, .is_reachable = true, .retry_after = answer.retry_after};
    case OtlpVerdict::kRefused:
      NoteFailure(answer.message, /*is_reachable=*/true);
      Drop(OtlpDrop::kRefused, request);
      return {.next = Next::kDone};
  }
  return {};
}

OtlpExporter::Outcome OtlpExporter::TakeError(const Request& request, const base::Error& error) {
  const Lock lock(mutex_);
  if (connection_revision_ != endpoint_revision_) {
    return {.next = Next::kRetry};  // SetEndpoint cancelled it: not the collector's failure
  }
  switch (error.code()) {
    case base::ErrorCode::kLimit:
      NoteFailure(error.ToString(), /*is_reachable=*/true);
      Drop(OtlpDrop::kBadResponse, request);
      return {.next = Next::kDone};
    case base::ErrorCode::kInvalidArgument:  // a header of the endpoint that cannot be sent
      NoteFailure(error.ToString(), /*is_reachable=*/false);
      Drop(OtlpDrop::kRefused, request);
      return {.next = Next::kDone};
    case base::ErrorCode::kNotFound:
    case base::ErrorCode::kAlreadyExists:
    case base::ErrorCode::kPermission:
    case base::ErrorCode::kUnavailable:
    case base::ErrorCode::kUnsupported:
    case base::ErrorCode::kProtocol:
    case base::ErrorCode::kTimeout:
    case base::ErrorCode::kSystem:
    case base::ErrorCode::kInternal:
      NoteFailure(error.ToString(), /*is_reachable=*/false);
      return {.next = Next::kRetry};
  }
  return {};
}

bool OtlpExporter::WaitForRetry(const Request& request, const Outcome& outcome,
                                milliseconds delay) {
  delay = std::max(delay, std::min(outcome.retry_after, options_.retry_after_limit));
  const base::MonotonicTime until = Now() + delay;
  Lock lock(mutex_);
  const bool is_last_chance = is_stopping_;
  while (connection_revision_ == endpoint_revision_ && Now() < until) {
    const bool is_too_late = is_stopping_ && until >= stop_deadline_;
    if (is_stopping_ && (is_too_late || !outcome.is_reachable)) {
      if (!is_last_chance && !outcome.is_reachable && Now() < stop_deadline_) {
        break;  // the stop came during the wait: one try more, now
      }
      is_hopeless_ = true;
      Drop(OtlpDrop::kShutdown, request);
      return false;
    }
    wake_.wait_until(lock, until);
  }
  ++status_.retries;
  return true;
}

milliseconds OtlpExporter::Jittered(milliseconds delay) {
  std::uniform_int_distribution<milliseconds::rep> spread(delay.count() / 2, delay.count());
  return milliseconds(spread(random_));
}

void OtlpExporter::NoteFailure(const std::string& message, bool is_reachable) {
  ++status_.failures;
  status_.is_reachable = is_reachable;
  status_.is_accepting = false;
  status_.last_failure = WallNow();
  status_.last_error = message;
}

void OtlpExporter::Drop(OtlpDrop reason, const Request& request) {
  status_.dropped[static_cast<std::size_t>(reason)] += request.count;
  status_.queued -= request.count;
  status_.queue_bytes -= request.bytes;
}

void OtlpExporter::DropQueue(OtlpDrop reason) {
  for (const Chunk& chunk : queue_) {
    status_.dropped[static_cast<std::size_t>(reason)] += chunk.count;
    status_.queued -= chunk.count;
    status_.queue_bytes -= chunk.bytes();
  }
  queue_.clear();
  waiting_bytes_ = 0;
}

}  // namespace weir::telemetry

#include "agent/export/batch_exporter.h"

#include <pthread.h>

#include <algorithm>
#include <numeric>
#include <system_error>

#include "agent/base/check.h"
#include "agent/export/otlp_fields.h"
#include "agent/export/zipkin.h"

namespace weir::telemetry {
namespace {

using std::chrono::milliseconds;

base::MonotonicTime Now() {
  return base::SystemClock().Now();
}

base::WallTime WallNow() {
  return base::SystemClock().WallNow();
}

// A whole request of `chunks`; in OTLP one resource per workload, in the order of their first
// item.
std::string MakeBody(const Collector& collector, const std::vector<ExportChunk>& chunks,
                     std::size_t bytes) {
  std::string body;
  if (collector.kind == CollectorKind::kZipkin) {
    body = "[";
    for (const ExportChunk& chunk : chunks) {
      AppendZipkinSpans(chunk.local.get(), chunk.items, collector.short_trace_ids, body);
    }
    return body + "]";
  }
  std::vector<std::pair<const model::LocalWorkload*, std::vector<std::string_view>>> groups;
  for (const ExportChunk& chunk : chunks) {
    auto group =
        std::ranges::find(groups, chunk.local.get(), [](const auto& g) { return g.first; });
    if (group == groups.end()) {
      groups.emplace_back(chunk.local.get(), std::vector<std::string_view>());
      group = std::prev(groups.end());
    }
    group->second.push_back(chunk.items);
  }
  body.reserve(bytes + groups.size() * 512);
  for (const auto& [local, items] : groups) {
    AppendResource(local, items, body);
  }
  return body;
}

}  // namespace

ExportChunk& ChunkOf(const std::shared_ptr<const model::LocalWorkload>& local,
                     std::size_t batch_bytes, std::vector<ExportChunk>& chunks) {
  const auto found = std::ranges::find_if(chunks, [&](const ExportChunk& chunk) {
    return chunk.local == local && chunk.items.size() < batch_bytes;
  });
  if (found != chunks.end()) {
    return *found;
  }
  return chunks.emplace_back(ExportChunk{.local = local, .queued_at = base::SystemClock().Now()});
}

std::string_view ToString(ExportDrop reason) {
  switch (reason) {
    case ExportDrop::kQueueFull:
      return "queue-full";
    case ExportDrop::kRefused:
      return "refused";
    case ExportDrop::kRejected:
      return "rejected";
    case ExportDrop::kGaveUp:
      return "gave-up";
    case ExportDrop::kBadResponse:
      return "bad-response";
    case ExportDrop::kShutdown:
      return "shutdown";
    case ExportDrop::kNoExporter:
      return "no-exporter";
  }
  return "unknown";
}

std::uint64_t ExporterStatus::dropped_total() const {
  return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
}

BatchExporter::BatchExporter(std::string name, const ExporterOptions& options, Collector collector)
    : name_(std::move(name)),
      options_(options),
      collector_(std::move(collector)),
      random_(std::random_device{}()) {
  status_.queue_limit_bytes = options_.queue_limit_bytes;
}

BatchExporter::~BatchExporter() {
  Stop(milliseconds(0));
}

base::Result<void> BatchExporter::Start() {
  WEIR_CHECK(!thread_.joinable());
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    return base::SystemError("start the exporter's thread", error.code().value());
  }
  (void)::pthread_setname_np(thread_.native_handle(), "weir-export");  // cosmetic
  return {};
}

void BatchExporter::BeginStop(milliseconds bound) {
  const Lock lock(mutex_);
  if (!is_stopping_) {
    is_stopping_ = true;
    stop_deadline_ = Now() + bound;
    wake_.notify_all();
  }
}

bool BatchExporter::IsStopped() const {
  const Lock lock(mutex_);
  return is_finished_ || (is_stopping_ && Now() >= stop_deadline_);
}

void BatchExporter::Stop(milliseconds bound) {
  BeginStop(bound);
  {
    Lock lock(mutex_);
    if (thread_.joinable() &&
        !wake_.wait_until(lock, stop_deadline_, [this] { return is_finished_; }) &&
        link_ != nullptr) {
      link_->Cancel();
    }
  }
  if (thread_.joinable()) {
    thread_.join();
  }
  const Lock lock(mutex_);
  is_finished_ = true;
  DropQueue(ExportDrop::kShutdown);
}

void BatchExporter::SetCollector(Collector collector) {
  const Lock lock(mutex_);
  if (collector == collector_) {
    return;
  }
  collector_ = std::move(collector);
  ++revision_;
  status_.is_reachable = false;
  status_.is_accepting = false;
  if (link_ != nullptr) {
    link_->Cancel();
  }
  wake_.notify_all();
}

void BatchExporter::SetQueueLimit(std::size_t bytes) {
  const Lock lock(mutex_);
  status_.queue_limit_bytes = bytes;
}

ExporterStatus BatchExporter::status() const {
  const Lock lock(mutex_);
  ExporterStatus status = status_;
  status.name = name_;
  status.signal = collector_.signal;
  status.kind = ToString(collector_.kind);
  status.url = collector_.display();
  return status;
}

void BatchExporter::Enqueue(std::vector<ExportChunk> chunks) {
  const Lock lock(mutex_);
  const bool was_idle = queue_.empty();
  const bool was_full_batch = waiting_bytes_ >= options_.batch_bytes;
  for (ExportChunk& chunk : chunks) {
    status_.offered += chunk.count;
    const std::size_t bytes = chunk.bytes();
    if (is_finished_) {
      status_.dropped[static_cast<std::size_t>(ExportDrop::kShutdown)] += chunk.count;
    } else if (status_.queue_bytes + bytes > status_.queue_limit_bytes) {
      status_.dropped[static_cast<std::size_t>(ExportDrop::kQueueFull)] += chunk.count;
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

void BatchExporter::Run() noexcept {
  Lock lock(mutex_);
  while (WaitForWork(lock)) {
    Request request = TakeRequest();
    lock.unlock();
    Deliver(request);
    lock.lock();
  }
  DropQueue(ExportDrop::kShutdown);
  is_finished_ = true;
  wake_.notify_all();
}

// True when a request is due, false when the thread must end.
bool BatchExporter::WaitForWork(Lock& lock) {
  for (;;) {
    if (is_stopping_) {
      return !queue_.empty() && !is_hopeless_ && Now() < stop_deadline_;
    }
    if (queue_.empty()) {
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

BatchExporter::Request BatchExporter::TakeRequest() {
  Request request;
  do {
    request.bytes += queue_.front().bytes();
    request.count += queue_.front().count;
    request.chunks.push_back(std::move(queue_.front()));
    queue_.pop_front();
  } while (!queue_.empty() && request.bytes + queue_.front().bytes() <= options_.max_request_bytes);
  waiting_bytes_ -= request.bytes;
  return request;
}

void BatchExporter::Deliver(Request& request) {
  const base::MonotonicTime give_up_at = Now() + options_.give_up_after;
  milliseconds delay = options_.backoff_first;
  for (;;) {
    const Outcome outcome = Attempt(request);
    if (outcome.next == Next::kDone) {
      return;
    }
    if (Now() >= give_up_at) {
      const Lock lock(mutex_);
      Drop(ExportDrop::kGaveUp, request);
      return;
    }
    if (!WaitForRetry(request, outcome, Jittered(delay))) {
      return;
    }
    delay = std::min(delay * 2, options_.backoff_limit);
  }
}

BatchExporter::Outcome BatchExporter::Attempt(Request& request) {
  Collector collector;
  {
    const Lock lock(mutex_);
    collector = collector_;
    if (link_ == nullptr || link_revision_ != revision_) {
      link_ = MakeCollectorLink(collector);
      link_revision_ = revision_;
    }
    if (is_stopping_) {
      const auto left = std::chrono::ceil<milliseconds>(stop_deadline_ - Now());
      collector.timeout = std::clamp(left, milliseconds(1), collector.timeout);
    }
  }
  if (request.revision != link_revision_) {
    request.body = MakeBody(collector, request.chunks, request.bytes);
    request.revision = link_revision_;
  }
  return TakeAnswer(request, link_->Send(request.body, request.count, collector.timeout));
}

BatchExporter::Outcome BatchExporter::TakeAnswer(const Request& request,
                                                 const ExportAnswer& answer) {
  const Lock lock(mutex_);
  switch (answer.verdict) {
    case ExportVerdict::kAccepted:
      ++status_.requests;
      status_.is_reachable = true;
      status_.is_accepting = true;
      status_.last_success = WallNow();
      if (!answer.message.empty()) {
        status_.last_error = answer.message;
      }
      status_.exported += request.count - answer.rejected;
      status_.dropped[static_cast<std::size_t>(ExportDrop::kRejected)] += answer.rejected;
      status_.queued -= request.count;
      status_.queue_bytes -= request.bytes;
      return {.next = Next::kDone};
    case ExportVerdict::kRetry:
      NoteFailure(answer.message, /*is_reachable=*/true);
      return {.next = Next::kRetry, .is_reachable = true, .retry_after = answer.retry_after};
    case ExportVerdict::kUnreachable:
      if (link_revision_ == revision_) {  // else SetCollector cancelled it
        NoteFailure(answer.message, /*is_reachable=*/false);
      }
      return {.next = Next::kRetry};
    case ExportVerdict::kRefused:
    case ExportVerdict::kBadResponse:
      NoteFailure(answer.message, /*is_reachable=*/true);
      Drop(answer.verdict == ExportVerdict::kRefused ? ExportDrop::kRefused
                                                     : ExportDrop::kBadResponse,
           request);
      return {.next = Next::kDone};
  }
  return {};
}

bool BatchExporter::WaitForRetry(const Request& request, const Outcome& outcome,
                                 milliseconds delay) {
  delay = std::max(delay, std::min(outcome.retry_after, options_.retry_after_limit));
  const base::MonotonicTime until = Now() + delay;
  Lock lock(mutex_);
  const bool is_last_chance = is_stopping_;
  while (link_revision_ == revision_ && Now() < until) {
    const bool is_too_late = is_stopping_ && until >= stop_deadline_;
    if (is_stopping_ && (is_too_late || !outcome.is_reachable)) {
      if (!is_last_chance && !outcome.is_reachable && Now() < stop_deadline_) {
        break;  // the stop came during the wait: one try more, now
      }
      is_hopeless_ = true;
      Drop(ExportDrop::kShutdown, request);
      return false;
    }
    wake_.wait_until(lock, until);
  }
  ++status_.retries;
  return true;
}

milliseconds BatchExporter::Jittered(milliseconds delay) {
  std::uniform_int_distribution<milliseconds::rep> spread(delay.count() / 2, delay.count());
  return milliseconds(spread(random_));
}

void BatchExporter::NoteFailure(const std::string& message, bool is_reachable) {
  ++status_.failures;
  status_.is_reachable = is_reachable;
  status_.is_accepting = false;
  status_.last_failure = WallNow();
  status_.last_error = message;
}

void BatchExporter::Drop(ExportDrop reason, const Request& request) {
  status_.dropped[static_cast<std::size_t>(reason)] += request.count;
  status_.queued -= request.count;
  status_.queue_bytes -= request.bytes;
}

void BatchExporter::DropQueue(ExportDrop reason) {
  for (const ExportChunk& chunk : queue_) {
    status_.dropped[static_cast<std::size_t>(reason)] += chunk.count;
    status_.queued -= chunk.count;
    status_.queue_bytes -= chunk.bytes();
  }
  queue_.clear();
  waiting_bytes_ = 0;
}

}  // namespace weir::telemetry

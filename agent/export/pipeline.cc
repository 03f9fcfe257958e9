#include "agent/export/pipeline.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "agent/base/check.h"

namespace weir::telemetry {

std::size_t RecordBytes(const observe::Record& record) {
  std::size_t bytes =
      sizeof(record) + record.flow.via.size() + record.flow.sni.size() + record.flow.policy.size();
  if (record.flow.http) {
    const observe::HttpExchange& http = *record.flow.http;
    bytes += http.method.size() + http.host.size() + http.path.size() + http.query_keys.size() +
             http.user_agent.size() + http.forwarded_host.size();
  }
  if (record.flow.database != nullptr) {
    const observe::DatabaseCall& call = *record.flow.database;
    bytes += sizeof(call) + call.summary.size() + call.collection.size() + call.name_space.size();
  }
  if (record.span) {
    bytes += record.span->trace_state.size();
    for (const observe::SpanLink& link : record.span->links) {
      bytes += sizeof(link) + link.trace_state.size();
    }
    for (const observe::SpanTag& tag : record.span->tags) {
      bytes += sizeof(tag) + tag.name.size() + tag.value.size();
    }
  }
  return bytes;
}

// `generated` is read last, so that nothing counted elsewhere is missing in it.
PipelineTally Pipeline::Tally::Read() const {
  PipelineTally tally;
  tally.delivered = delivered.load(std::memory_order_acquire);
  tally.dropped = dropped.load(std::memory_order_acquire);
  tally.generated = generated.load(std::memory_order_acquire);
  tally.queued = tally.generated - tally.delivered - tally.dropped;
  return tally;
}

base::Result<std::unique_ptr<Pipeline>> Pipeline::Create(const PipelineOptions& options) {
  auto mailbox = base::Mailbox<Batch>::Create();
  if (!mailbox) {
    return std::unexpected(mailbox.error());
  }
  base::UniqueFd stop_fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!stop_fd.valid()) {
    return base::SystemError("create eventfd of the telemetry thread");
  }
  return std::unique_ptr<Pipeline>(new Pipeline(options, std::move(*mailbox), std::move(stop_fd)));
}

Pipeline::Pipeline(const PipelineOptions& options, base::Mailbox<Batch> mailbox,
                   base::UniqueFd stop_fd)
    : options_(options), mailbox_(std::move(mailbox)), stop_fd_(std::move(stop_fd)) {}

Pipeline::~Pipeline() {
  Stop();
}

void Pipeline::AddConsumer(observe::RecordConsumer& consumer) {
  WEIR_CHECK(!thread_.joinable());
  consumers_.push_back(&consumer);
}

base::Result<void> Pipeline::Start() {
  WEIR_CHECK(!thread_.joinable());
  try {
    thread_ = std::thread([this] { Run(); });
  } catch (const std::system_error& error) {
    return base::SystemError("start the telemetry thread", error.code().value());
  }
  (void)::pthread_setname_np(thread_.native_handle(), "weir-telemetry");  // cosmetic
  return {};
}

void Pipeline::Stop() {
  closed_.store(true);
  if (thread_.joinable()) {
    const std::uint64_t one = 1;
    (void)!::write(stop_fd_.get(), &one, sizeof(one));  // the first write to it cannot fail
    thread_.join();
  }
  // What was posted while the thread ended, or before it ever ran.
  for (const Batch& batch : mailbox_.Drain()) {
    records_.dropped.fetch_add(batch.records.size(), std::memory_order_release);
    spans_.dropped.fetch_add(batch.spans, std::memory_order_release);
    queued_bytes_.fetch_sub(batch.bytes, std::memory_order_relaxed);
  }
}

void Pipeline::Offer(std::vector<observe::Record>&& records) noexcept {
  Batch batch{.records = std::move(records)};
  if (batch.records.empty()) {
    return;
  }
  for (const observe::Record& record : batch.records) {
    batch.bytes += RecordBytes(record);
    batch.spans += record.span ? 1 : 0;
  }
  records_.generated.fetch_add(batch.records.size(), std::memory_order_release);
  spans_.generated.fetch_add(batch.spans, std::memory_order_release);
  const std::size_t before = queued_bytes_.fetch_add(batch.bytes, std::memory_order_relaxed);
  if (before + batch.bytes > options_.queue_limit_bytes || closed_.load()) {
    queued_bytes_.fetch_sub(batch.bytes, std::memory_order_relaxed);
    records_.dropped.fetch_add(batch.records.size(), std::memory_order_release);
    spans_.dropped.fetch_add(batch.spans, std::memory_order_release);
    return;
  }
  mailbox_.Post(std::move(batch));
}

PipelineCounters Pipeline::counters() const {
  return {.records = records_.Read(),
          .spans = spans_.Read(),
          .queued_bytes = queued_bytes_.load(std::memory_order_relaxed),
          .queue_limit_bytes = options_.queue_limit_bytes};
}

void Pipeline::Run() noexcept {
  pollfd waits[2] = {{.fd = stop_fd_.get(), .events = POLLIN, .revents = 0},
                     {.fd = mailbox_.event_fd(), .events = POLLIN, .revents = 0}};
  const int interval = static_cast<int>(options_.wake_interval.count());
  bool is_stopping = false;
  while (!is_stopping) {
    const int ready = ::poll(waits, 2, -1);
    if (ready < 0 && errno == EINTR) {
      continue;
    }
    WEIR_CHECK(ready > 0);
    is_stopping = waits[0].revents != 0;
    if (!is_stopping && interval > 0) {
      // Until the mailbox is drained, posting to it costs no system call.
      is_stopping = ::poll(waits, 1, interval) > 0;
    }
    Deliver();
  }
}

void Pipeline::Deliver() noexcept {
  std::vector<Batch> batches = mailbox_.Drain();
  for (Batch& batch : batches) {
    for (observe::RecordConsumer* consumer : consumers_) {
      consumer->Consume(batch.records);
    }
    const std::size_t count = batch.records.size();
    std::vector<observe::Record>().swap(batch.records);  // freed before its room is given away
    queued_bytes_.fetch_sub(batch.bytes, std::memory_order_relaxed);
    records_.delivered.fetch_add(count, std::memory_order_release);
    spans_.delivered.fetch_add(batch.spans, std::memory_order_release);
  }
}

}  // namespace weir::telemetry

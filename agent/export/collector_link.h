#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "agent/export/collector.h"
#include "agent/export/export_answer.h"

namespace weir::telemetry {

// The longest answer that is read (OTLP specification, "OTLP/HTTP Response").
inline constexpr std::size_t kMaxAnswerBytes = 4U << 20U;

// CollectorLink is the connection to one collector, in its protocol, kept alive between
// requests. One thread at a time, but for Cancel.
class CollectorLink {
 public:
  CollectorLink() = default;
  CollectorLink(const CollectorLink&) = delete;
  CollectorLink& operator=(const CollectorLink&) = delete;
  virtual ~CollectorLink() = default;

  // Sends `body`, a whole request of the collector's kind and signal with `items` spans,
  // metrics or log records, and waits for at most `timeout` for what became of it. Blocks.
  virtual ExportAnswer Send(const std::string& body, std::size_t items,
                            std::chrono::milliseconds timeout) = 0;
  // Ends the running and every later Send. Any thread.
  virtual void Cancel() noexcept = 0;
};

// A link to `collector`; it connects when the first request is sent.
std::unique_ptr<CollectorLink> MakeCollectorLink(const Collector& collector);

}  // namespace weir::telemetry

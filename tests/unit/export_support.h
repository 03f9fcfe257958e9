#pragma once

#include <gtest/gtest.h>
#include <otlp/trace_service.pb.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/export/exporter_set.h"
#include "tests/support/records.h"

namespace weir::telemetry {

// Everything at once, and short waits between retries.
inline constexpr ExporterOptions kQuick = {.batch_age = std::chrono::milliseconds(0),
                                           .backoff_first = std::chrono::milliseconds(2),
                                           .backoff_limit = std::chrono::milliseconds(10)};

// A collector without anything from the environment.
inline Collector CollectorAt(const std::string& url,
                             CollectorKind kind = CollectorKind::kOtlpHttp) {
  const auto found = FindCollector(
      NamedCollector{.kind = kind, .url = url, .is_base_url = kind == CollectorKind::kOtlpHttp},
      Signal::kTraces, {}, [](const char*) -> const char* { return nullptr; });
  EXPECT_TRUE(found.has_value() && found->has_value()) << url;
  return **found;
}

inline std::uint64_t Dropped(const ExporterStatus& status, ExportDrop reason) {
  return status.dropped[static_cast<std::size_t>(reason)];
}

inline void ExpectExact(const ExporterStatus& status) {
  EXPECT_EQ(status.offered, status.exported + status.dropped_total() + status.queued);
}

inline std::size_t CountSpans(const std::string& body) {
  opentelemetry::proto::collector::trace::v1::ExportTraceServiceRequest request;
  EXPECT_TRUE(request.ParseFromString(body));
  std::size_t count = 0;
  for (const auto& resource : request.resource_spans()) {
    for (const auto& scope : resource.scope_spans()) {
      count += static_cast<std::size_t>(scope.spans_size());
    }
  }
  return count;
}

// A set with one exporter, "test", that all spans go to.
class ExportTest : public testing::Test {
 protected:
  void StartExporter(const Collector& collector, const ExporterOptions& options = kQuick) {
    exporters_ = std::make_unique<ExporterSet>(options);
    SetCollector(collector);
  }
  void SetCollector(const Collector& collector) {
    ExportRoutes routes;
    routes.exporters.push_back({.name = "test", .collector = collector});
    routes.fallback = 0;
    ASSERT_TRUE(exporters_->SetRoutes(std::move(routes)).has_value());
  }
  // Of the one exporter, or of what it did when it has ended.
  [[nodiscard]] ExporterStatus Status() const {
    const ExportStatus all = exporters_->status();
    return all.exporters.empty() ? all.retired : all.exporters.front();
  }
  // Waits until nothing is queued any more; what the status says then.
  ExporterStatus WaitUntilDrained() {
    return WaitUntil([](const ExporterStatus& status) { return status.queued == 0; });
  }
  ExporterStatus WaitUntil(const std::function<bool(const ExporterStatus&)>& is_so) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    ExporterStatus status = Status();
    while (!is_so(status) && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
      status = Status();
      ExpectExact(status);
    }
    EXPECT_TRUE(is_so(status)) << status.last_error;
    return status;
  }
  void Offer(std::size_t count) {
    exporters_->Consume(std::vector<observe::Record>(count, test::MakeRequest(/*is_client=*/true)));
  }

  std::unique_ptr<ExporterSet> exporters_;
};

}  // namespace weir::telemetry

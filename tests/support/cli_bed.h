#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/admin/admin_server.h"
#include "tests/support/flow_records.h"
#include "tests/support/program.h"
#include "weir/v1/admin.pb.h"

// The real command against a real admin server with canned facts.
namespace weir::test {

inline void FillTime(google::protobuf::Timestamp* time, std::int64_t seconds,
                     std::int32_t nanos = 0) {
  time->set_seconds(seconds);
  time->set_nanos(nanos);
}

inline v1::TraceSpan Span(const char* id, const char* parent, const char* service, bool client,
                          int ms) {
  v1::TraceSpan span;
  span.set_span_id(id);
  span.set_parent_span_id(parent);
  span.set_service(service);
  span.set_kind(client ? "client" : "server");
  span.set_name("GET /p/42");
  FillTime(span.mutable_start(), 1'800'000'000, ms * 1'000'000);
  span.set_duration_seconds(0.01 - ms * 0.001);
  span.set_status_code(200);
  span.set_parent_source(parent[0] == '\0' ? "none" : "turn");
  span.set_node("node-a");
  return span;
}

inline v1::Status TestStatus() {
  v1::Status status;
  status.set_version("0.1.0");
  status.set_node("node-a");
  status.set_trust_domain("mesh.test");
  status.set_ready(true);
  status.set_workers(2);
  v1::WorkloadStatus* workload = status.add_workloads();
  workload->set_namespace_("shop");
  workload->set_name("cart");
  workload->set_kind("netns");
  workload->set_identity("spiffe://mesh.test/ns/shop/sa/cart");
  workload->set_mode("strict");
  workload->set_hooks_effective(true);
  workload->set_listeners(4);
  workload->set_listeners_alive(4);
  workload->mutable_probe()->set_outcome("ok");
  FillTime(workload->mutable_certificate()->mutable_not_after(), 4'000'000'000);
  workload->mutable_counters()->set_outbound(12'345);
  return status;
}

inline v1::CheckReport TestReport(const std::string& outcome) {
  v1::CheckReport report;
  report.set_duration_seconds(0.25);
  for (const auto& [code, category, result] :
       {std::tuple<const char*, const char*, std::string>{"WK101", "kernel", "ok"},
        {"WK104", "kernel", outcome},
        {"WK402", "identity", "n/a"}}) {
    v1::CheckResult* added = report.add_results();
    added->set_code(code);
    added->set_category(category);
    added->set_title("title of " + std::string(code));
    added->set_outcome(result);
    if (result != "ok") {
      added->set_fact("only cgroup v1 is mounted");
      added->set_remedy("mount -t cgroup2 none /mnt");
    }
  }
  return report;
}

class CliBed : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/weir-cli-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    socket_ = directory_ + "/admin.sock";
  }
  void TearDown() override {
    server_.reset();
    std::filesystem::remove_all(directory_);
  }

  admin::Providers TestProviders() {
    admin::Providers providers;
    providers.status = TestStatus;
    providers.checks = [this](std::string_view subject) -> std::optional<v1::CheckReport> {
      checked_ = subject;
      if (!subject.empty() && subject != "shop/cart") {
        return std::nullopt;
      }
      return TestReport(check_outcome_);
    };
    providers.trace = [](std::string_view id) -> std::optional<v1::Trace> {
      if (!id.starts_with('4')) {
        return std::nullopt;
      }
      v1::Trace trace;
      *trace.add_spans() = Span("b", "a", "shop/price", false, 2);
      *trace.add_spans() = Span("a", "", "shop/cart", true, 1);
      *trace.add_spans() = Span("c", "b", "shop/price", true, 3);
      *trace.add_spans() = Span("d", "b", "shop/price", true, 4);
      if (id.starts_with("4e")) {  // one that says what it waited for
        for (const auto& [name, seconds] : {std::pair("weir.tunnel.ready", 0.003),
                                            {"weir.upstream.connected", 0.004},
                                            {"weir.response.first_byte", 0.007}}) {
          v1::SpanEvent* event = trace.mutable_spans(1)->add_events();
          event->set_name(name);
          event->set_offset_seconds(seconds);
        }
      }
      return trace;
    };
    providers.traces = [this](const admin::TraceQuery& query) {
      v1::TraceList list;
      list.set_seen(9);
      list.set_matched(2);
      for (const auto& [id, seconds, milliseconds] :
           {std::tuple<char, int, int>{'a', 2, 5}, {'b', 1, 300}}) {
        v1::TraceSummary* trace = list.add_traces();
        trace->set_trace_id(std::string(32, id));
        FillTime(trace->mutable_start(), 1'800'000'000 + seconds);
        trace->set_duration_seconds(milliseconds * 0.001);
        trace->set_root_service("gateway");
        trace->set_root_name("GET /" + query.service);
        trace->set_span_count(3);
      }
      asked_ = query;
      return list;
    };
    providers.top = [pictures = 0](const admin::TopQuery& query) mutable {
      ++pictures;
      v1::TopList top;
      top.set_by(query.by);
      top.set_window_seconds(10);
      top.set_seen(1250);
      for (const auto& [name, requests, errors, p99] :
           {std::tuple<const char*, std::uint64_t, std::uint64_t, double>{"price", 1000, 10, 0.02},
            {"stock", 200, 0, 0.5}}) {
        v1::TopRow* row = top.add_rows();
        row->set_source("shop/cart");
        row->set_destination("shop/" + std::string(name));
        row->set_direction("out");
        row->set_node("node-a");
        row->set_requests(requests);
        row->set_errors(errors);
        row->set_encrypted(requests);
        row->set_received_bytes(requests * 1000);
        row->set_p50_seconds(0.001);
        row->set_p99_seconds(p99);
        if (query.by == "pid") {
          // 1 s of CPU in its first 10 s, then all of the time.
          row->set_pid(static_cast<std::uint32_t>(requests));
          row->set_name(name);
          row->set_cpu_seconds(name[0] == 'p' ? pictures : 0.5);
          row->set_age_seconds(9 + pictures);
        }
      }
      return top;
    };
    providers.map = [](base::Nanoseconds) {
      v1::ServiceMap map;
      map.set_window_seconds(60);
      v1::Edge* edge = map.add_edges();
      edge->set_source("shop/cart");
      edge->set_destination("shop/price");
      edge->set_requests(600);
      edge->set_errors(6);
      edge->set_tunnel(600);
      edge->set_p50_seconds(0.001);
      edge->set_p99_seconds(0.02);
      (*edge->mutable_parent_sources())["turn"] = 450;
      (*edge->mutable_parent_sources())["header"] = 150;
      v1::Edge* far = map.add_edges();
      far->set_source("shop/price");
      far->set_destination("shop/db \"main\"");
      far->set_connections(6);
      far->set_plain(6);
      v1::Edge* farther = map.add_edges();
      farther->set_source("shop/db \"main\"");
      farther->set_destination("203.0.113.9:443");
      farther->set_connections(60);
      farther->set_tunnel(60);
      return map;
    };
    return providers;
  }

  void Start() {
    auto server = admin::AdminServer::Start({.socket_path = socket_, .node_name = "node-a"},
                                            TestProviders(), store_);
    ASSERT_TRUE(server.has_value()) << server.error().ToString();
    server_ = std::move(*server);
  }

  void StoreThree() {
    std::vector<observe::Record> records = {MakeRequest(), MakeFailedRequest(),
                                            MakeDeniedConnection()};
    store_.Consume(records);
  }

  [[nodiscard]] std::vector<std::string> Command(const std::vector<std::string>& words) const {
    std::vector<std::string> command = {WEIR_PROGRAM};
    command.insert(command.end(), words.begin(), words.end());
    return command;
  }
  [[nodiscard]] Environment Variables() const {
    return {{"WEIR_SOCKET", socket_}, {"TZ", "UTC"}, {"PATH", "/usr/bin:/bin"}};
  }
  [[nodiscard]] ProgramResult Run(const std::vector<std::string>& words) const {
    return Program(Command(words), Variables()).Wait();
  }

  std::string directory_;
  std::string socket_;
  std::string check_outcome_ = "ok";
  std::string checked_;  // the subject
  admin::TraceQuery asked_;
  admin::FlowStore store_;
  std::unique_ptr<admin::AdminServer> server_;
};

}  // namespace weir::test

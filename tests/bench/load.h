#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/io/event_loop.h"

namespace weir::bench {

enum class Mode : std::uint8_t { kClosed, kPaced, kConnect, kBulk, kIdle, kH2, kGrpc, kServe };

struct Options {
  base::Endpoint target;
  Mode mode = Mode::kClosed;
  std::size_t connections = 1;
  double seconds = 1;
  double rate = 0;          // kPaced: requests a second
  std::size_t streams = 1;  // kH2, kGrpc: open at once on each connection
};

// What a run counted. A unit is a request, or a message of a gRPC stream.
struct Totals {
  std::uint64_t units = 0;  // answered while measuring, with a latency each
  std::uint64_t errors = 0;
  std::uint64_t bytes = 0;     // received while measuring
  std::uint64_t sent = 0;      // units of the whole run, warm-up and end included
  std::uint64_t answered = 0;  // of those; the rest is unanswered or broken
  std::uint64_t requests = 0;  // HTTP requests of the whole run
  std::vector<std::uint32_t> latencies_us;
  std::map<std::string, std::uint64_t> whys;  // of the errors

  // Counts an answer to what was sent at `since`; its latency only while measuring.
  void Answered(bool is_measuring, base::MonotonicTime since, base::MonotonicTime now);
  // `why` stands in JSON as it is.
  void Failed(const std::string& why, std::uint64_t count = 1);
};

// Says that measuring begins.
void PrintBegin();
// Prints the JSON object of a run of `seconds`; sorts the latencies.
void Print(Totals& totals, double seconds);

// The modes h2 and grpc. 0, or 1 when no connection could be opened.
int RunHttp2Load(io::EventLoop& loop, const Options& options);

// The mode serve: answers GET with 128 bytes and echoes gRPC streams, by HTTP/2 in the clear,
// until it is killed. 1 when it cannot listen.
int ServeHttp2(io::EventLoop& loop, const Options& options);

}  // namespace weir::bench

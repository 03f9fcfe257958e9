#pragma once

#include <string_view>

#include "agent/observe/finish.h"

namespace weir::proxy {

// What is known of a request before anything of it is passed on; views die with the call.
struct RequestFacts {
  std::string_view method;
  std::string_view host;
  std::string_view path;  // as it came, without the query
  bool is_grpc = false;
};

// RequestGate decides on each request of an HTTP connection, in the relay that could pass it
// on: whoever answers "no" is answered by the relay, and the application never hears of it.
// Worker.
class RequestGate {
 public:
  RequestGate() = default;
  RequestGate(const RequestGate&) = delete;
  RequestGate& operator=(const RequestGate&) = delete;

  // Whether the request may be passed on; notes the rule in `exchange` where it is not the
  // connection's.
  virtual bool AdmitsRequest(const RequestFacts& request,
                             observe::ExchangeResult& exchange) noexcept = 0;

 protected:
  ~RequestGate() = default;
};

}  // namespace weir::proxy

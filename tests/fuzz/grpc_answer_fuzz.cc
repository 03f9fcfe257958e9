// What a server answers to a unary gRPC call: the first byte chooses the HTTP status, the
// second how many bytes are the trailers' values; the rest is them and the body.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/base/check.h"
#include "agent/client/grpc.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  constexpr std::size_t kLimit = 4096;
  constexpr unsigned kStatuses[] = {200, 0, 404, 503};
  const std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  const std::size_t cut = std::min<std::size_t>(data[1], rest.size());
  const std::string value(rest.substr(0, cut));
  weir::client::HttpResponse response{.status = kStatuses[data[0] % 4]};
  response.body = rest.substr(cut);
  response.headers = {{"grpc-encoding", "gzip"}};
  if ((data[0] & 4U) != 0) {
    response.reset_code = data[1];
  }
  auto& fields = response.body.empty() ? response.headers : response.trailers;
  if ((data[0] & 8U) != 0) {
    fields.emplace_back("grpc-status", (data[0] & 16U) != 0 ? "0" : value);
    fields.emplace_back("grpc-message", value);
    fields.emplace_back("grpc-status-details-bin", value);
  }
  const auto answer = weir::client::ReadGrpcAnswer(response, kLimit);
  WEIR_CHECK(static_cast<unsigned>(answer.status) <= 16);
  WEIR_CHECK(answer.message.size() <= std::max(kLimit, response.body.size()));
  WEIR_CHECK(answer.message.empty() || answer.status == weir::client::GrpcStatus::kOk);
  WEIR_CHECK(answer.text.size() <= value.size() + 200);
  WEIR_CHECK(answer.details.size() <= value.size());
  (void)ToString(answer.status);
  return 0;
}

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/http/http1_parser.h"

namespace weir::test {

// Reads a stream of requests, or of responses to requests of one kind, in whatever pieces
// it comes, as the relay does, and writes down what it saw.
class Http1Transcript {
 public:
  explicit Http1Transcript(http::Http1Limits limits = {}) : limits_(limits) {}
  // Of responses to requests of `kind`.
  Http1Transcript(http::RequestKind kind, http::Http1Limits limits)
      : limits_(limits), kind_(kind), is_response_(true) {}

  void Feed(std::string_view bytes) {
    pending_ += bytes;
    while (!pending_.empty() && error_ == http::Http1Error::kNone && !opaque_) {
      const bool more = in_body_ ? TakeBody() : TakeHead();
      if (!more) {
        break;
      }
    }
  }

  // One line for each head, body and end.
  [[nodiscard]] const std::vector<std::string>& events() const { return events_; }
  [[nodiscard]] http::Http1Error error() const { return error_; }
  // Complete messages.
  [[nodiscard]] std::size_t message_count() const { return message_count_; }
  // The stream ended between two messages.
  [[nodiscard]] bool is_clean() const { return !in_body_ && pending_.empty(); }
  [[nodiscard]] bool is_opaque() const { return opaque_; }

 private:
  bool TakeHead() {
    switch (scanner_.Scan(pending_, limits_)) {
      case http::Progress::kNeedMore:
        return false;
      case http::Progress::kError:
        return Fail(scanner_.error());
      case http::Progress::kComplete:
        break;
    }
    const std::string head = pending_.substr(0, scanner_.size());
    const http::Http1Error error = is_response_ ? TakeResponse(head) : TakeRequest(head);
    if (error != http::Http1Error::kNone) {
      return Fail(error);
    }
    pending_.erase(0, scanner_.size());
    scanner_.Reset();
    if (!opaque_) {
      in_body_ = true;
      body_bytes_ = 0;
      if (body_.complete()) {
        EndMessage();
      }
    }
    return true;
  }

  http::Http1Error TakeRequest(std::string_view head) {
    const http::Http1Error error = http::ParseRequestHead(head, request_);
    std::string event = "request " + std::string(request_.method) + " " +
                        std::string(request_.host) + " " + std::string(request_.path) + " " +
                        std::string(request_.query);
    for (const http::Field& field : request_.fields) {
      event += "|" + std::string(field.name) + "=" + std::string(field.value);
    }
    events_.push_back(std::move(event));
    body_ = http::BodyReader(request_.framing);
    return error;
  }

  http::Http1Error TakeResponse(std::string_view head) {
    const http::Http1Error error = http::ParseResponseHead(head, kind_, response_);
    events_.push_back("response " + std::to_string(response_.status));
    opaque_ = error == http::Http1Error::kNone && response_.switches_protocol;
    body_ = http::BodyReader(response_.framing);
    return error;
  }

  bool TakeBody() {
    const http::BodyReader::Step step = body_.Read(pending_, limits_);
    body_bytes_ += step.consumed;
    pending_.erase(0, step.consumed);
    if (step.progress == http::Progress::kError) {
      return Fail(body_.error());
    }
    if (step.progress == http::Progress::kNeedMore) {
      return false;
    }
    EndMessage();
    return true;
  }

  void EndMessage() {
    in_body_ = false;
    events_.push_back("end " + std::to_string(body_bytes_));
    message_count_ += is_response_ && response_.is_interim ? 0 : 1;
  }

  bool Fail(http::Http1Error error) {
    error_ = error;
    events_.push_back("error " + std::string(http::ToString(error)) + " after " +
                      std::to_string(in_body_ ? body_bytes_ : 0));
    return false;
  }

  http::Http1Limits limits_;
  http::RequestKind kind_;
  bool is_response_ = false;
  bool in_body_ = false;
  bool opaque_ = false;
  std::string pending_;
  std::size_t body_bytes_ = 0;
  std::size_t message_count_ = 0;
  http::HeadScanner scanner_;
  http::BodyReader body_;
  http::RequestHead request_;
  http::ResponseHead response_;
  std::vector<std::string> events_;
  http::Http1Error error_ = http::Http1Error::kNone;
};

}  // namespace weir::test

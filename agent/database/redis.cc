#include "agent/database/redis.h"

#include <array>
#include <utility>

namespace weir::database {
namespace {

// Behind these the server sends when it likes, or the answers cannot be counted.
constexpr std::array<std::string_view, 9> kSubscriptions = {
    "MONITOR",   "PSUBSCRIBE",   "PSYNC", "PUNSUBSCRIBE", "SSUBSCRIBE",
    "SUBSCRIBE", "SUNSUBSCRIBE", "SYNC",  "UNSUBSCRIBE"};

bool EqualsUpper(std::string_view text, std::string_view upper) {
  if (text.size() != upper.size()) {
    return false;
  }
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] >= 'a' && text[i] <= 'z' ? static_cast<char>(text[i] - 32) : text[i];
    if (c != upper[i]) {
      return false;
    }
  }
  return true;
}

}  // namespace

void RedisTap::FollowClient(Bytes bytes) {
  while (end() == TapEnd::kFollowing) {
    switch (requests_.Take(bytes)) {
      case RespRequestReader::Result::kNeedMore:
        return;
      case RespRequestReader::Result::kMalformed:
        End(TapEnd::kMalformed);
        return;
      case RespRequestReader::Result::kRequest:
        OnRequest(requests_.request());
        break;
    }
  }
}

void RedisTap::FollowServer(Bytes bytes) {
  while (end() == TapEnd::kFollowing) {
    switch (replies_.Take(bytes)) {
      case RespReplyReader::Result::kNeedMore:
        return;
      case RespReplyReader::Result::kMalformed:
        End(TapEnd::kMalformed);
        return;
      case RespReplyReader::Result::kTooDeep:
        End(TapEnd::kLimit);
        return;
      case RespReplyReader::Result::kReply:
        OnReply(replies_.reply());
        break;
    }
  }
}

void RedisTap::Push(Kind kind, const std::string& name) {
  observe::DatabaseCall call{.system = "redis"};
  call.operation = name;
  call.summary = name;
  call.name_space = index_;
  if (queue().PushCommand(kind, std::move(call), /*merges=*/kind == kCommand) == nullptr) {
    End(TapEnd::kLimit);
  }
}

void RedisTap::PushOther(Kind kind) {
  if (queue().PushOther(kind, /*merges=*/kind == kQueued) == nullptr) {
    End(TapEnd::kLimit);
  }
}

void RedisTap::OnRequest(const RespRequest& request) {
  const std::string name = request.is_cut ? std::string() : RedisCommandName(request.name);
  for (const std::string_view subscription : kSubscriptions) {
    if (name == subscription) {
      End(TapEnd::kSubscription);
      return;
    }
  }
  if (name == "CLIENT" && EqualsUpper(request.first, "REPLY")) {
    End(TapEnd::kNoReplies);
    return;
  }
  if (in_transaction_) {
    OnTransactionPart(name);
  } else if (name == "MULTI") {
    Push(kMulti, name);
    in_transaction_ = true;
    batch_operation_.clear();
    batch_size_ = 0;
    transaction_ = queue().empty() ? nullptr : queue().back().call.get();
  } else if (name == "SELECT") {
    OnSelect(request.first);
  } else {
    Push(name == "RESET" ? kReset : kCommand, name);
  }
}

void RedisTap::OnSelect(std::string_view index) {
  constexpr std::uint64_t kMost = 1'000'000;
  const RespNumber number = ParseRespNumber(index);
  Push(kSelect, "SELECT");
  if (end() == TapEnd::kFollowing) {
    const bool is_index = number.ok && !number.is_null && number.value < kMost;
    queue().back().number = is_index ? static_cast<std::int32_t>(number.value) : -1;
  }
}

// Nested MULTI fails and changes nothing.
void RedisTap::OnTransactionPart(const std::string& name) {
  const bool is_end = name == "EXEC" || name == "DISCARD" || name == "RESET";
  if (!is_end) {
    batch_operation_ = batch_size_ == 0 || batch_operation_ == name ? name : std::string();
    ++batch_size_;
    if (name == "SELECT") {
      index_.clear();
    }
    PushOther(kQueued);
    return;
  }
  in_transaction_ = false;
  if (transaction_ != nullptr) {
    transaction_->batch_size = batch_size_;
    if (!batch_operation_.empty()) {
      transaction_->operation += " " + batch_operation_;
      transaction_->summary = transaction_->operation;
    }
    transaction_ = nullptr;
  }
  PushOther(kExec);
  if (end() == TapEnd::kFollowing && name == "RESET") {
    queue().back().number = 1;
  }
}

void RedisTap::NoteError(const RespReply& reply, observe::DatabaseCall& call) {
  call.is_error = true;
  call.status = reply.error;
}

void RedisTap::OnReply(const RespReply& reply) {
  if (reply.type == '>') {
    return;  // answers nothing
  }
  if (queue().empty()) {
    if (!reply.is_error) {  // why the server closes the connection
      End(TapEnd::kUnexpected);
    }
    return;
  }
  CommandQueue::Entry& first = queue().front();
  if (first.kind == kMulti && first.state == kBegun) {
    OnTransactionReply(reply);
    return;
  }
  if (first.call != nullptr && reply.is_error) {
    NoteError(reply, *first.call);
  }
  if (first.kind == kMulti && !reply.is_error) {
    first.state = kBegun;
    return;
  }
  if (first.kind == kMulti && first.call.get() == transaction_) {
    transaction_ = nullptr;
  }
  if (first.kind == kSelect && !reply.is_error) {
    index_ = first.number < 0 ? std::string() : std::to_string(first.number);
  }
  if (first.kind == kReset && !reply.is_error) {
    index_ = "0";
  }
  queue().EndFront();
}

// The first entry is the transaction; this answers the one behind it.
void RedisTap::OnTransactionReply(const RespReply& reply) {
  if (queue().size() < 2) {
    if (!reply.is_error) {
      End(TapEnd::kUnexpected);
    }
    return;
  }
  const bool is_end = queue().second().kind == kExec;
  if (!is_end && queue().second().kind != kQueued) {
    End(TapEnd::kUnexpected);
    return;
  }
  if (is_end && queue().second().number == 1 && !reply.is_error) {
    index_ = "0";
  }
  queue().DropSecond();
  if (!is_end) {
    return;
  }
  if (auto* call = queue().front().call.get(); call != nullptr && reply.has_error) {
    NoteError(reply, *call);
  }
  queue().EndFront();
}

}  // namespace weir::database

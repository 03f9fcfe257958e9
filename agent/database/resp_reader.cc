#include "agent/database/resp_reader.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace weir::database {
namespace {

constexpr std::size_t kMaxNumberBytes = 20;

// Up to and with the next '\n'; all of it without one.
std::string_view LinePart(Bytes input) {
  const std::string_view text = AsText(input);
  const std::size_t end = text.find('\n');
  return text.substr(0, end == std::string_view::npos ? end : end + 1);
}

bool IsBlank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r') || c == '\0';
}

// The next word of an inline command; one in quotes is not read.
std::string_view TakeWord(std::string_view& line) {
  while (!line.empty() && IsBlank(line.front())) {
    line.remove_prefix(1);
  }
  std::size_t end = 0;
  while (end < line.size() && !IsBlank(line[end])) {
    ++end;
  }
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(end);
  return word;
}

}  // namespace

RespNumber ParseRespNumber(std::string_view text) {
  if (text == "-1") {
    return {.ok = true, .is_null = true};
  }
  constexpr std::size_t kMostDigits = 18;
  std::uint64_t value = 0;
  if (text.empty() || text.size() > kMostDigits) {
    return {};
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return {.ok = error == std::errc() && end == text.data() + text.size(), .value = value};
}

// ---- requests ----

// True at the end of a line: `line_` is its front, without the end.
bool RespRequestReader::TakeLine(Bytes& input) {
  const std::string_view part = LinePart(input);
  input = input.subspan(part.size());
  line_bytes_ += part.size();
  constexpr std::size_t kKeepOfLine = 2 * kKeepBytes + 4;
  line_ += part.substr(0, kKeepOfLine - std::min(kKeepOfLine, line_.size()));
  if (!part.ends_with('\n')) {
    return false;
  }
  while (!line_.empty() && (line_.back() == '\n' || line_.back() == '\r')) {
    line_.pop_back();
  }
  return true;
}

RespRequestReader::Result RespRequestReader::Take(Bytes& input) {
  while (!input.empty()) {
    if (part_ == Part::kBulk) {
      TakeBulk(input);
      if (bulk_left_ == 0 && left_ == 0) {
        part_ = Part::kStart;
        return Result::kRequest;
      }
      part_ = bulk_left_ == 0 ? Part::kLength : Part::kBulk;
      continue;
    }
    if (part_ == Part::kStart) {
      request_ = {};
      line_.clear();
      line_bytes_ = 0;
      part_ = input.front() == '*' ? Part::kCount : Part::kInline;
    }
    const bool whole = TakeLine(input);
    const std::size_t most = part_ == Part::kInline ? kMaxInlineBytes : kMaxNumberBytes + 3;
    if (line_bytes_ > most) {
      return Result::kMalformed;
    }
    if (!whole) {
      return Result::kNeedMore;
    }
    if (const Result result = OnLine(); result != Result::kNeedMore) {
      return result;
    }
  }
  return Result::kNeedMore;
}

// kNeedMore: go on.
RespRequestReader::Result RespRequestReader::OnLine() {
  if (part_ == Part::kInline) {
    part_ = Part::kStart;
    return OnInline();
  }
  const char mark = part_ == Part::kCount ? '*' : '$';
  if (!line_.starts_with(mark)) {
    return Result::kMalformed;
  }
  const RespNumber number = ParseRespNumber(std::string_view(line_).substr(1));
  line_.clear();
  line_bytes_ = 0;
  if (!number.ok) {
    return Result::kMalformed;
  }
  if (mark == '*') {
    if (number.value > kMaxArguments) {
      return Result::kMalformed;
    }
    arguments_ = left_ = number.value;
    part_ = left_ == 0 ? Part::kStart : Part::kLength;  // an empty one has no answer
    return Result::kNeedMore;
  }
  if (number.is_null || number.value > kMaxBulkBytes) {
    return Result::kMalformed;
  }
  bulk_left_ = number.value + 2;
  --left_;
  part_ = Part::kBulk;
  return Result::kNeedMore;
}

RespRequestReader::Result RespRequestReader::OnInline() {
  std::string_view line = line_;
  const std::string_view name = TakeWord(line);
  if (name.empty()) {
    return Result::kNeedMore;  // an empty line has no answer
  }
  request_.name = name.substr(0, kKeepBytes);
  request_.is_cut = name.size() > kKeepBytes;
  request_.first = TakeWord(line).substr(0, kKeepBytes);
  return Result::kRequest;
}

// Where the bulk in hand is kept; null if it is not.
std::string* RespRequestReader::Word() {
  const std::uint64_t index = arguments_ - left_ - 1;
  return index == 0 ? &request_.name : index == 1 ? &request_.first : nullptr;
}

void RespRequestReader::TakeBulk(Bytes& input) {
  const auto taken = static_cast<std::size_t>(std::min<std::uint64_t>(bulk_left_, input.size()));
  if (std::string* word = Word(); word != nullptr) {
    // Without the line's end, which are the last two bytes.
    const std::uint64_t text_left = bulk_left_ > 2 ? bulk_left_ - 2 : 0;
    const auto text = static_cast<std::size_t>(std::min<std::uint64_t>(text_left, taken));
    const std::size_t room = kKeepBytes - std::min(kKeepBytes, word->size());
    *word += AsText(input.first(std::min(text, room)));
    request_.is_cut = request_.is_cut || (word == &request_.name && text > room);
  }
  bulk_left_ -= taken;
  input = input.subspan(taken);
}

// ---- replies ----

// The first word of an error is its code, if it looks like one.
void RespReplyReader::NoteError(std::string_view text) {
  if (reply_.has_error) {
    return;
  }
  constexpr std::size_t kMostLetters = 32;
  reply_.has_error = true;
  const std::string_view code = text.substr(0, text.find_first_of(" \r\n"));
  const bool is_code =
      !code.empty() && code.size() <= kMostLetters && std::ranges::all_of(code, [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
      });
  reply_.error = is_code ? std::string(code) : "ERR";
}

bool RespReplyReader::EndElement() {
  while (!levels_.empty()) {
    if (--levels_.back().left > 0) {
      return false;
    }
    const bool is_attribute = levels_.back().is_attribute;
    levels_.pop_back();
    if (is_attribute) {
      return false;  // what it is about follows
    }
  }
  fresh_ = true;
  return true;
}

RespReplyReader::Result RespReplyReader::Take(Bytes& input) {
  if (fresh_) {
    reply_ = {};
    fresh_ = false;
    std::vector<Level>().swap(levels_);
  }
  while (!input.empty()) {
    if (in_bulk_) {
      const auto taken =
          static_cast<std::size_t>(std::min<std::uint64_t>(bulk_left_, input.size()));
      if (is_bulk_error_ && bulk_error_.size() < kKeepBytes) {
        bulk_error_ += AsText(input.first(std::min(taken, kKeepBytes - bulk_error_.size())));
      }
      bulk_left_ -= taken;
      input = input.subspan(taken);
      if (bulk_left_ > 0) {
        return Result::kNeedMore;
      }
      in_bulk_ = false;
      if (is_bulk_error_) {
        NoteError(bulk_error_);
        bulk_error_.clear();
      }
      if (EndElement()) {
        return Result::kReply;
      }
      continue;
    }
    const std::string_view part = LinePart(input);
    input = input.subspan(part.size());
    line_ += part.substr(0, kKeepBytes - std::min(kKeepBytes, line_.size()));
    if (!part.ends_with('\n')) {
      continue;
    }
    const Result result = OnLine();
    line_.clear();
    if (result != Result::kNeedMore) {
      return result;
    }
  }
  return Result::kNeedMore;
}

// kNeedMore: go on.
RespReplyReader::Result RespReplyReader::OnLine() {
  while (!line_.empty() && (line_.back() == '\n' || line_.back() == '\r')) {
    line_.pop_back();
  }
  if (line_.empty()) {
    return Result::kMalformed;
  }
  const char type = line_.front();
  const std::string_view text = std::string_view(line_).substr(1);
  const bool is_whole = levels_.empty();
  if (is_whole && type != '|') {
    reply_.type = type;
    reply_.text = type == '+' ? text : std::string_view();
    reply_.is_error = type == '-' || type == '!';
  }
  switch (type) {
    case '-':
      NoteError(text);
      [[fallthrough]];
    case '+':
    case ':':
    case '_':
    case ',':
    case '#':
    case '(':
      return EndElement() ? Result::kReply : Result::kNeedMore;
    case '$':
    case '=':
    case '!': {
      const RespNumber number = ParseRespNumber(text);
      if (!number.ok) {
        return Result::kMalformed;
      }
      if (number.is_null) {
        return EndElement() ? Result::kReply : Result::kNeedMore;
      }
      bulk_left_ = number.value + 2;
      in_bulk_ = true;
      is_bulk_error_ = type == '!';
      return Result::kNeedMore;
    }
    case '*':
    case '~':
    case '>':
      return OnAggregate(type, 1);
    case '%':
    case '|':
      return OnAggregate(type, 2);
    default:
      return Result::kMalformed;
  }
}

RespReplyReader::Result RespReplyReader::OnAggregate(char type, std::uint64_t factor) {
  constexpr std::uint64_t kMostElements = 1ULL << 32U;
  const RespNumber number = ParseRespNumber(std::string_view(line_).substr(1));
  if (!number.ok || number.value > kMostElements) {
    return Result::kMalformed;
  }
  const bool is_attribute = type == '|';
  if (number.is_null || number.value == 0) {
    if (is_attribute) {
      return Result::kNeedMore;
    }
    return EndElement() ? Result::kReply : Result::kNeedMore;
  }
  if (levels_.size() >= kMaxDepth) {
    return Result::kTooDeep;
  }
  levels_.push_back({.left = number.value * factor, .is_attribute = is_attribute});
  return Result::kNeedMore;
}

}  // namespace weir::database

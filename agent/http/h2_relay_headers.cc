// H2Relay: header blocks, decoded, checked and encoded anew.
#include <algorithm>
#include <array>
#include <utility>

#include "agent/http/h2_relay.h"

namespace weir::http {
namespace {

// Streams that the relay ended and whose late frames it swallows; of older ones the ends
// will have taken notice.
constexpr std::size_t kMaxDeadStreams = 128;

constexpr std::array<H2Field, 2> kTooLargeAnswer = {
    {{.name = ":status", .value = "431"}, {.name = "content-length", .value = "0"}}};
constexpr std::array<H2Field, 2> kForbiddenAnswer = {
    {{.name = ":status", .value = "403"}, {.name = "content-length", .value = "0"}}};
// Trailers only, as gRPC over HTTP/2 has it; 7 is PERMISSION_DENIED.
constexpr std::array<H2Field, 4> kDeniedCallAnswer = {
    {{.name = ":status", .value = "200"},
     {.name = "content-type", .value = "application/grpc"},
     {.name = "grpc-status", .value = "7"},
     {.name = "grpc-message", .value = "forbidden by policy"}}};

void AppendBlockFrame(ByteSink& sink, const H2FrameHeader& header,
                      std::span<const std::uint8_t> front, std::span<const std::uint8_t> rest) {
  H2FrameHeader whole = header;
  whole.length = static_cast<std::uint32_t>(front.size() + rest.size());
  AppendFrameHeader(sink, whole);
  const std::span<std::uint8_t> room = sink.Prepare(whole.length);
  std::ranges::copy(rest, std::ranges::copy(front, room.begin()).out);
  sink.Commit(whole.length);
}

}  // namespace

void H2Relay::OnHeaders(Turn& turn, const H2Event& event) {
  Direction& dir = turn.dir;
  const H2FrameHeader& header = event.header;
  const bool client_stream = header.stream_id % 2 == 1;
  if (!client_stream || (turn.from == H2Side::kServer && header.stream_id > last_stream_)) {
    Fail(turn, H2Error::kProtocolError, H2Violation::kBadStreamId);
    return;
  }
  dir.block_stream = header.stream_id;
  dir.block_frames = 0;
  dir.block_ends_stream = header.Has(kH2FlagEndStream);
  dir.block_has_priority = !event.priority.empty();
  std::ranges::copy(event.priority, dir.priority.begin());
  if (header.Has(kH2FlagEndHeaders)) {
    EndBlock(turn, event.payload);
  } else {
    dir.block.assign(event.payload.begin(), event.payload.end());
  }
}

void H2Relay::OnContinuation(Turn& turn, const H2Event& event) {
  Direction& dir = turn.dir;
  if (++dir.block_frames > kH2MaxContinuations) {
    Fail(turn, H2Error::kEnhanceYourCalm, H2Violation::kContinuationFlood);
    return;
  }
  if (dir.block.size() + event.payload.size() > kH2MaxBlockBytes) {
    Fail(turn, H2Error::kEnhanceYourCalm, H2Violation::kHeaderBlockTooLarge);
    return;
  }
  dir.block.insert(dir.block.end(), event.payload.begin(), event.payload.end());
  if (event.header.Has(kH2FlagEndHeaders)) {
    const std::vector<std::uint8_t> block = std::exchange(dir.block, {});
    EndBlock(turn, block);
  }
}

void H2Relay::EndBlock(Turn& turn, std::span<const std::uint8_t> block) {
  Direction& dir = turn.dir;
  const BlockEnd end{.stream_id = std::exchange(dir.block_stream, 0),
                     .ends_stream = dir.block_ends_stream};
  const auto decoded = dir.decoder.Decode(block, scratch_.fields);
  const bool too_large = !decoded && decoded.error() == HpackError::kTooLarge;
  if (!decoded && !too_large) {
    const bool bomb = decoded.error() == HpackError::kBomb;
    Fail(turn, bomb ? H2Error::kEnhanceYourCalm : H2Error::kCompressionError,
         bomb ? H2Violation::kHeaderListTooLarge : H2Violation::kCompression);
    return;
  }
  if (turn.from == H2Side::kServer) {
    OnResponseBlock(turn, end, too_large);
  } else if (end.stream_id > last_stream_) {
    OnRequestBlock(turn, end, too_large);
  } else if (Stream* stream = Find(end.stream_id); stream != nullptr && !stream->dead) {
    OnTrailerBlock(turn, end, *stream, too_large);
  }
  // Else the stream is closed, and nobody waits for it.
}

void H2Relay::OnRequestBlock(Turn& turn, const BlockEnd& end, bool too_large) {
  last_stream_ = end.stream_id;
  H2RequestHead head;
  if (too_large) {
    RejectRequest(turn, end, H2Reject::kHeadersTooLarge, head);
    return;
  }
  if (ParseH2Request(scratch_.fields, head) != H2MessageError::kNone) {
    RejectRequest(turn, end, H2Reject::kBadRequest, head);
    return;
  }
  ListFields();
  const H2Admission admission = open_streams() >= limits_.max_streams
                                    ? H2Admission::kRefuse
                                    : handler_.OnRequest(end.stream_id, head, scratch_.list);
  switch (admission) {
    case H2Admission::kPass:
      SendList(turn, end, streams_[end.stream_id]);
      return;
    case H2Admission::kRefuse:
      RejectRequest(turn, end, H2Reject::kRefused, head);
      return;
    case H2Admission::kForbid:
      RejectRequest(turn, end, H2Reject::kForbidden, head);
      return;
  }
}

// The server never hears of it.
void H2Relay::RejectRequest(Turn& turn, const BlockEnd& end, H2Reject why,
                            const H2RequestHead& head) {
  const bool is_grpc = IsGrpcContentType(head.content_type);
  handler_.OnRejected(why, head);
  // An honest client may make many calls that it has no right to.
  const auto kind =
      why == H2Reject::kForbidden ? FloodGuard::Kind::kReset : FloodGuard::Kind::kRejectedStream;
  if (!turn.dir.guard.Allow(kind)) {
    Fail(turn, H2Error::kEnhanceYourCalm,
         why == H2Reject::kRefused ? H2Violation::kTooManyStreams : FloodGuard::ViolationOf(kind));
    return;
  }
  if (!end.ends_stream) {
    Bury(end.stream_id, streams_[end.stream_id]);
  }
  switch (why) {
    case H2Reject::kBadRequest:
    case H2Reject::kBadResponse:
      InjectReset(turn, H2Side::kClient, end.stream_id, H2Error::kProtocolError);
      return;
    case H2Reject::kRefused:
      InjectReset(turn, H2Side::kClient, end.stream_id, H2Error::kRefusedStream);
      return;
    case H2Reject::kHeadersTooLarge:
      AnswerRequest(turn, end, kTooLargeAnswer);
      return;
    case H2Reject::kForbidden:
      AnswerRequest(turn, end,
                    is_grpc ? std::span<const H2Field>(kDeniedCallAnswer)
                            : std::span<const H2Field>(kForbiddenAnswer));
      return;
  }
}

// An answer without a body: DATA of the relay's own would count against windows that the
// server keeps account of.
void H2Relay::AnswerRequest(Turn& turn, const BlockEnd& end, std::span<const H2Field> answer) {
  scratch_.block.assign(kH2FrameHeaderBytes, 0);
  From(H2Side::kServer).encoder.Encode(answer, scratch_.block);
  scratch_.block[2] = static_cast<std::uint8_t>(scratch_.block.size() - kH2FrameHeaderBytes);
  scratch_.block[3] = static_cast<std::uint8_t>(H2FrameType::kHeaders);
  scratch_.block[4] = kH2FlagEndHeaders | kH2FlagEndStream;
  WriteU32(scratch_.block.data() + 5, end.stream_id);
  Inject(turn, H2Side::kClient, scratch_.block);
  if (!end.ends_stream && !closed()) {
    InjectReset(turn, H2Side::kClient, end.stream_id, H2Error::kNoError);
  }
}

void H2Relay::OnResponseBlock(Turn& turn, const BlockEnd& end, bool too_large) {
  Stream* stream = Find(end.stream_id);
  if (stream == nullptr || stream->dead) {
    return;
  }
  if (stream->server_ended) {
    Fail(turn, H2Error::kStreamClosed, H2Violation::kStreamState);
    return;
  }
  if (stream->responded) {
    OnTrailerBlock(turn, end, *stream, too_large);
    return;
  }
  H2ResponseHead head;
  if (too_large ||
      ParseH2Response(scratch_.fields, end.ends_stream, head) != H2MessageError::kNone) {
    KillStream(turn, end.stream_id, *stream, H2Error::kProtocolError);
    return;
  }
  stream->responded = !head.is_interim();
  handler_.OnResponse(end.stream_id, head);
  SendFields(turn, end, *stream);
}

void H2Relay::OnTrailerBlock(Turn& turn, const BlockEnd& end, Stream& stream, bool too_large) {
  if (turn.from == H2Side::kClient && stream.client_ended) {
    Fail(turn, H2Error::kStreamClosed, H2Violation::kStreamState);
    return;
  }
  if (too_large || CheckH2Trailers(scratch_.fields, end.ends_stream) != H2MessageError::kNone) {
    KillStream(turn, end.stream_id, stream, H2Error::kProtocolError);
    return;
  }
  if (turn.from == H2Side::kServer) {
    handler_.OnTrailers(end.stream_id, scratch_.fields);
  }
  SendFields(turn, end, stream);
}

// Sends the decoded fields on as they are.
void H2Relay::SendFields(Turn& turn, const BlockEnd& end, Stream& stream) {
  ListFields();
  SendList(turn, end, stream);
}

void H2Relay::ListFields() {
  scratch_.list.clear();
  for (std::size_t i = 0; i < scratch_.fields.size(); ++i) {
    scratch_.list.push_back(scratch_.fields[i]);
  }
}

void H2Relay::SendList(Turn& turn, const BlockEnd& end, Stream& stream) {
  Direction& dir = turn.dir;
  scratch_.block.clear();
  dir.encoder.Encode(scratch_.list, scratch_.block);
  Flush(turn);
  ByteSink& sink = SinkTo(Other(turn.from), turn.out);
  std::span<const std::uint8_t> rest = scratch_.block;
  const std::span<const std::uint8_t> priority =
      std::span(dir.priority).first(dir.block_has_priority ? dir.priority.size() : 0);
  H2FrameHeader header{.type = H2FrameType::kHeaders, .stream_id = end.stream_id};
  std::uint64_t& bytes =
      turn.from == H2Side::kClient ? stream.bytes_to_server : stream.bytes_to_client;
  do {
    const bool first = header.type == H2FrameType::kHeaders;
    const std::span<const std::uint8_t> front = first ? priority : priority.first(0);
    const auto part = rest.first(std::min(rest.size(), dir.max_frame_bytes - front.size()));
    rest = rest.subspan(part.size());
    header.flags = static_cast<std::uint8_t>((rest.empty() ? kH2FlagEndHeaders : 0U) |
                                             (first && end.ends_stream ? kH2FlagEndStream : 0U) |
                                             (first && !priority.empty() ? kH2FlagPriority : 0U));
    AppendBlockFrame(sink, header, front, part);
    bytes += kH2FrameHeaderBytes + front.size() + part.size();
    header.type = H2FrameType::kContinuation;
  } while (!rest.empty());
  if (end.ends_stream) {
    EndSide(turn, end.stream_id, stream);
  }
}

// A stream that both ends know is over; its late frames are swallowed.
void H2Relay::KillStream(Turn& turn, std::uint32_t id, Stream& stream, H2Error code) {
  Finish(id, stream, H2StreamEnd::By::kRelay, code);
  Bury(id, stream);
  InjectReset(turn, H2Side::kClient, id, code);
  if (!closed()) {
    InjectReset(turn, H2Side::kServer, id, code);
  }
  if (!closed()) {
    (void)Allow(turn, FloodGuard::Kind::kRejectedStream);  // closes the relay if not
  }
}

void H2Relay::Bury(std::uint32_t id, Stream& stream) {
  stream.dead = true;
  dead_.push_back(id);
  if (dead_.size() > kMaxDeadStreams) {
    streams_.erase(dead_.front());
    dead_.erase(dead_.begin());
  }
}

}  // namespace weir::http

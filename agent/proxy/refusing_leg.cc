#include "agent/proxy/refusing_leg.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "agent/proxy/buffer_sink.h"

namespace weir::proxy {

// Frames come from an H2Relay, which has checked them.
RefusingLeg::RefusingLeg(io::EventLoop& loop, LegOwner& owner)
    : owner_(owner),
      timer_(loop, [this] { Speak(); }),
      reader_({.max_frame_bytes = http::kH2LargestFrameBytes,
               .max_header_frame_bytes = http::kH2LargestFrameBytes,
               .relayed = true}) {}

void RefusingLeg::Write(io::Bytes first, io::Bytes second) {
  if (closed_) {
    return;
  }
  Take(first);
  Take(second);
  if (!answers_.empty() && !timer_.armed()) {
    timer_.Arm(base::Nanoseconds(0));
  }
}

void RefusingLeg::Take(io::Bytes bytes) {
  if (!bytes.empty() && preface_left_ == http::kH2Preface.size()) {
    BufferSink sink(answers_);
    http::AppendSettings(sink, {});
  }
  const std::size_t preface = std::min(preface_left_, bytes.size());
  preface_left_ -= preface;
  bytes = bytes.subspan(preface);
  while (!bytes.empty()) {
    Answer(reader_.Next(bytes));
  }
}

void RefusingLeg::Answer(const http::H2Event& event) {
  if (event.kind != http::H2EventKind::kFrame || event.header.Has(http::kH2FlagAck)) {
    return;
  }
  BufferSink sink(answers_);
  if (event.header.type == http::H2FrameType::kSettings) {
    http::AppendSettingsAck(sink);
  } else if (event.header.type == http::H2FrameType::kPing) {
    http::AppendFrame(sink,
                      {.type = http::H2FrameType::kPing, .flags = http::kH2FlagAck, .stream_id = 0},
                      event.payload);
  }
}

void RefusingLeg::Speak() {
  if (closed_ || paused_) {
    return;
  }
  if (!answers_.empty()) {
    const io::ByteBuffer answers = std::exchange(answers_, io::ByteBuffer());
    owner_.OnLegData(*this, answers.Readable());
  }
  if (ended_ && !closed_) {
    closed_ = true;
    owner_.OnLegEnd(*this);
  }
}

void RefusingLeg::ShutdownWrite() {
  if (!std::exchange(ended_, true) && !closed_) {
    timer_.Arm(base::Nanoseconds(0));
  }
}

void RefusingLeg::ResumeReading() {
  paused_ = false;
  if (!closed_ && (ended_ || !answers_.empty())) {
    timer_.Arm(base::Nanoseconds(0));
  }
}

void RefusingLeg::Reset(observe::Reason reason) {
  (void)reason;  // nobody is there to be told
  closed_ = true;
  timer_.Cancel();
}

}  // namespace weir::proxy

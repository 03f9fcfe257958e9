#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/database/tap.h"

// Conversations of databases, and a tap that listens to them.
namespace weir::test {

// One piece of a conversation.
struct Said {
  bool by_client = false;
  std::string bytes;
};
using Talk = std::vector<Said>;

inline Said Client(std::string bytes) {
  return {.by_client = true, .bytes = std::move(bytes)};
}
inline Said Server(std::string bytes) {
  return {.by_client = false, .bytes = std::move(bytes)};
}

// Tells a tap what was said, and notes what it makes of it.
class TapRig final : public database::CommandHandler {
 public:
  explicit TapRig(database::System system) : tap_(database::MakeTap(system, *this)) {}

  void Hear(bool by_client, std::string_view bytes) {
    const database::Bytes view(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
    by_client ? tap_->OnClientBytes(view) : tap_->OnServerBytes(view);
  }
  void Hear(const Talk& talk) {
    for (const Said& said : talk) {
      Hear(said.by_client, said.bytes);
    }
  }
  // In pieces of `size` bytes.
  void HearInPieces(const Talk& talk, std::size_t size) {
    for (const Said& said : talk) {
      std::string_view rest = said.bytes;
      while (!rest.empty()) {
        // A copy of its own, so that reading behind it is seen.
        const auto piece = std::make_unique<std::string>(rest.substr(0, size));
        Hear(said.by_client, *piece);
        rest.remove_prefix(piece->size());
      }
    }
  }

  [[nodiscard]] database::Tap& tap() { return *tap_; }
  // "SELECT users | users | SELECT users | shop | 42P01 | 3 | -": summary, collection, operation,
  // namespace, status, returned and affected rows, a line for each command.
  [[nodiscard]] std::string Text() const {
    std::string text;
    for (const observe::DatabaseCall& call : calls) {
      const auto rows = [](std::int64_t count) {
        return count < 0 ? std::string("-") : std::to_string(count);
      };
      text += call.summary + "|" + call.operation + "|" + call.collection + "|" + call.name_space +
              "|" + (call.is_error ? "!" + call.status : "") + "|" + rows(call.returned_rows) +
              "|" + rows(call.affected_rows) + "\n";
    }
    text += std::string(database::ToString(tap_->end())) + " " + std::to_string(started) + " " +
            std::to_string(dropped) + " " + std::to_string(untraced);
    return text;
  }

  std::vector<observe::DatabaseCall> calls;
  std::vector<bool> alone;
  std::size_t started = 0;
  std::size_t dropped = 0;
  std::size_t untraced = 0;

 private:
  void OnCommandStart(bool is_alone) noexcept override {
    ++started;
    alone.push_back(is_alone);
  }
  void OnCommandEnd(observe::DatabaseCall&& call) noexcept override {
    calls.push_back(std::move(call));
  }
  void OnCommandDrop() noexcept override { ++dropped; }
  void OnCommandsUntraced(std::uint32_t count) noexcept override { untraced += count; }

  std::unique_ptr<database::Tap> tap_;
};

// What a tap makes of `talk`; empty if it depends on how the bytes are split: whole, in pieces
// of one to seven bytes, or each part in two at every place.
inline std::string HearAllWays(database::System system, const Talk& talk) {
  TapRig whole(system);
  whole.Hear(talk);
  const std::string expected = whole.Text();
  for (std::size_t size = 1; size <= 7; ++size) {
    TapRig rig(system);
    rig.HearInPieces(talk, size);
    if (rig.Text() != expected) {
      return {};
    }
  }
  for (std::size_t part = 0; part < talk.size(); ++part) {
    constexpr std::size_t kMostPlaces = 600;
    const std::string& bytes = talk[part].bytes;
    for (std::size_t cut = 1; cut < bytes.size() && cut < kMostPlaces; ++cut) {
      TapRig rig(system);
      for (std::size_t i = 0; i < talk.size(); ++i) {
        const std::string_view said = talk[i].bytes;
        if (i == part) {
          rig.Hear(talk[i].by_client, said.substr(0, cut));
          rig.Hear(talk[i].by_client, said.substr(cut));
        } else {
          rig.Hear(talk[i].by_client, said);
        }
      }
      if (rig.Text() != expected) {
        return {};
      }
    }
  }
  return expected;
}

}  // namespace weir::test

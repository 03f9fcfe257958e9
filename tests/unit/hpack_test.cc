#include "agent/http/hpack.h"

#include <gtest/gtest.h>

#include "agent/http/stream_table.h"
#include "tests/support/tunnel_rig.h"

namespace weir::http {
namespace {

using test::AsBytes;

TEST(HpackTest, RoundTripsFields) {
  HpackEncoder encoder;
  HpackDecoder decoder({});
  H2FieldList list;
  for (int round = 0; round < 3; ++round) {
    const std::string large = test::Pattern(5000, static_cast<std::uint32_t>(round));
    const std::vector<H2Field> fields = {
        {":method", "CONNECT"}, {":authority", "[fd00::1]:80"}, {"empty", ""}, {"large", large}};
    std::vector<std::uint8_t> block;
    encoder.Encode(fields, block);
    ASSERT_TRUE(decoder.Decode(block, list).has_value());
    ASSERT_EQ(list.size(), fields.size());
    for (std::size_t i = 0; i < fields.size(); ++i) {
      EXPECT_EQ(list[i].name, fields[i].name);
      EXPECT_TRUE(list[i].value == fields[i].value);
    }
    EXPECT_EQ(list.Find("empty"), "");
    EXPECT_FALSE(list.Find("missing").has_value());
  }
}

// Stateless: whatever was sent before, a fresh decoder reads the next block.
TEST(HpackTest, IndexesNothing) {
  HpackEncoder encoder;
  const std::vector<H2Field> fields = {{":method", "CONNECT"}, {"x-same", "every time"}};
  std::vector<std::uint8_t> first;
  encoder.Encode(fields, first);
  std::vector<std::uint8_t> second;
  encoder.Encode(fields, second);
  HpackDecoder fresh({});
  H2FieldList list;
  ASSERT_TRUE(fresh.Decode(second, list).has_value());
  EXPECT_EQ(list.Find("x-same"), "every time");
  // Only the first says that the table has no room.
  EXPECT_EQ(first[0], 0x20);
  EXPECT_NE(second[0], 0x20);
}

TEST(HpackTest, SaysSoAgainAfterThePeerChangedTheTableSize) {
  HpackEncoder encoder;
  std::vector<std::uint8_t> block;
  encoder.Encode(std::vector<H2Field>{{"a", "b"}}, block);
  encoder.OnPeerTableSize(0);
  block.clear();
  encoder.Encode(std::vector<H2Field>{{"a", "b"}}, block);
  EXPECT_EQ(block[0], 0x20);
  // A decoder that waits for the update takes it.
  HpackDecoder decoder({});
  decoder.OnSettingsAcknowledged(0);
  H2FieldList list;
  EXPECT_TRUE(decoder.Decode(block, list).has_value());
}

TEST(HpackTest, TheLimitCountsFromTheAcknowledgement) {
  HpackDecoder decoder({});
  H2FieldList list;
  const std::string_view indexed(
      "\x40\x01"
      "a"
      "\x01"
      "b\xbe",
      6);  // insert, then refer to it
  EXPECT_TRUE(decoder.Decode(AsBytes(indexed), list).has_value());
  EXPECT_EQ(list.size(), 2U);
  decoder.OnSettingsAcknowledged(0);
  EXPECT_EQ(decoder.Decode(AsBytes(indexed), list).error(), HpackError::kMalformed);
}

TEST(HpackTest, RefusesBlocksThatEndInsideAField) {
  HpackEncoder encoder;
  std::vector<std::uint8_t> block;
  encoder.Encode(std::vector<H2Field>{{"name", "value"}}, block);
  for (std::size_t cut = 2; cut < block.size(); ++cut) {
    HpackDecoder decoder({});
    H2FieldList list;
    EXPECT_FALSE(decoder.Decode(std::span(block).first(cut), list).has_value()) << cut;
  }
}

TEST(HpackTest, KeepsTheLimitsExactly) {
  const HpackDecoder::Limits limits{.max_list_bytes = 100, .max_fields = 2};
  HpackEncoder encoder;
  HpackDecoder decoder(limits);
  H2FieldList list;
  const auto decode = [&](const std::vector<H2Field>& fields) {
    std::vector<std::uint8_t> block;
    encoder.Encode(fields, block);
    return decoder.Decode(block, list);
  };
  EXPECT_TRUE(decode({{"a", std::string(67, 'x')}}).has_value());
  const std::string beyond(68, 'x');
  EXPECT_EQ(decode({{"a", beyond}}).error(), HpackError::kTooLarge);
  EXPECT_EQ(list.size(), 0U);
  EXPECT_TRUE(decode({{"a", ""}, {"b", ""}}).has_value());
  EXPECT_EQ(decode({{"a", ""}, {"b", ""}, {"c", ""}}).error(), HpackError::kTooLarge);
  EXPECT_TRUE(decode({{"a", ""}}).has_value()) << "the coder's state is lost";
}

TEST(StreamTableTest, FindsWhatAMapWouldFind) {
  StreamTable table;
  std::map<TunnelStreamId, std::int32_t> model;
  std::uint32_t state = 12345;
  for (std::int32_t step = 0; step < 200000; ++step) {
    state = state * 1664525U + 1013904223U;
    const TunnelStreamId id = ((state >> 8U) % 3000) * 2 + 1;
    if (model.contains(id)) {
      ASSERT_EQ(table.Find(id)->send_window, model[id]);
      if ((state & 1U) != 0 || step > 190000) {
        table.Erase(id);
        model.erase(id);
      }
    } else {
      ASSERT_EQ(table.Find(id), nullptr);
      if (step <= 190000) {
        table.Insert(id).send_window = step;
        model[id] = step;
      }
    }
    ASSERT_EQ(table.size(), model.size());
  }
  std::size_t seen = 0;
  table.ForEach([&](const TunnelStreamState& stream) {
    EXPECT_TRUE(model.contains(stream.id));
    ++seen;
  });
  EXPECT_EQ(seen, model.size());
  while (table.size() > 0) {
    table.Erase(table.Any().id);
  }
  EXPECT_EQ(table.Find(1), nullptr);
}

}  // namespace
}  // namespace weir::http

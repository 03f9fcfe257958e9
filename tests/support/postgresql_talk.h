#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/support/database_rig.h"

// PostgreSQL's messages, as the documentation has them (section 55.7).
namespace weir::test::pg {

inline std::string Number(std::uint32_t value, std::size_t bytes = 4) {
  std::string text;
  for (std::size_t i = bytes; i > 0; --i) {
    text += static_cast<char>((value >> (8 * (i - 1))) & 0xffU);
  }
  return text;
}
inline std::string Message(char type, std::string_view body = {}) {
  return type + Number(static_cast<std::uint32_t>(body.size() + 4)) + std::string(body);
}
inline std::string Text(std::string_view text) {
  return std::string(text) + '\0';
}
inline std::string Startup(std::string_view parameters, std::uint32_t code = 3U << 16U) {
  const std::string body = Number(code) + std::string(parameters);
  return Number(static_cast<std::uint32_t>(body.size() + 4)) + body;
}
inline std::string Query(std::string_view sql) {
  return Message('Q', Text(sql));
}
inline std::string Parse(std::string_view name, std::string_view sql) {
  return Message('P', Text(name) + Text(sql) + Number(0, 2));
}
// With one parameter, "secret".
inline std::string Bind(std::string_view portal, std::string_view name) {
  return Message('B', Text(portal) + Text(name) + Number(0, 2) + Number(1, 2) + Number(6) +
                          "secret" + Number(0, 2));
}
inline std::string Describe(std::string_view name) {
  return Message('D', "S" + Text(name));
}
inline std::string Execute(std::string_view portal = "") {
  return Message('E', Text(portal) + Number(0));
}
inline std::string Sync() {
  return Message('S');
}
inline std::string Row() {
  return Message('D', Number(1, 2) + Number(6) + "secret");
}
inline std::string Columns() {
  return Message('T', Number(1, 2) + Text("c") + std::string(18, '\1'));
}
inline std::string Done(std::string_view tag) {
  return Message('C', Text(tag));
}
inline std::string Ready() {
  return Message('Z', "I");
}
inline std::string Error(std::string_view code) {
  return Message('E', "S" + Text("ERROR") + "V" + Text("ERROR") + "C" + Text(code) + "M" +
                          Text("secret \"table\" is missing") + std::string(1, '\0'));
}
inline const std::string kParsed = Message('1');
inline const std::string kBound = Message('2');
inline const std::string kNoData = Message('n');

// The client is let in, to the database "shop".
inline Talk Login() {
  return {Client(Startup(Text("user") + Text("bob") + Text("database") + Text("shop") + '\0')),
          Server(Message('R', Number(5) + "salt")), Client(Message('p', Text("md5secret"))),
          Server(Message('R', Number(0)) + Message('S', Text("a") + Text("b")) +
                 Message('K', Number(1) + Number(2)) + Ready())};
}
inline Talk LoggedIn(const Talk& rest) {
  Talk talk = Login();
  talk.insert(talk.end(), rest.begin(), rest.end());
  return talk;
}

}  // namespace weir::test::pg

#include "tests/support/http1_corpus.h"

#include <array>
#include <string_view>
#include <utility>

#include "agent/http/token.h"

namespace weir::test {
namespace {

using http::Http1Error;
using namespace std::string_literals;

constexpr std::string_view kLine = "GET / HTTP/1.1\r\n";
constexpr std::string_view kHost = "Host: a\r\n";

std::string Join(std::initializer_list<std::string_view> parts) {
  std::string joined;
  for (const std::string_view part : parts) {
    joined += part;
  }
  return joined;
}

// A GET with these further field lines (each with its line end).
std::string WithFields(std::string_view fields) {
  return Join({kLine, kHost, fields, "\r\n"});
}
// A POST with these field lines and this body.
std::string Post(std::string_view fields, std::string_view body) {
  return Join({"POST / HTTP/1.1\r\n", kHost, fields, "\r\n", body});
}
std::string Chunked(std::string_view body) {
  return Post("Transfer-Encoding: chunked\r\n", body);
}

void AddStartLines(std::vector<MalformedRequest>& all) {
  const std::vector<std::pair<std::string, Http1Error>> lines = {
      {"GET", Http1Error::kBadStartLine},
      {"GET ", Http1Error::kBadStartLine},
      {"GET /", Http1Error::kBadStartLine},
      {"GET /\tHTTP/1.1", Http1Error::kBadStartLine},
      {"GET  / HTTP/1.1", Http1Error::kBadTarget},
      {"GET /  HTTP/1.1", Http1Error::kBadTarget},
      {"GET / a HTTP/1.1", Http1Error::kBadTarget},
      {"GET / HTTP/1.1 ", Http1Error::kBadVersion},
      {" GET / HTTP/1.1", Http1Error::kBadMethod},
      {"\tGET / HTTP/1.1", Http1Error::kBadMethod},
      {"GET\t/ HTTP/1.1", Http1Error::kBadStartLine},
      {"G(T / HTTP/1.1", Http1Error::kBadMethod},
      {"GE,T / HTTP/1.1", Http1Error::kBadMethod},
      {"GET: / HTTP/1.1", Http1Error::kBadMethod},
      {"\"GET\" / HTTP/1.1", Http1Error::kBadMethod},
      {"GET / HTTP/2.0", Http1Error::kBadVersion},
      {"GET / HTTP/0.9", Http1Error::kBadVersion},
      {"GET / HTTP/1.2", Http1Error::kBadVersion},
      {"GET / HTTP/1.10", Http1Error::kBadVersion},
      {"GET / HTTP/1.", Http1Error::kBadVersion},
      {"GET / HTTP/1", Http1Error::kBadVersion},
      {"GET / HTTP/11", Http1Error::kBadVersion},
      {"GET / HTTP/1,1", Http1Error::kBadVersion},
      {"GET / HTTP/01.1", Http1Error::kBadVersion},
      {"GET / http/1.1", Http1Error::kBadVersion},
      {"GET / HTTPS/1.1", Http1Error::kBadVersion},
      {"GET / ICY/1.1", Http1Error::kBadVersion},
      {"GET / HTTP /1.1", Http1Error::kBadVersion},
      {"GET / HTTP/ 1.1", Http1Error::kBadVersion},
      {"GET / HTTP/+1.1", Http1Error::kBadVersion},
      {"GET / HTTP/1.1\0"s, Http1Error::kBadVersion},
      {"GET foo HTTP/1.1", Http1Error::kBadTarget},
      {"GET * HTTP/1.1", Http1Error::kBadTarget},
      {"GET ** HTTP/1.1", Http1Error::kBadTarget},
      {"OPTIONS ** HTTP/1.1", Http1Error::kBadTarget},
      {"GET ?q HTTP/1.1", Http1Error::kBadTarget},
      {"GET a:80 HTTP/1.1", Http1Error::kBadTarget},
      {"GET //\x01 HTTP/1.1", Http1Error::kBadTarget},
      {"GET /\x7f HTTP/1.1", Http1Error::kBadTarget},
      {"GET /\0 HTTP/1.1"s, Http1Error::kBadTarget},
      {"GET /\x0b HTTP/1.1", Http1Error::kBadTarget},
      {"GET /\x0c HTTP/1.1", Http1Error::kBadTarget},
      {"GET http:// HTTP/1.1", Http1Error::kBadTarget},
      {"GET http:///x HTTP/1.1", Http1Error::kBadTarget},
      {"GET http://u@/x HTTP/1.1", Http1Error::kBadTarget},
      {"GET ://a/ HTTP/1.1", Http1Error::kBadTarget},
      {"GET ht^tp://a/ HTTP/1.1", Http1Error::kBadTarget},
      {"GET http://a,b/ HTTP/1.1", Http1Error::kBadTarget},
      {"GET http://a\\b/ HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT / HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT a HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT a: HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT :80 HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT a:80/x HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT u@a:80 HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT http://a:80 HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT a:8o HTTP/1.1", Http1Error::kBadTarget},
      {"CONNECT * HTTP/1.1", Http1Error::kBadTarget},
      {"GET /\r HTTP/1.1", Http1Error::kBareCr},
      {"GET / HTTP/1.1\r", Http1Error::kBareCr},
      {"\rGET / HTTP/1.1", Http1Error::kBareCr},
  };
  for (const auto& [line, error] : lines) {
    all.push_back(
        {.name = "line " + line, .bytes = Join({line, "\r\n", kHost, "\r\n"}), .error = error});
  }
  all.push_back(
      {"two empty lines", Join({"\r\n\r\n", kLine, kHost, "\r\n"}), Http1Error::kBadStartLine});
  all.push_back({"empty LF line", Join({"\n", kLine, kHost, "\r\n"}), Http1Error::kBareLf});
  all.push_back({"LF line", "GET / HTTP/1.1\nHost: a\r\n\r\n", Http1Error::kBareLf});
  all.push_back({"LF field", "GET / HTTP/1.1\r\nHost: a\n\r\n", Http1Error::kBareLf});
  all.push_back({"LF end", "GET / HTTP/1.1\r\nHost: a\r\n\n", Http1Error::kBareLf});
  all.push_back({"LF all", "GET / HTTP/1.1\nHost: a\n\n", Http1Error::kBareLf});
  all.push_back(
      {"LF inside a field", WithFields("X: a\nContent-Length: 5\r\n"), Http1Error::kBareLf});
  all.push_back({"CR CR LF", WithFields("X: a\r\r\n"), Http1Error::kBareCr});
  all.push_back({"CR alone", WithFields("X: a\rY: b\r\n"), Http1Error::kBareCr});
  all.push_back({"CR in a name", WithFields("X\rY: b\r\n"), Http1Error::kBareCr});
  all.push_back({"CR before a name", WithFields("\rX: b\r\n"), Http1Error::kBareCr});
  all.push_back({"CR behind the colon", WithFields("X:\r b\r\n"), Http1Error::kBareCr});
  all.push_back({"HTTP/0.9", "GET /\r\n\r\n", Http1Error::kBadStartLine});
}

void AddFields(std::vector<MalformedRequest>& all) {
  const std::vector<std::pair<std::string, Http1Error>> fields = {
      {" X: folded", Http1Error::kObsFold},
      {"\tX: folded", Http1Error::kObsFold},
      {"X: a\r\n b", Http1Error::kObsFold},
      {"X: a\r\n\tb", Http1Error::kObsFold},
      {"X:\r\n b", Http1Error::kObsFold},
      {"Transfer-Encoding:\r\n chunked", Http1Error::kBadTransferEncoding},
      {"X : a", Http1Error::kBadFieldName},
      {"X\t: a", Http1Error::kBadFieldName},
      {"Content-Length : 5", Http1Error::kBadFieldName},
      {"Transfer-Encoding : chunked", Http1Error::kBadFieldName},
      {": a", Http1Error::kBadFieldName},
      {":", Http1Error::kBadFieldName},
      {"X", Http1Error::kBadFieldName},
      {"X a", Http1Error::kBadFieldName},
      {"X Y: a", Http1Error::kBadFieldName},
      {"\"X\": a", Http1Error::kBadFieldName},
      {"X[]: a", Http1Error::kBadFieldName},
      {"X{}: a", Http1Error::kBadFieldName},
      {"X@Y: a", Http1Error::kBadFieldName},
      {"X(Y): a", Http1Error::kBadFieldName},
      {"X,Y: a", Http1Error::kBadFieldName},
      {"X;Y: a", Http1Error::kBadFieldName},
      {"X=Y: a", Http1Error::kBadFieldName},
      {"X/Y: a", Http1Error::kBadFieldName},
      {"X\\Y: a", Http1Error::kBadFieldName},
      {"X<Y>: a", Http1Error::kBadFieldName},
      {"X\x80: a", Http1Error::kBadFieldName},
      {"X\0: a"s, Http1Error::kBadFieldName},
      {"X: \0"s, Http1Error::kBadFieldValue},
      {"X: a\0b"s, Http1Error::kBadFieldValue},
      {"X: \x01", Http1Error::kBadFieldValue},
      {"X: \x08", Http1Error::kBadFieldValue},
      {"X: \x0b", Http1Error::kBadFieldValue},
      {"X: \x0c", Http1Error::kBadFieldValue},
      {"X: \x1b[0m", Http1Error::kBadFieldValue},
      {"X: \x7f", Http1Error::kBadFieldValue},
      {"\x0bTransfer-Encoding: chunked", Http1Error::kBadFieldName},
      {"Content-Length: \x0b"
       "5",
       Http1Error::kBadFieldValue},
  };
  for (const auto& [field, error] : fields) {
    all.push_back({.name = "field " + field, .bytes = WithFields(field + "\r\n"), .error = error});
  }
  all.push_back({"fold first", Join({kLine, " Host: a\r\n\r\n"}), Http1Error::kObsFold});
}

void AddHosts(std::vector<MalformedRequest>& all) {
  const auto add = [&](std::string name, std::string_view fields) {
    all.push_back({.name = std::move(name),
                   .bytes = Join({kLine, fields, "\r\n"}),
                   .error = Http1Error::kBadHost});
  };
  add("no host", "");
  add("no host but others", "X: a\r\n");
  add("two hosts", "Host: a\r\nHost: b\r\n");
  add("two equal hosts", "Host: a\r\nHost: a\r\n");
  add("two hosts in other case", "Host: a\r\nhOST: a\r\n");
  add("two hosts, one empty", "Host: a\r\nHost:\r\n");
  add("host list", "Host: a, b\r\n");
  add("host with space", "Host: a b\r\n");
  add("host with path", "Host: a/b\r\n");
  add("host with user", "Host: u@a\r\n");
  add("host with query", "Host: a?b\r\n");
  add("host with fragment", "Host: a#b\r\n");
  add("host with backslash", "Host: a\\b\r\n");
  add("host URL", "Host: http://a\r\n");
  add("quoted host", "Host: \"a\"\r\n");
  all.push_back(
      {"two hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Http1Error::kBadHost});
  all.push_back(
      {"absolute form without host", "GET http://a/ HTTP/1.1\r\n\r\n", Http1Error::kBadHost});
}

void AddLengths(std::vector<MalformedRequest>& all) {
  const std::vector<std::string> values = {"",
                                           "+5",
                                           "-5",
                                           "-0",
                                           "+0",
                                           "5 5",
                                           "5,5",
                                           "5, 5",
                                           "5,6",
                                           ",5",
                                           "5,",
                                           "5;",
                                           "0x5",
                                           "5e0",
                                           "5.0",
                                           "five",
                                           "5\t5",
                                           "\"5\"",
                                           "'5'",
                                           "5_0",
                                           "0b1",
                                           "0o5",
                                           "5 ;a",
                                           "1 000",
                                           "$5",
                                           "5h",
                                           "h5",
                                           "\xb2",
                                           "\xd9\xa5",
                                           "9223372036854775808",
                                           "18446744073709551616",
                                           "18446744073709551621",
                                           "99999999999999999999",
                                           "00000000000000000005",
                                           "1e1000"};
  for (const std::string& value : values) {
    all.push_back({.name = "length " + value,
                   .bytes = Post("Content-Length: " + value + "\r\n", "hello"),
                   .error = Http1Error::kBadContentLength});
  }
  const std::vector<std::string> repeated = {"Content-Length: 5\r\nContent-Length: 5\r\n",
                                             "Content-Length: 5\r\nContent-Length: 6\r\n",
                                             "Content-Length: 5\r\ncontent-length: 0\r\n",
                                             "Content-Length: 0\r\nX: y\r\nCONTENT-LENGTH: 5\r\n",
                                             "Content-Length: 5\r\nContent-Length:\r\n"};
  for (const std::string& fields : repeated) {
    all.push_back({.name = "lengths " + fields,
                   .bytes = Post(fields, "hello"),
                   .error = Http1Error::kRepeatedContentLength});
  }
  const std::vector<std::string> both = {
      "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
      "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
      "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
      "transfer-encoding: chunked\r\nX: y\r\ncontent-length: 0\r\n",
      "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n",
      "Content-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n"};
  for (const std::string& fields : both) {
    all.push_back({.name = "both " + fields,
                   .bytes = Post(fields, "0\r\n\r\n"),
                   .error = Http1Error::kBothLengths});
  }
}

void AddTransferEncodings(std::vector<MalformedRequest>& all) {
  const std::vector<std::string> values = {
      "",
      "identity",
      "chunked, identity",
      "identity, chunked",
      "chunked, gzip",
      "gzip",
      "gzip, deflate",
      "chunked, chunked",
      "chunked,chunked",
      "chunked,",
      ",chunked",
      ", chunked",
      "gzip,,chunked",
      "xchunked",
      "chunkedx",
      "chunked;q=1",
      "chunked; a=b",
      "\"chunked\"",
      "'chunked'",
      "chunked chunked",
      "chun\tked",
      "chunke\xc4\x91",
      "br, chunked",
      "trailers",
      "cow",
      "x, chunked",
      "gzip;level=9, chunked",
  };
  for (const std::string& value : values) {
    all.push_back({.name = "coding " + value,
                   .bytes = Post("Transfer-Encoding: " + value + "\r\n", "0\r\n\r\n"),
                   .error = Http1Error::kBadTransferEncoding});
  }
  const std::vector<std::string> fields = {
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
      "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
      "Transfer-Encoding: chunked\r\ntransfer-encoding:\r\n",
      "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n",
      "Transfer-Encoding: gzip\r\nTransfer-Encoding: deflate\r\n"};
  for (const std::string& lines : fields) {
    all.push_back({.name = "codings " + lines,
                   .bytes = Post(lines, "0\r\n\r\n"),
                   .error = Http1Error::kBadTransferEncoding});
  }
  all.push_back({"chunked in 1.0",
                 "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 Http1Error::kBadTransferEncoding});
  all.push_back({"chunked CONNECT",
                 "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 Http1Error::kBadTransferEncoding});
  all.push_back({"counted CONNECT",
                 "CONNECT a:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
                 Http1Error::kBadContentLength});
}

void AddChunks(std::vector<MalformedRequest>& all) {
  const std::vector<std::string> sizes = {"\r\n\r\n",
                                          "g\r\n",
                                          "0x5\r\nhello\r\n",
                                          "-5\r\nhello\r\n",
                                          "+5\r\nhello\r\n",
                                          " 5\r\nhello\r\n",
                                          "5 \r\nhello\r\n",
                                          "5\t\r\nhello\r\n",
                                          "5 ;a=b\r\nhello\r\n",
                                          "5\nhello\r\n",
                                          "5\rhello\r\n",
                                          "5\r\r\nhello\r\n",
                                          "5;a\nhello\r\n",
                                          "5;a\rb\r\nhello\r\n",
                                          "5;\0\r\nhello\r\n"s,
                                          "5;\x7f\r\nhello\r\n",
                                          "5,\r\nhello\r\n",
                                          "5:\r\nhello\r\n",
                                          "5.0\r\nhello\r\n",
                                          "5h\r\nhello\r\n",
                                          "_5\r\nhello\r\n",
                                          "\0"
                                          "5\r\nhello\r\n"s,
                                          "8000000000000000\r\n",
                                          "ffffffffffffffff\r\n",
                                          "10000000000000000\r\n",
                                          "10000000000000005\r\nhello\r\n",
                                          ";a=b\r\nhello\r\n",
                                          "\x0b"
                                          "5\r\nhello\r\n",
                                          "five\r\nhello\r\n",
                                          "5;" + std::string(1024, 'a') + "\r\nhello\r\n",
                                          std::string(1025, '0') + "5\r\nhello\r\n"};
  for (const std::string& size : sizes) {
    all.push_back({.name = "chunk size " + size.substr(0, 40),
                   .bytes = Chunked(size + "0\r\n\r\n"),
                   .error = Http1Error::kBadChunkSize});
  }
  const std::vector<std::string> ends = {"5\r\nhello0\r\n\r\n",      "5\r\nhello\n0\r\n\r\n",
                                         "5\r\nhello\r0\r\n\r\n",    "5\r\nhello!\r\n0\r\n\r\n",
                                         "5\r\nhello \r\n0\r\n\r\n", "5\r\nhello\r\r\n0\r\n\r\n",
                                         "3\r\nhello\r\n0\r\n\r\n",  "4\r\nhello\r\n0\r\n\r\n"};
  for (const std::string& end : ends) {
    all.push_back(
        {.name = "chunk end " + end, .bytes = Chunked(end), .error = Http1Error::kBadChunk});
  }
  const std::vector<std::string> trailers = {"\n",
                                             "\rX",
                                             " X: a\r\n\r\n",
                                             "\tX: a\r\n\r\n",
                                             "X\r\n\r\n",
                                             "X : a\r\n\r\n",
                                             ": a\r\n\r\n",
                                             "X: a\n\r\n",
                                             "X: a\rb\r\n\r\n",
                                             "X: \0\r\n\r\n"s,
                                             "X: a\r\n b\r\n\r\n",
                                             "X: a\r\n\n",
                                             "X: a\r\n\rY",
                                             "X\0: a\r\n\r\n"s,
                                             "GET / HTTP/1.1\r\n\r\n"};
  for (const std::string& trailer : trailers) {
    all.push_back({.name = "trailer " + trailer,
                   .bytes = Chunked("0\r\n" + trailer),
                   .error = Http1Error::kBadTrailer});
  }
}

// Each octet at a place where a class of octets is allowed.
void AddOctets(std::vector<MalformedRequest>& all) {
  struct Place {
    std::string_view name;
    std::string_view before;
    std::string_view after;
    http::CharClass allowed;
    Http1Error error;
  };
  static constexpr std::array<Place, 4> kPlaces = {{
      {"method", "G", "T / HTTP/1.1\r\nHost: a\r\n\r\n", http::CharClass::kToken,
       Http1Error::kBadMethod},
      {"target", "GET /a", "b HTTP/1.1\r\nHost: a\r\n\r\n", http::CharClass::kTarget,
       Http1Error::kBadTarget},
      {"name", "GET / HTTP/1.1\r\nHost: a\r\nX", "Y: a\r\n\r\n", http::CharClass::kToken,
       Http1Error::kBadFieldName},
      {"value", "GET / HTTP/1.1\r\nHost: a\r\nX: a", "b\r\n\r\n", http::CharClass::kValue,
       Http1Error::kBadFieldValue},
  }};
  for (const Place& place : kPlaces) {
    for (int octet = 0; octet < 256; ++octet) {
      const char c = static_cast<char>(octet);
      if (http::IsClass(c, place.allowed) || (place.name == "name" && c == ':')) {
        continue;
      }
      Http1Error error = c == '\n' ? Http1Error::kBareLf : place.error;
      error = c == '\r' ? Http1Error::kBareCr : error;
      // A space in the method moves the parts of the line.
      error = place.name == "method" && c == ' ' ? Http1Error::kBadTarget : error;
      all.push_back({.name = Join({place.name, " octet ", std::to_string(octet)}),
                     .bytes = Join({place.before, std::string_view(&c, 1), place.after}),
                     .error = error});
    }
  }
}

}  // namespace

std::vector<MalformedRequest> MalformedRequests() {
  std::vector<MalformedRequest> all;
  AddStartLines(all);
  AddFields(all);
  AddHosts(all);
  AddLengths(all);
  AddTransferEncodings(all);
  AddChunks(all);
  AddOctets(all);
  return all;
}

std::vector<GoodRequests> WellFormedRequests() {
  const std::string get = WithFields("");
  return {
      {"get", get, 1},
      {"1.0", "GET / HTTP/1.0\r\n\r\n", 1},
      {"one empty line first", "\r\n" + get, 1},
      {"three", get + get + get, 3},
      {"counted", Post("Content-Length: 5\r\n", "hello") + get, 2},
      {"length zero", Post("Content-Length: 0\r\n", "") + get, 2},
      {"length with leading zeros", Post("Content-Length: 0005\r\n", "hello") + get, 2},
      {"length with white space", Post("Content-Length:   5  \r\n", "hello") + get, 2},
      {"chunked", Chunked("5\r\nhello\r\n0\r\n\r\n") + get, 2},
      {"chunked in capitals",
       Post("TRANSFER-ENCODING: CHUNKED\r\n", "A\r\n0123456789\r\n0\r\n\r\n") + get, 2},
      {"chunks", Chunked("1\r\na\r\n0a\r\n0123456789\r\n000\r\n\r\n") + get, 2},
      {"extension", Chunked("5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n") + get, 2},
      {"trailers", Chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n") + get, 2},
      {"request inside a body",
       Post("Content-Length: " + std::to_string(get.size()) + "\r\n", get) + get, 2},
      {"expect", Post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"), 1},
      {"absolute form", "GET http://a:8080/x?y HTTP/1.1\r\nHost: a:8080\r\n\r\n", 1},
      {"asterisk form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 1},
      {"empty value", WithFields("X:\r\nY: \t \r\n"), 1},
      {"obs-text", WithFields("X: \xc3\xa9\xff\r\n"), 1},
      {"delete", "DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n" + get, 2},
      {"close", WithFields("Connection: close\r\n"), 1},
  };
}

std::vector<MalformedResponse> MalformedResponses() {
  std::vector<MalformedResponse> all;
  const std::vector<std::pair<std::string, Http1Error>> lines = {
      {"HTTP/1.1", Http1Error::kBadStatus},
      {"HTTP/1.1 ", Http1Error::kBadStatus},
      {"HTTP/1.1 20", Http1Error::kBadStatus},
      {"HTTP/1.1  200 OK", Http1Error::kBadStatus},
      {"HTTP/1.1 2000 OK", Http1Error::kBadStartLine},
      {"HTTP/1.1 200OK", Http1Error::kBadStartLine},
      {"HTTP/1.1 099 OK", Http1Error::kBadStatus},
      {"HTTP/1.1 2x0 OK", Http1Error::kBadStatus},
      {"HTTP/1.1 +20 OK", Http1Error::kBadStatus},
      {"HTTP/1.1\t200 OK", Http1Error::kBadStatus},
      {"HTTP/2 200 OK", Http1Error::kBadVersion},
      {"HTTP/2.0 200 OK", Http1Error::kBadVersion},
      {"HTTP/0.9 200 OK", Http1Error::kBadVersion},
      {"ICY 200 OK", Http1Error::kBadVersion},
      {"http/1.1 200 OK", Http1Error::kBadVersion},
      {" HTTP/1.1 200 OK", Http1Error::kBadVersion},
      {"HTTP/1.1 200 \x01", Http1Error::kBadStartLine},
      {"HTTP/1.1 200 \0"s, Http1Error::kBadStartLine},
      {"HTTP/1.1 200 a\rb", Http1Error::kBareCr},
      {"HTTP/1.1 101 Switching Protocols", Http1Error::kBadStatus},
      {"<html>", Http1Error::kBadVersion},
  };
  for (const auto& [line, error] : lines) {
    all.push_back({.name = "line " + line,
                   .bytes = line + "\r\nContent-Length: 0\r\n\r\n",
                   .error = error,
                   .kind = {}});
  }
  const std::vector<std::pair<std::string, Http1Error>> fields = {
      {"Content-Length: 5\r\nContent-Length: 5", Http1Error::kRepeatedContentLength},
      {"Content-Length: -5", Http1Error::kBadContentLength},
      {"Content-Length: 5, 5", Http1Error::kBadContentLength},
      {"Content-Length: 5\r\nTransfer-Encoding: chunked", Http1Error::kBothLengths},
      {"Transfer-Encoding: chunked\r\nContent-Length: 5", Http1Error::kBothLengths},
      {"Transfer-Encoding: cow", Http1Error::kBadTransferEncoding},
      {"Transfer-Encoding: chunked, gzip", Http1Error::kBadTransferEncoding},
      {"X: a\r\n b", Http1Error::kObsFold},
      {"X : a", Http1Error::kBadFieldName},
      {"X: a\nY: b", Http1Error::kBareLf},
      {"X: a\rY: b", Http1Error::kBareCr},
      {"X: \0"s, Http1Error::kBadFieldValue},
  };
  for (const auto& [field, error] : fields) {
    all.push_back({.name = "field " + field,
                   .bytes = "HTTP/1.1 200 OK\r\n" + field + "\r\n\r\n",
                   .error = error,
                   .kind = {}});
  }
  const std::string chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  all.push_back({.name = "empty line first",
                 .bytes = "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                 .error = Http1Error::kBadVersion,
                 .kind = {}});
  all.push_back({.name = "LF line",
                 .bytes = "HTTP/1.1 200 OK\n\n",
                 .error = Http1Error::kBareLf,
                 .kind = {}});
  all.push_back({.name = "chunked 1.0",
                 .bytes = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                 .error = Http1Error::kBadTransferEncoding,
                 .kind = {}});
  all.push_back({.name = "chunk size",
                 .bytes = chunked + "x\r\n",
                 .error = Http1Error::kBadChunkSize,
                 .kind = {}});
  all.push_back({.name = "chunk end",
                 .bytes = chunked + "1\r\nab\r\n",
                 .error = Http1Error::kBadChunk,
                 .kind = {}});
  all.push_back({.name = "trailer",
                 .bytes = chunked + "0\r\n x\r\n\r\n",
                 .error = Http1Error::kBadTrailer,
                 .kind = {}});
  return all;
}

}  // namespace weir::test

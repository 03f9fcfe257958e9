#include <algorithm>
#include <string_view>

#include "agent/admin/flow_replay.h"
#include "tests/fuzz/property.h"

// Lines of a file of kept flows. Whatever the bytes: a line is a flow, a summary or neither, and
// what is given out is a line as it came, then one summary.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using weir::admin::FlowReplay;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  auto replay = FlowReplay::Create(
      "/v1/flows?all=1&sample=2&filter=duration%3E1s%20or%20not%20(tls%3D1.2%20and%20ip%3D::1)",
      {});
  WEIR_PROPERTY(replay.has_value());
  std::size_t begin = 0;
  while (begin <= text.size()) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    (void)replay->Take(line, [&](std::string_view out) {
      WEIR_PROPERTY(out == line);
      return true;
    });
    begin = end + 1;
  }
  std::size_t lines = 0;
  replay->Finish("file", [&](std::string_view out) {
    WEIR_PROPERTY(out.starts_with("{\"summary\":"));
    ++lines;
    return true;
  });
  WEIR_PROPERTY(lines == 1);
  return 0;
}

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weir::cli {

enum class ColorMode : std::uint8_t { kAuto, kAlways, kNever };
enum class Color : std::uint8_t { kNone, kBold, kDim, kRed, kGreen, kYellow, kCyan };

// What the terminal behind a stream can show.
struct Style {
  bool color = false;
  std::size_t width = 0;  // columns; 0: no limit, as in a pipe
};

// Style of `fd` (1 or 2): NO_COLOR, CLICOLOR_FORCE, TERM=dumb and COLUMNS are heeded.
Style StyleOf(int fd, ColorMode mode);

// Lines of the terminal behind `fd`; 24 where it does not tell.
std::size_t HeightOf(int fd);

// `text` in `color`, which never says anything that the word does not say too.
std::string Paint(const Style& style, Color color, std::string_view text);

// Columns that `text` takes: characters of UTF-8, without escape sequences.
std::size_t DisplayWidth(std::string_view text);

// `text` with what a terminal would act on (control characters) replaced: names and paths
// come from peers.
std::string Printable(std::string_view text);

// `text` in at most `width` columns: its middle gives way to "..", its colour stays.
std::string Shorten(std::string_view text, std::size_t width);

// Breaks `text` at blanks into lines of `width` (0: no break), each with `indent` blanks.
std::string Wrap(std::string_view text, std::size_t width, std::size_t indent);

// Table aligns columns; cells may hold escape sequences of Paint.
class Table {
 public:
  // Names that begin with '>' are right-aligned columns.
  // Within `width` columns (0: no limit) the widest texts are shortened; where that does not
  // do, the last columns are left out.
  explicit Table(std::vector<std::string> header, std::size_t width = 0);
  void Add(std::vector<std::string> row);
  // The rows added since the last call, the header before the first ones. Widths are
  // fixed by the first call, so that later rows of a stream stay below it.
  std::string Take();

 private:
  void FixWidths();

  std::vector<std::string> header_;
  std::vector<bool> right_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> widths_;  // of the columns that are shown
  std::size_t limit_;
};

}  // namespace weir::cli

#include "agent/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <utility>

namespace weir::cli {
namespace {

std::string_view Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::size_t WidthOf(int fd) {
  winsize size{};
  if (::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) {
    return size.ws_col;
  }
  constexpr std::size_t kDefaultWidth = 80;
  const std::string_view columns = Environment("COLUMNS");
  std::size_t width = 0;
  std::from_chars(columns.begin(), columns.end(), width);
  return width == 0 ? kDefaultWidth : width;
}

bool UsesColor(int fd, ColorMode mode) {
  if (mode != ColorMode::kAuto) {
    return mode == ColorMode::kAlways;
  }
  const std::string_view force = Environment("CLICOLOR_FORCE");
  if (!Environment("NO_COLOR").empty()) {
    return false;
  }
  return (!force.empty() && force != "0") || (::isatty(fd) == 1 && Environment("TERM") != "dumb");
}

std::string_view Sequence(Color color) {
  switch (color) {
    case Color::kNone:
      return "";
    case Color::kBold:
      return "\033[1m";
    case Color::kDim:
      return "\033[2m";
    case Color::kRed:
      return "\033[31m";
    case Color::kGreen:
      return "\033[32m";
    case Color::kYellow:
      return "\033[33m";
    case Color::kCyan:
      return "\033[36m";
  }
  return "";
}

}  // namespace

Style StyleOf(int fd, ColorMode mode) {
  return {.color = UsesColor(fd, mode), .width = ::isatty(fd) == 1 ? WidthOf(fd) : 0};
}

std::size_t HeightOf(int fd) {
  constexpr std::size_t kDefaultHeight = 24;
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row != 0 ? size.ws_row : kDefaultHeight;
}

std::string Paint(const Style& style, Color color, std::string_view text) {
  if (!style.color || color == Color::kNone) {
    return std::string(text);
  }
  return std::string(Sequence(color)) + std::string(text) + "\033[0m";
}

std::size_t DisplayWidth(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033') {
      i = std::min(text.find('m', i), text.size() - 1);
    } else if ((static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80) {
      ++width;
    }
  }
  return width;
}

std::string Printable(std::string_view text) {
  std::string clean;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // C1 controls are C2 80 to C2 9F in UTF-8.
    const bool c1 =
        byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (byte < 0x20 || byte == 0x7f || c1) {
      clean += '?';
      i += c1 ? 1 : 0;
    } else {
      clean += text[i];
    }
  }
  return clean;
}

std::string Wrap(std::string_view text, std::size_t width, std::size_t indent) {
  const std::string margin(indent, ' ');
  std::string wrapped = margin;
  std::size_t column = indent;
  while (!text.empty()) {
    const std::size_t begin = text.find_first_not_of(' ');
    if (begin == std::string_view::npos) {
      break;
    }
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string_view word = text.substr(begin, end - begin);
    text.remove_prefix(end);
    if (column != indent && width != 0 && column + 1 + DisplayWidth(word) > width) {
      wrapped += "\n" + margin;
      column = indent;
    }
    if (column != indent) {
      wrapped += ' ';
      ++column;
    }
    wrapped += word;
    column += DisplayWidth(word);
  }
  return wrapped + "\n";
}

std::string Shorten(std::string_view text, std::size_t width) {
  const std::size_t whole = DisplayWidth(text);
  constexpr std::size_t kDots = 2;
  if (whole <= width || width < kDots) {
    return std::string(text);
  }
  const std::size_t head = (width - kDots + 1) / 2;
  const std::size_t cut_end = whole - (width - kDots - head);
  std::string shortened;
  std::size_t at = 0;  // columns passed
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\033') {  // passed on wherever it stands
      const std::size_t end = std::min(text.find('m', i), text.size() - 1);
      shortened += text.substr(i, end - i + 1);
      i = end;
      continue;
    }
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80;
    at += begins ? 1 : 0;
    if (begins && at == head + 1) {
      shortened += "..";
    }
    if (at <= head || at > cut_end) {
      shortened += text[i];
    }
  }
  return shortened;
}

Table::Table(std::vector<std::string> header, std::size_t width)
    : header_(std::move(header)), limit_(width) {
  for (std::string& name : header_) {
    right_.push_back(name.starts_with('>'));
    name.erase(0, right_.back() ? 1 : 0);
  }
}

void Table::Add(std::vector<std::string> row) {
  rows_.push_back(std::move(row));
}

void Table::FixWidths() {
  constexpr std::size_t kGap = 2;
  constexpr std::size_t kShortestText = 12;
  widths_.resize(header_.size());
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths_[i] = std::max(widths_[i], DisplayWidth(row[i]));
    }
  }
  const auto excess = [&] {
    std::size_t total = 0;
    for (const std::size_t width : widths_) {
      total += width + kGap;
    }
    return limit_ == 0 || total <= limit_ + kGap ? 0 : total - kGap - limit_;
  };
  while (excess() != 0) {
    std::size_t widest = widths_.size();
    for (std::size_t i = 0; i < widths_.size(); ++i) {
      const bool can_shrink = !right_[i] && widths_[i] > kShortestText;
      if (can_shrink && (widest == widths_.size() || widths_[i] > widths_[widest])) {
        widest = i;
      }
    }
    if (widest != widths_.size()) {
      --widths_[widest];
    } else if (widths_.size() > 1) {
      widths_.pop_back();
    } else {
      return;
    }
  }
}

std::string Table::Take() {
  if (widths_.empty()) {
    rows_.insert(rows_.begin(), header_);
    FixWidths();
  }
  std::string text;
  for (const auto& row : std::exchange(rows_, {})) {
    for (std::size_t i = 0; i < widths_.size(); ++i) {
      // Rows that come later may be wider than the first ones.
      const std::string cell = limit_ == 0 ? row[i] : Shorten(row[i], widths_[i]);
      const std::size_t width = DisplayWidth(cell);
      const std::string padding(widths_[i] > width ? widths_[i] - width : 0, ' ');
      const bool last = i + 1 == widths_.size();
      text += right_[i] ? padding + cell : cell + (last ? "" : padding);
      text += last ? "\n" : "  ";
    }
  }
  return text;
}

}  // namespace weir::cli

#include "agent/cli/help.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "agent/base/file.h"
#include "agent/cli/command_notes.h"
#include "agent/cli/text.h"

namespace weir::cli {
namespace {

constexpr std::size_t kHelpColumn = 30;
constexpr std::size_t kWidestHelp = 100;

std::string Upper(std::string text) {
  std::ranges::transform(text, text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text;
}

std::string UsageOf(const CommandInfo& command) {
  std::string usage = command.path;
  const bool visible =
      std::ranges::any_of(command.commands, [](const auto& c) { return !c.hidden; });
  usage += visible ? " COMMAND" : "";
  usage += " [FLAGS]";
  for (const PositionalInfo& positional : command.positionals) {
    const std::string name = Upper(positional.name);
    usage += positional.required ? " " + name : " [" + name + "]";
  }
  return usage;
}

std::string NamesOf(const OptionInfo& option) {
  std::string names = option.names.front().starts_with("--") ? "    " : "";
  names += Join(option.names, ", ");
  return option.value.empty() ? names : names + " " + option.value;
}

// "  LEFT      text", the text wrapped below itself.
std::string Row(const std::string& left, const std::string& help, std::size_t width) {
  std::string row = "  " + left;
  const std::string wrapped = Wrap(help, width, kHelpColumn);
  if (DisplayWidth(row) + 1 >= kHelpColumn) {
    return row + "\n" + wrapped;
  }
  row.resize(kHelpColumn, ' ');
  return row + wrapped.substr(kHelpColumn);
}

std::vector<std::string> GroupsOf(const CommandInfo& command) {
  std::vector<std::string> groups;
  for (const OptionInfo& option : command.options) {
    if (!option.group.empty() && std::ranges::find(groups, option.group) == groups.end()) {
      groups.push_back(option.group);
    }
  }
  return groups;
}

// CLI11's name for flags that were given none.
std::string TitleOf(const std::string& group) {
  return group == "Options" ? "Flags" : group + " flags";
}

std::size_t WidthFor(const Style& style) {
  return style.width == 0 ? kWidestHelp : std::min(style.width, kWidestHelp);
}

std::string Heading(const Style& style, const std::string& title) {
  return "\n" + Paint(style, Color::kBold, title) + "\n";
}

// Text of a manual page: roff takes a leading dot or quote and any backslash for its own.
std::string Roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if ((c == '.' || c == '\'') && (escaped.empty() || escaped.back() == '\n')) {
      escaped += "\\&";
    }
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string ManualFlags(const CommandInfo& command) {
  std::string page;
  for (const std::string& group : GroupsOf(command)) {
    page += ".SS " + Roff(TitleOf(group)) + "\n";
    for (const OptionInfo& option : command.options) {
      if (option.group == group) {
        page += ".TP\n.B " + Roff(Join(option.names, ", ")) +
                (option.value.empty() ? "" : " \\fI" + Roff(option.value) + "\\fR") + "\n" +
                Roff(option.help) + ".\n";
      }
    }
  }
  return page;
}

std::string ManualExamples(const CommandInfo& command) {
  std::string page;
  for (const Example& example : command.examples) {
    page += ".TP\n.B " + Roff(example.command) + "\n" + Roff(example.meaning) + ".\n";
  }
  return page;
}

void AppendManual(std::string& page, const CommandInfo& command, bool nested) {
  if (nested) {
    page += ".SH \"" + Upper(Roff(command.path)) + "\"\n" + Roff(command.help) + ".\n.P\n.B " +
            Roff(UsageOf(command)) + "\n";
  }
  page += ManualFlags(command);
  for (const std::string& paragraph : Split(command.notes, '\n')) {
    page += paragraph.empty() ? "" : ".P\n" + Roff(paragraph) + "\n";
  }
  if (!command.examples.empty()) {
    page += (nested ? ".SS Examples\n" : ".SH EXAMPLES\n") + ManualExamples(command);
  }
}

}  // namespace

std::string RenderHelp(const CommandInfo& command, const Style& style) {
  const std::size_t width = WidthFor(style);
  std::string text = command.path + ": " + command.help + "\n";
  if (!command.examples.empty()) {
    text += Heading(style, "Examples");
    for (const Example& example : command.examples) {
      text += "  " + Paint(style, Color::kCyan, example.command) + "\n" +
              Wrap(example.meaning, width, 6);
    }
  }
  text += Heading(style, "Usage") + "  " + UsageOf(command) + "\n";
  for (const PositionalInfo& positional : command.positionals) {
    text += Row(Upper(positional.name), positional.help, width);
  }
  if (std::ranges::any_of(command.commands, [](const auto& c) { return !c.hidden; })) {
    text += Heading(style, "Commands");
    for (const CommandInfo& below : command.commands) {
      text += below.hidden ? "" : Row(below.name, below.help, width);
    }
  }
  for (const std::string& group : GroupsOf(command)) {
    text += Heading(style, TitleOf(group));
    for (const OptionInfo& option : command.options) {
      text += option.group == group ? Row(NamesOf(option), option.help, width) : "";
    }
  }
  for (const std::string& paragraph : Split(command.notes, '\n')) {
    text += paragraph.empty() ? "" : "\n" + Wrap(paragraph, width, 0);
  }
  return text;
}

std::string RenderOverview(const CommandInfo& root, const Style& style) {
  std::string text = root.path + ": " + root.help + "\n\n";
  for (const Example& example : root.examples) {
    text += "  " + Paint(style, Color::kCyan, example.command) + "\n" +
            Wrap(example.meaning, WidthFor(style), 6);
  }
  return text + "\nweir --help lists all commands, weir help COMMAND explains one.\n";
}

std::string RenderManual(const CommandInfo& command, const std::string& version) {
  std::string name = command.path;
  std::ranges::replace(name, ' ', '-');
  std::string page = ".TH " + Upper(Roff(name)) + " 1 \"\" \"weir " + Roff(version) +
                     "\" \"weir manual\"\n.SH NAME\n" + Roff(name) + " \\- " + Roff(command.help) +
                     "\n.SH SYNOPSIS\n.B " + Roff(UsageOf(command)) + "\n";
  page += ".SH DESCRIPTION\n" + Roff(command.help) + ".\n";
  for (const PositionalInfo& positional : command.positionals) {
    page += ".TP\n.I " + Roff(Upper(positional.name)) + "\n" + Roff(positional.help) + ".\n";
  }
  const bool top = command.path == command.name;
  if (top) {
    page += ".SH COMMANDS\n";
    for (const CommandInfo& below : command.commands) {
      page += below.hidden
                  ? ""
                  : ".TP\n.BR weir\\-" + Roff(below.name) + " (1)\n" + Roff(below.help) + ".\n";
    }
  }
  page += ".SH FLAGS\n";
  AppendManual(page, command, /*nested=*/false);
  for (const CommandInfo& below : command.commands) {
    if (!top && !below.hidden) {
      AppendManual(page, below, /*nested=*/true);
    }
  }
  if (name == "weir-flows") {
    page += ".SH FILTER\n.nf\n" + Roff(TopicText("filter")) + ".fi\n";
  }
  page += ".SH \"EXIT STATUS\"\n.nf\n" + Roff(TopicText("exit-codes")) + ".fi\n";
  page += ".SH \"SEE ALSO\"\n.BR " + std::string(top ? "weir\\-flows" : "weir") +
          " (1),\n.BR weir\\-agent (8)\n";
  return page;
}

Outcome<void> WriteManuals(const CommandInfo& root, const std::string& directory,
                           const std::string& version) {
  const auto write = [&](const CommandInfo& command) -> Outcome<void> {
    std::string name = command.path;
    std::ranges::replace(name, ' ', '-');
    const auto written = base::WriteFileAtomically(directory + "/" + name + ".1",
                                                   RenderManual(command, version), 0644);
    return written ? Outcome<void>{} : std::unexpected(FromError(written.error()));
  };
  if (auto written = write(root); !written) {
    return written;
  }
  for (const CommandInfo& command : root.commands) {
    if (command.hidden) {
      continue;
    }
    if (auto written = write(command); !written) {
      return written;
    }
  }
  return {};
}

}  // namespace weir::cli

#include "agent/cli/completion.h"

#include <algorithm>
#include <utility>

#include "agent/cli/text.h"

namespace weir::cli {
namespace {

constexpr std::string_view kBash = R"(# weir completion for bash
_weir() {
  local IFS=$'\n'
  COMPREPLY=($(weir __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[/=,] ]]; then
    compopt -o nospace
  fi
}
complete -o default -F _weir weir
)";

constexpr std::string_view kZsh = R"(#compdef weir
# weir completion for zsh
_weir() {
  local -a candidates
  candidates=("${(@f)$(weir __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if (( ${#candidates} )) && [[ -n ${candidates[1]} ]]; then
    compadd -Q -- "${candidates[@]}"
  else
    _files
  fi
}
if [[ ${funcstack[1]} == _weir ]]; then _weir "$@"; else compdef _weir weir; fi
)";

constexpr std::string_view kFish = R"(# weir completion for fish
function __weir_complete
  set -l words (commandline --tokenize --cut-at-cursor --current-process)
  weir __complete $words[2..-1] (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command weir --no-files --arguments '(__weir_complete)'
)";

const OptionInfo* FindOption(const std::vector<const CommandInfo*>& commands,
                             const std::string& name) {
  for (const CommandInfo* command : commands) {
    for (const OptionInfo& option : command->options) {
      if (std::ranges::find(option.names, name) != option.names.end()) {
        return &option;
      }
    }
  }
  return nullptr;
}

// What the words before the last one mean.
struct Position {
  std::vector<const CommandInfo*> commands{};  // the innermost first, for its flags and the global
  const OptionInfo* awaiting = nullptr;        // a flag whose value comes next
  std::size_t positionals = 0;                 // given to the innermost command
};

Position Walk(const CommandInfo& root, const std::vector<std::string>& words) {
  Position at{.commands = {&root}};
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (std::exchange(at.awaiting, nullptr) != nullptr) {
      continue;
    }
    if (word.starts_with('-')) {
      const OptionInfo* option = FindOption(at.commands, word);
      at.awaiting = option != nullptr && !option->value.empty() ? option : nullptr;
      continue;
    }
    const auto& below = at.commands.front()->commands;
    const auto command = std::ranges::find(below, word, &CommandInfo::name);
    if (command != below.end()) {
      at.commands.insert(at.commands.begin(), &*command);
      at.positionals = 0;
    } else {
      ++at.positionals;
    }
  }
  return at;
}

std::vector<std::string> ValuesOf(const std::vector<std::string>& choices, std::string_view value,
                                  const LiveValues& live) {
  return choices.empty() ? live(value) : choices;
}

std::vector<std::string> FlagNames(const Position& at, const std::string& typed) {
  std::vector<std::string> names;
  for (const CommandInfo* command : at.commands) {
    for (const OptionInfo& option : command->options) {
      // Twins of a filter flag are many: only for who begins to type one.
      const bool shown = !option.group.empty() || typed.size() > 3;
      if (shown) {
        names.push_back(option.names.back());
      }
    }
  }
  return names;
}

std::vector<std::string> WordNames(const Position& at, const LiveValues& live) {
  const CommandInfo& command = *at.commands.front();
  std::vector<std::string> names;
  for (const CommandInfo& below : command.commands) {
    if (!below.hidden) {
      names.push_back(below.name);
    }
  }
  if (at.positionals < command.positionals.size()) {
    const PositionalInfo& positional = command.positionals[at.positionals];
    const std::string kind = command.path == "weir traces" ? "ID"
                             : positional.name == "name" || positional.name == "subject"
                                 ? "NS/NAME"
                                 : positional.name;
    std::ranges::move(ValuesOf(positional.choices, kind, live), std::back_inserter(names));
  }
  if (command.path == "weir help") {
    for (const CommandInfo& topic : at.commands.back()->commands) {
      if (!topic.hidden) {
        names.push_back(topic.name);
      }
    }
    names.emplace_back("exit-codes");
    names.emplace_back("filter");
  }
  return names;
}

}  // namespace

std::vector<std::string> Complete(const CommandInfo& root, const std::vector<std::string>& words,
                                  const LiveValues& live) {
  const std::string typed = words.empty() ? "" : words.back();
  const Position at = Walk(root, words);
  std::vector<std::string> names;
  std::string prefix;  // what stands before the part that is completed
  if (at.awaiting != nullptr) {
    const std::size_t comma = typed.rfind(',');
    prefix = typed.substr(0, comma == std::string::npos ? 0 : comma + 1);
    names = ValuesOf(at.awaiting->choices, at.awaiting->value, live);
  } else if (typed.starts_with('-')) {
    names = FlagNames(at, typed);
  } else {
    names = WordNames(at, live);
  }
  std::vector<std::string> candidates;
  for (const std::string& name : names) {
    if ((prefix + name).starts_with(typed)) {
      candidates.push_back(prefix + name);
    }
  }
  std::ranges::sort(candidates);
  const auto repeated = std::ranges::unique(candidates);
  candidates.erase(repeated.begin(), repeated.end());
  return candidates;
}

std::string CompletionScript(std::string_view shell) {
  if (shell == "bash") {
    return std::string(kBash);
  }
  if (shell == "zsh") {
    return std::string(kZsh);
  }
  return shell == "fish" ? std::string(kFish) : std::string();
}

}  // namespace weir::cli

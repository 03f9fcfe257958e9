#include "agent/cli/json_forms.h"

#include <algorithm>
#include <boost/json.hpp>
#include <cctype>
#include <cstdio>
#include <utility>

#include "agent/cli/agent.h"
#include "agent/cli/terminal.h"
#include "agent/cli/text.h"

namespace weir::cli {
namespace {

namespace json = boost::json;

bool IsPlainYaml(std::string_view text) {
  // Words that some reader takes for a boolean or for nothing (YAML 1.1 section 10.3).
  static constexpr std::string_view kWords[] = {"true", "false", "yes",  "no", "on",
                                                "off",  "null",  "none", "y",  "n"};
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto is_plain = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_./-+@").find(c) != std::string_view::npos;
  };
  return !text.empty() &&
         (std::isalpha(static_cast<unsigned char>(text.front())) != 0 || text.front() == '/') &&
         std::ranges::all_of(text, is_plain) &&
         std::ranges::find(kWords, lower) == std::end(kWords);
}

// Strings of JSON are strings of YAML.
std::string YamlScalar(const json::value& value) {
  const bool plain = value.is_string() && IsPlainYaml(value.get_string());
  return plain ? std::string(value.get_string()) : json::serialize(value);
}

bool IsNested(const json::value& value) {
  return (value.is_object() && !value.get_object().empty()) ||
         (value.is_array() && !value.get_array().empty());
}

void AppendYaml(const json::value& value, std::size_t indent, std::string& out);

// The members of an object, each on a line of its own; the first without indentation, when it
// stands behind the dash of a list.
void AppendMembers(const json::object& object, std::size_t indent, bool behind_dash,
                   std::string& out) {
  for (const auto& [key, value] : object) {
    out += std::string(behind_dash ? 0 : indent, ' ');
    behind_dash = false;
    out += YamlScalar(json::value(key)) + ":";
    if (IsNested(value)) {
      out += "\n";
      AppendYaml(value, indent + 2, out);
    } else {
      out += " " + YamlScalar(value) + "\n";
    }
  }
}

void AppendYaml(const json::value& value, std::size_t indent, std::string& out) {
  if (value.is_object() && IsNested(value)) {
    AppendMembers(value.get_object(), indent, /*behind_dash=*/false, out);
  } else if (value.is_array() && IsNested(value)) {
    for (const json::value& item : value.get_array()) {
      out += std::string(indent, ' ') + "- ";
      if (item.is_object() && IsNested(item)) {
        AppendMembers(item.get_object(), indent + 2, /*behind_dash=*/true, out);
      } else {
        out += YamlScalar(item) + "\n";  // lists of lists are in no message
      }
    }
  } else {
    out += std::string(indent, ' ') + YamlScalar(value) + "\n";
  }
}

// The member at `path` ("http.status") as text; "-" if it is not there or empty.
std::string TextAt(const json::value& object, std::string_view path) {
  const json::value* at = &object;
  while (at != nullptr && !path.empty()) {
    if (!at->is_object()) {
      return "-";
    }
    const json::object& members = at->get_object();
    // Keys of maps have dots themselves.
    const bool whole = members.contains(path);
    const std::size_t dot = whole ? std::string_view::npos : path.find('.');
    at = members.if_contains(path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  if (at == nullptr || at->is_null()) {
    return "-";
  }
  const std::string text = at->is_string() ? std::string(at->get_string()) : json::serialize(*at);
  return text.empty() ? "-" : Printable(text);
}

std::vector<json::value> ItemsOf(const json::value& document, std::string_view member) {
  if (member.empty()) {
    return {document};
  }
  const json::value* list = document.get_object().if_contains(member);
  if (list == nullptr || !list->is_array()) {
    return {};
  }
  return std::vector<json::value>(list->get_array().begin(), list->get_array().end());
}

std::string TableOf(const std::vector<json::value>& items, const std::vector<std::string>& fields,
                    const Style& style) {
  std::vector<std::string> header = fields;
  for (std::string& name : header) {
    std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::toupper(c); });
  }
  Table table(header, style.width);
  for (const json::value& item : items) {
    std::vector<std::string> row;
    std::ranges::transform(fields, std::back_inserter(row),
                           [&](const std::string& field) { return TextAt(item, field); });
    table.Add(std::move(row));
  }
  return items.empty() ? "" : table.Take();
}

}  // namespace

std::string ToYaml(const json::value& document) {
  std::string out;
  AppendYaml(document, 0, out);
  return out;
}

Outcome<Template> Template::Parse(std::string_view text) {
  Template made;
  made.parts_.emplace_back();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const std::string_view rest = text.substr(i);
    if (rest.starts_with("{{") || rest.starts_with("}}")) {
      made.parts_.back().text += rest[0];
      ++i;
    } else if (rest.starts_with("\\n") || rest.starts_with("\\t")) {
      made.parts_.back().text += rest[1] == 'n' ? '\n' : '\t';
      ++i;
    } else if (rest[0] == '{') {
      const std::size_t end = rest.find('}');
      if (end == std::string_view::npos || end == 1) {
        return std::unexpected(
            Failure{.exit_code = kExitUsage,
                    .what = "the template's brace in column " + std::to_string(i + 1) +
                            (end == 1 ? " names nothing" : " is never closed"),
                    .why = {},
                    .remedy = "-o 'template={source.workload} {http.path}'; a brace itself is {{"});
      }
      made.parts_.push_back({.text = std::string(rest.substr(1, end - 1)), .is_path = true});
      made.parts_.emplace_back();
      i += end;
    } else {
      made.parts_.back().text += rest[0];
    }
  }
  return made;
}

std::string Template::Render(const json::value& object) const {
  std::string text;
  for (const Part& part : parts_) {
    text += part.is_path ? TextAt(object, part.text) : part.text;
  }
  return text.ends_with('\n') ? text : text + "\n";
}

std::vector<std::string> Template::paths() const {
  std::vector<std::string> paths;
  for (const Part& part : parts_) {
    if (part.is_path) {
      paths.push_back(part.text);
    }
  }
  return paths;
}

std::optional<Outcome<std::string>> Structured(const google::protobuf::Message& document,
                                               const ListForm& form, const Output& output,
                                               const Style& style) {
  if (output.format == Format::kJson) {
    return ToPrettyJson(document);
  }
  const bool known = output.format == Format::kYaml || output.format == Format::kName ||
                     output.format == Format::kCustom || output.format == Format::kTemplate;
  if (!known) {
    return std::nullopt;
  }
  const json::value value = json::parse(ToPrettyJson(document));
  if (output.format == Format::kYaml) {
    return ToYaml(value);
  }
  const auto items = ItemsOf(value, form.member);
  if (output.format == Format::kCustom) {
    return TableOf(items, Split(output.argument, ','), style);
  }
  const auto parsed = Template::Parse(output.format == Format::kName ? form.name : output.argument);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  std::string text;
  for (const json::value& item : items) {
    const std::string line = parsed->Render(item);
    // A VM's workload has no namespace.
    const bool bare = output.format == Format::kName && line.starts_with("-/");
    text += bare ? line.substr(2) : line;
  }
  return text;
}

std::optional<int> PrintStructured(const google::protobuf::Message& document, const ListForm& form,
                                   const Output& output, const Style& style, int code) {
  const auto text = Structured(document, form, output, style);
  if (!text) {
    return std::nullopt;
  }
  if (!*text) {
    return Report(text->error());
  }
  (void)std::fputs((*text)->c_str(), stdout);
  return code;
}

}  // namespace weir::cli

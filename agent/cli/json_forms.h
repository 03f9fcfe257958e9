#pragma once

#include <boost/json/fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/cli/failure.h"
#include "agent/cli/options.h"

namespace google::protobuf {
class Message;
}

// Forms of the output that are made of its JSON form, whatever it is of.
namespace weir::cli {

// One YAML document of a JSON one, ended by a line end. Only what every reader takes for a
// string stands without quotes. Pure.
std::string ToYaml(const boost::json::value& json);

// Template is text with members of a JSON object in it: "{source.workload} {http.path}\n".
// Braces themselves are written twice; \n and \t are a line end and a tab.
class Template {
 public:
  static Outcome<Template> Parse(std::string_view text);
  // With a line end, if it does not end with one. What is not there is "-".
  [[nodiscard]] std::string Render(const boost::json::value& object) const;
  // The members that it names.
  [[nodiscard]] std::vector<std::string> paths() const;

 private:
  struct Part {
    std::string text;
    bool is_path = false;
  };
  std::vector<Part> parts_;
};

// Which member of a document holds what it lists, and how one of those is named. Without a
// member the document itself is the only one.
struct ListForm {
  std::string_view member;
  std::string_view name;  // a template
};

// `document` as `output` wants it; nothing if that is no form that JSON is enough for.
std::optional<Outcome<std::string>> Structured(const google::protobuf::Message& document,
                                               const ListForm& form, const Output& output,
                                               const Style& style);

// Prints that to standard output; the exit code, `code` if all is well. Nothing: as above.
std::optional<int> PrintStructured(const google::protobuf::Message& document, const ListForm& form,
                                   const Output& output, const Style& style, int code);

}  // namespace weir::cli

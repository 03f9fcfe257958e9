#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/cli/terminal.h"
#include "agent/cli/text.h"

// What the flags of each command come to. Plain values: commands.cc fills them, the
// commands read them.
namespace weir::cli {

struct GlobalOptions {
  std::vector<std::string> sockets;
  ColorMode color = ColorMode::kAuto;
  bool quiet = false;     // no summary line
  bool no_trunc = false;  // tables as wide as they get, on a terminal too
  TimeFormat time_format = TimeFormat::kLocal;
  std::chrono::milliseconds timeout{10'000};
};

enum class Format : std::uint8_t {
  kText,
  kCompact,
  kTable,
  kWide,
  kTree,
  kWaterfall,
  kDict,
  kJson,
  kJsonLines,
  kYaml,
  kOtlp,
  kName,
  kCustom,
  kTemplate,
  kDot,
  kMermaid,
  kJunit
};

// What -o said.
struct Output {
  Format format = Format::kText;
  std::string argument{};  // of custom= and template=
};

// Style of standard output.
inline Style StyleOf(const GlobalOptions& options) {
  Style style = StyleOf(1, options.color);
  style.width = options.no_trunc ? 0 : style.width;
  return style;
}

// A flag that stands for a term of the filter: --from-workload shop/cart.
struct FlagTerm {
  std::string field;  // src
  std::string op;     // =
  bool negated = false;
  std::string value;  // as given; commas separate alternatives, except for `~`
};

struct FlowsOptions {
  bool follow = false;
  bool all = false;
  std::optional<std::uint64_t> last;
  std::optional<std::uint64_t> first;
  std::optional<std::uint64_t> count;
  std::optional<std::uint32_t> max_rps;
  std::string sample;  // 1/N
  std::string since;
  std::string until;
  std::vector<FlagTerm> terms;
  std::string expression;  // the positional one
  bool print_filter = false;
  bool exit_empty = false;
  bool numeric = false;
  bool tree = false;                // each below its parent, if that is there
  std::vector<std::string> fields;  // columns, or members of the JSON form; empty: all
  std::string input_file;           // lines that were kept, "-": standard input; empty: the agent
  Output output{.format = Format::kCompact};
};

struct StatusOptions {
  bool check = false;
  std::string workload;
  Output output;
};

enum class FailOn : std::uint8_t { kWarn, kFail };

struct CheckOptions {
  std::string subject;  // a workload or unit:NAME; empty: the node
  bool pre = false;
  bool verbose = false;
  std::string describe;  // a code
  std::string only;
  std::vector<std::string> skip;
  FailOn fail_on = FailOn::kFail;
  std::chrono::milliseconds wait{0};
  bool ignore_warnings = false;  // --wait waits for failures only
  bool clean_leftovers = false;
  std::string agent_config;  // for --pre and --clean-leftovers; empty: the usual one
  Output output;
};

struct TracesOptions {
  std::string id;  // empty: list
  std::uint64_t limit = 20;
  std::string since;
  std::optional<std::string> slow;  // the slowest first; a duration: as long as this or longer
  std::string service;
  bool errors = false;
  Output output;
};

struct MapOptions {
  std::string window = "5m";  // an age or a time, as --since takes it
  std::string focus;          // a workload; empty: all
  std::uint32_t depth = 1;    // edges between it and what is shown
  double min_rps = 0;
  bool unencrypted = false;  // only edges with traffic in the clear
  std::string diff;          // an earlier map's JSON form, to be compared with; "-": standard input
  Output output;
};

enum class TopSort : std::uint8_t { kRate, kP99, kErrors, kBytes, kCpu };

struct TopOptions {
  std::string by = "pair";
  std::string window = "10s";
  TopSort sort = TopSort::kRate;
  std::uint64_t limit = 1000;
  std::chrono::milliseconds interval{2000};
  bool once = false;
  Output output;
};

struct ListOptions {
  std::string name;  // empty: all
  Output output;
};

struct ConfigCheckOptions {
  std::string directory;
  std::string agent_config;
};

// Of both policy commands: the files that the answer comes from, and the question.
struct PolicyOptions {
  std::string agent_config = "/etc/weir/agent.yaml";
  std::string documents;     // a directory; empty: agent.yaml's
  std::string trust_domain;  // not empty: without an agent.yaml
  std::string from;          // a workload, a SPIFFE ID, or "outside"
  std::string to;
  std::uint16_t port = 0;  // 0: the first inbound's
  std::string server_name;
};

struct CaInitOptions {
  std::string trust_domain;
  std::string directory = "/etc/weir/ca";
  std::uint32_t days = 3652;
  bool force = false;
};

struct CaNodeOptions {
  std::string node;
  std::string directory = "/etc/weir/ca";
  std::uint32_t days = 7;
  bool force = false;
};

// Everything that the command line can say.
struct Options {
  GlobalOptions global;
  FlowsOptions flows;
  StatusOptions status;
  CheckOptions check;
  TracesOptions traces;
  MapOptions map;
  TopOptions top;
  ListOptions workloads;
  ListOptions certs;
  ConfigCheckOptions config_check;
  PolicyOptions policy;
  CaInitOptions ca_init;
  CaNodeOptions ca_node;
  std::string completion_shell;
  std::string help_topic;
  std::string man_directory;
  std::vector<std::string> uninstall_arguments;
};

}  // namespace weir::cli

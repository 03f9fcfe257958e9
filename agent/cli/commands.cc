#include "agent/cli/commands.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <utility>

#include "agent/base/nearest_name.h"
#include "agent/cli/command_notes.h"
#include "agent/cli/filter_flags.h"

namespace weir::cli {
namespace {

constexpr char kDefaultSocket[] = "/run/weir/admin.sock";
constexpr char kHidden[] = "";

const std::map<std::string, Format> kFormats = {
    {"text", Format::kText}, {"short", Format::kText},      {"table", Format::kTable},
    {"tree", Format::kTree}, {"compact", Format::kCompact}, {"wide", Format::kWide},
    {"json", Format::kJson}, {"jsonl", Format::kJsonLines}, {"waterfall", Format::kWaterfall},
    {"yaml", Format::kYaml}, {"dict", Format::kDict},       {"otlp", Format::kOtlp},
    {"name", Format::kName}, {"custom", Format::kCustom},   {"template", Format::kTemplate},
    {"dot", Format::kDot},   {"mermaid", Format::kMermaid}, {"junit", Format::kJunit}};
const std::map<std::string, TimeFormat> kTimeFormats = {{"local", TimeFormat::kLocal},
                                                        {"utc", TimeFormat::kUtc},
                                                        {"full", TimeFormat::kFull},
                                                        {"rel", TimeFormat::kRelative},
                                                        {"epoch", TimeFormat::kEpoch}};
const std::map<std::string, ColorMode> kColors = {
    {"auto", ColorMode::kAuto}, {"always", ColorMode::kAlways}, {"never", ColorMode::kNever}};

// The names of `choices`, "a|b", for one flag.
template <typename T>
void AddChoice(CLI::App& app, const std::string& flags, T& target,
               const std::map<std::string, T>& all, const std::string& choices,
               const std::string& help) {
  const std::vector<std::string> names = Split(choices, '|');
  app.add_option_function<std::string>(
         flags, [&target, &all](const std::string& name) { target = all.at(name); }, help)
      ->check(CLI::IsMember(names))
      ->type_name(choices);
}

// -o: one of `choices`, of which those that end in '=' take an argument behind it.
void AddOutput(CLI::App& app, Output& target, const std::string& choices) {
  const auto parse = [&target, choices](const std::string& text) {
    const std::size_t equals = text.find('=');
    const std::string name = text.substr(0, equals);
    const std::string argument = equals == std::string::npos ? "" : text.substr(equals + 1);
    const std::vector<std::string> known = Split(choices, '|');
    const bool takes_argument = std::ranges::find(known, name + "=") != known.end();
    if (!takes_argument &&
        (equals != std::string::npos || std::ranges::find(known, name) == known.end())) {
      throw CLI::ValidationError("'" + text + "' is no form of this output: one of " +
                                 Join(known, ", "));
    }
    if (takes_argument && argument.empty()) {
      throw CLI::ValidationError("'" + name + "=' wants what it is made of behind it");
    }
    target = {.format = kFormats.at(name), .argument = argument};
  };
  app.add_option_function<std::string>("-o,--output", parse, "form of the output")
      ->type_name(choices);
}

std::chrono::milliseconds ToMilliseconds(const std::string& text) {
  static const std::map<std::string, double> kUnits = {
      {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
  std::size_t used = 0;
  double number = -1;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const auto unit = kUnits.find(text.substr(used));
  constexpr double kMostMilliseconds = 86'400'000;
  if (used == 0 || unit == kUnits.end() || number < 0 ||
      number * unit->second > kMostMilliseconds) {
    throw CLI::ValidationError("'" + text + "' is not a duration such as 30s");
  }
  return std::chrono::milliseconds(static_cast<std::int64_t>(number * unit->second));
}

void AddDuration(CLI::App& app, const std::string& flags, std::chrono::milliseconds& target,
                 const std::string& help) {
  app.add_option_function<std::string>(
         flags, [&target](const std::string& text) { target = ToMilliseconds(text); }, help)
      ->type_name("DURATION");
}

CLI::App* AddCommand(CLI::App& parent, const std::string& name, const std::string& help) {
  CLI::App* command = parent.add_subcommand(name, help);
  command->fallthrough();  // global flags may follow the command
  return command;
}

void AddGlobals(CLI::App& app, GlobalOptions& options) {
  app.add_option("--socket", options.sockets,
                 "the agent's socket; several for the agents of one machine")
      ->envname("WEIR_SOCKET")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("PATH")
      ->group("Global");
  AddChoice(app, "--color", options.color, kColors, "auto|always|never",
            "whether words are coloured");
  app.get_option("--color")->group("Global");
  app.add_flag("-q,--quiet", options.quiet, "no summary line")->group("Global");
  app.add_flag("--no-trunc", options.no_trunc, "tables as wide as they get, on a terminal too")
      ->group("Global");
  AddChoice(app, "--time,--time-format", options.time_format, kTimeFormats,
            "local|utc|full|rel|epoch", "form of times");
  app.get_option("--time")->group("Global");
  AddDuration(app, "--timeout", options.timeout,
              "how long to wait for the agent (10s, or WEIR_TIMEOUT)");
  app.get_option("--timeout")->envname("WEIR_TIMEOUT")->group("Global");
}

// One form of a filter flag. Only the plain forms stand in help; the notes of the command
// say how the others are made.
void AddFilterForm(CLI::App& app, std::vector<FlagTerm>& terms, const FilterFlag& flag,
                   const std::string& name, const std::string& field, bool negated) {
  FlagTerm term{.field = field, .op = std::string(flag.op), .negated = negated, .value = {}};
  const bool plain = name == "--" + std::string(flag.name) && flag.name != "pod";
  const std::string names = name == "--namespace" ? "-n," + name : name;
  app.add_option_function<std::vector<std::string>>(
         names,
         [&terms, term](const std::vector<std::string>& values) {
           for (const std::string& value : values) {
             terms.push_back(term);
             terms.back().value = value;
           }
         },
         std::string(flag.help))
      ->allow_extra_args(false)
      ->type_name(std::string(flag.value))
      ->group(plain ? "Filter" : kHidden);
}

void AddFilterFlags(CLI::App& app, std::vector<FlagTerm>& terms) {
  for (const FilterFlag& flag : FilterFlags()) {
    for (const bool negated : {false, true}) {
      const std::string dashes = negated ? "--not-" : "--";
      const std::string name(flag.name);
      AddFilterForm(app, terms, flag, dashes + name, std::string(flag.field), negated);
      if (flag.sides) {
        AddFilterForm(app, terms, flag, dashes + "from-" + name, SideField(flag.field, "from"),
                      negated);
        AddFilterForm(app, terms, flag, dashes + "to-" + name, SideField(flag.field, "to"),
                      negated);
      }
    }
  }
}

void AddFlows(CLI::App& root, FlowsOptions& options) {
  CLI::App* app = AddCommand(root, "flows", "show connections and requests, the last 20 first");
  app->add_flag("-f,--follow", options.follow, "go on with what comes")->group("Selection");
  app->add_option("--last", options.last, "the newest N that match (20)")
      ->type_name("N")
      ->group("Selection");
  app->add_option("--first", options.first, "the oldest N that match")
      ->type_name("N")
      ->group("Selection")
      ->excludes("--last");
  app->add_flag("--all", options.all, "everything that the agent has")
      ->group("Selection")
      ->excludes("--last");
  app->add_option("--since", options.since, "ended since: 5m, 14:00 or RFC 3339")
      ->type_name("TIME")
      ->group("Selection");
  app->add_option("--until", options.until, "ended before, in the same forms")
      ->type_name("TIME")
      ->group("Selection");
  app->add_option("--max-rps", options.max_rps, "leave out what exceeds N in a second")
      ->type_name("N")
      ->group("Selection");
  app->add_option("--count", options.count, "end after N flows")
      ->type_name("N")
      ->group("Selection");
  app->add_option("--sample", options.sample, "one in N of what matches; of a trace all or none")
      ->type_name("1/N")
      ->group("Selection");
  AddFilterFlags(*app, options.terms);
  // Says aloud what holds without -n.
  app->add_flag_callback(
         "-A,--all-namespaces", [] {}, "every namespace; what is shown without -n")
      ->group("Filter")
      ->excludes("--namespace");
  app->add_option("filter", options.expression, "filter expression, see weir help filter");
  AddOutput(*app, options.output, "compact|table|wide|dict|json|jsonl|yaml|otlp|template=");
  app->add_option("--input-file", options.input_file,
                  "flows that -o jsonl wrote, - from standard input, instead of the agent's")
      ->type_name("FILE");
  app->add_option("--fields", options.fields,
                  "columns of the table, or members of the JSON form, by commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("COLUMNS");
  app->add_flag("--tree", options.tree, "each flow indented below the one that caused it");
  app->add_flag("--numeric", options.numeric, "addresses instead of names");
  app->add_flag("--exit-empty", options.exit_empty, "exit 1 when no flow matched");
  app->add_flag("--print-filter", options.print_filter, "show the whole filter and stop");
}

void AddStatus(CLI::App& root, StatusOptions& options) {
  CLI::App* app = AddCommand(root, "status", "show the agent: features, workloads, queues, drops");
  app->add_flag("--check", options.check, "exit 1 unless everything works");
  app->add_option("--workload,--pod", options.workload, "show this workload in full")
      ->type_name("NS/NAME");
  AddOutput(*app, options.output, "text|json|yaml");
}

void AddCheck(CLI::App& root, CheckOptions& options) {
  CLI::App* app = AddCommand(root, "check", "find what is wrong on this node, and what to do");
  app->alias("doctor");
  app->add_option("subject", options.subject, "only what concerns this workload, or unit:NAME");
  app->add_flag("--pre", options.pre, "whether this machine can run the agent; needs no agent");
  app->add_flag("-v,--verbose", options.verbose, "list what passed too");
  app->add_option("--describe", options.describe, "explain a code")->type_name("CODE");
  app->add_option("--only", options.only, "one code or category")->type_name("CODE|CATEGORY");
  app->add_option("--skip", options.skip, "codes to leave out")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("CODE");
  static const std::map<std::string, FailOn> kFailOn = {{"warn", FailOn::kWarn},
                                                        {"fail", FailOn::kFail}};
  AddChoice(*app, "--fail-on", options.fail_on, kFailOn, "warn|fail", "what makes the exit code 1");
  AddDuration(*app, "--wait", options.wait, "try again until nothing fails or warns");
  app->add_flag("--ignore-warnings", options.ignore_warnings, "--wait is for failures only");
  app->add_flag("--clean-leftovers", options.clean_leftovers,
                "remove what earlier agents left and nobody owns (WK205)");
  app->add_option("--agent-config", options.agent_config,
                  "agent.yaml for --pre and --clean-leftovers")
      ->type_name("FILE");
  AddOutput(*app, options.output, "short|table|json|yaml|name|custom=|template=|junit");
}

void AddTraces(CLI::App& root, TracesOptions& options) {
  CLI::App* app = AddCommand(root, "traces", "list traces, or show one as a tree");
  app->add_option("id", options.id, "trace id");
  app->add_option("--limit", options.limit, "the newest N (20)")->type_name("N");
  app->add_option("--since", options.since, "begun since: 5m, 14:00 or RFC 3339")
      ->type_name("TIME");
  app->add_option_function<std::string>(
         "--slow", [&options](const std::string& least) { options.slow = least; },
         "the slowest first; with a duration: as long or longer")
      ->expected(0, 1)
      ->type_name("DURATION");
  app->add_option("--service", options.service, "with a span of this service")
      ->type_name("SERVICE");
  app->add_flag("--errors", options.errors, "with a failed span");
  AddOutput(*app, options.output, "text|tree|waterfall|json|yaml|name|custom=|template=");
}

void AddTop(CLI::App& root, TopOptions& options) {
  static const std::map<std::string, TopSort> kSorts = {{"rps", TopSort::kRate},
                                                        {"p99", TopSort::kP99},
                                                        {"err", TopSort::kErrors},
                                                        {"bytes", TopSort::kBytes},
                                                        {"cpu", TopSort::kCpu}};
  static const std::map<std::string, std::string> kBy = {{"pair", "pair"},
                                                         {"workload", "workload"},
                                                         {"path", "path"},
                                                         {"policy", "policy"},
                                                         {"pid", "pid"}};
  CLI::App* app = AddCommand(root, "top", "show the busiest, live");
  AddChoice(*app, "--by", options.by, kBy, "pair|workload|path|policy|pid", "what a row is (pair)");
  AddChoice(*app, "--sort", options.sort, kSorts, "rps|p99|err|bytes|cpu",
            "what comes first (rps); cpu is of processes");
  app->add_option("--window", options.window, "how much time the figures are of (10s)")
      ->type_name("DURATION");
  AddDuration(*app, "--interval", options.interval, "time between two pictures (2s)");
  app->add_option("--limit", options.limit, "at most N rows")->type_name("N");
  app->add_flag("--once", options.once, "one picture, then the end");
  AddOutput(*app, options.output, "text|json|yaml|custom=|template=");
}

void AddViews(CLI::App& root, Options& options) {
  CLI::App* map = AddCommand(root, "map", "show who calls whom");
  map->add_option("--since", options.map.window,
                  "how far back: 5m (the default), 14:00 or RFC 3339")
      ->type_name("TIME");
  map->add_option("--focus", options.map.focus, "only what is around this workload")
      ->type_name("NS/NAME");
  map->add_option("--depth", options.map.depth, "as many edges away from --focus (1)")
      ->type_name("N")
      ->needs("--focus");
  map->add_option("--min-rps", options.map.min_rps, "only edges with as many calls in a second")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  map->add_flag("--unencrypted", options.map.unencrypted, "only edges with traffic in the clear");
  map->add_option("--diff", options.map.diff,
                  "what has changed since -o json wrote this; - is standard input")
      ->type_name("FILE");
  AddOutput(*map, options.map.output, "text|dot|mermaid|json|yaml|custom=|template=");
  AddTop(root, options.top);
  CLI::App* workloads = AddCommand(root, "workloads", "list the enrolled workloads");
  workloads->add_option("name", options.workloads.name, "namespace/name");
  AddOutput(*workloads, options.workloads.output, "text|json|yaml|name|custom=|template=");
  CLI::App* certs = AddCommand(root, "certs", "list certificates and their renewal");
  certs->add_option("name", options.certs.name, "namespace/name");
  AddOutput(*certs, options.certs.output, "text|json|yaml|name|custom=|template=");
}

// Where both policy commands have the mesh from.
void AddPolicyFiles(CLI::App& command, PolicyOptions& options) {
  command
      .add_option("--documents", options.documents,
                  "the directory of documents (the one that agent.yaml names)")
      ->type_name("DIR");
  command
      .add_option("--agent-config", options.agent_config,
                  "this node's configuration (/etc/weir/agent.yaml)")
      ->type_name("FILE");
  command
      .add_option("--trust-domain", options.trust_domain,
                  "of the mesh, instead of an agent.yaml; needs --documents")
      ->type_name("DOMAIN")
      ->needs("--documents");
}

void AddPolicy(CLI::App& root, PolicyOptions& options) {
  CLI::App* policy = AddCommand(root, "policy", "who may call whom, and why");
  policy->require_subcommand(1);
  CLI::App* explain = AddCommand(*policy, "explain", "say whether one may call another, and why");
  explain->add_option("--from", options.from, "who calls: a workload, a SPIFFE ID, or `outside`")
      ->type_name("NS/NAME")
      ->required();
  explain->add_option("--to", options.to, "the workload that is called")
      ->type_name("NS/NAME")
      ->required();
  explain->add_option("--port", options.port, "its port (its first inbound)")
      ->type_name("N")
      ->check(CLI::Range(1, 65535));
  explain->add_option("--sni", options.server_name, "the server that the caller's own TLS asks for")
      ->type_name("NAME");
  AddPolicyFiles(*explain, options);
  CLI::App* show = AddCommand(*policy, "show", "list the rules that are in force for a workload");
  show->add_option("workload", options.to, "namespace/name")->required();
  AddPolicyFiles(*show, options);
}

void AddFiles(CLI::App& root, Options& options) {
  CLI::App* config = AddCommand(root, "config", "work with configuration files");
  config->require_subcommand(1);
  CLI::App* check = AddCommand(*config, "check", "validate a directory of documents");
  check->add_option("dir", options.config_check.directory, "directory of documents")->required();
  check
      ->add_option("--agent-config", options.config_check.agent_config,
                   "validate this agent.yaml with them")
      ->type_name("FILE");

  AddPolicy(root, options.policy);

  CLI::App* ca = AddCommand(root, "ca", "make the certificate authority's files");
  ca->require_subcommand(1);
  CLI::App* init = AddCommand(*ca, "init", "make a root: its key and its certificate");
  init->add_option("--trust-domain", options.ca_init.trust_domain, "of the mesh")
      ->type_name("DOMAIN")
      ->required();
  init->add_option("--dir", options.ca_init.directory, "where to write (/etc/weir/ca)")
      ->type_name("DIR");
  init->add_option("--days", options.ca_init.days, "how long it is valid (3652)")
      ->type_name("N")
      ->check(CLI::Range(1, 36500));
  init->add_flag("--force", options.ca_init.force, "replace a root that is there");
  CLI::App* node = AddCommand(*ca, "node", "make a node's intermediate, signed by the root");
  node->add_option("name", options.ca_node.node, "the node")->required();
  node->add_option("--dir", options.ca_node.directory, "where the root is (/etc/weir/ca)")
      ->type_name("DIR");
  node->add_option("--days", options.ca_node.days, "how long it is valid (7)")
      ->type_name("N")
      ->check(CLI::Range(1, 7));
  node->add_flag("--force", options.ca_node.force, "renew one that is there, with a new key");
}

void AddOthers(CLI::App& root, Options& options) {
  AddCommand(root, "uninstall-node", "remove everything that weir has put into this node's kernel")
      ->prefix_command();
  CLI::App* completion = AddCommand(root, "completion", "print the completion of a shell");
  completion->add_option("shell", options.completion_shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember(std::vector<std::string>{"bash", "zsh", "fish"}))
      ->type_name("bash|zsh|fish");
  AddCommand(root, "version", "print the version");
  CLI::App* help = AddCommand(root, "help", "explain a command or a topic");
  help->add_option("topic", options.help_topic, "a command, exit-codes or filter");
  CLI::App* man = AddCommand(root, "__man", "write the manual pages");
  man->group(kHidden);
  man->add_option("dir", options.man_directory, "directory")->required();
}

OptionInfo DescribeOption(const CLI::Option& option) {
  OptionInfo info{.names = {},
                  .value = {},
                  .choices = {},
                  .help = option.get_description(),
                  .group = option.get_group()};
  for (const std::string& name : option.get_snames()) {
    info.names.push_back("-" + name);
  }
  for (const std::string& name : option.get_lnames()) {
    info.names.push_back("--" + name);
  }
  if (option.get_expected_max() != 0) {
    info.value = option.get_type_name();
    // A validator appends its own words.
    info.value = info.value.substr(0, info.value.find_first_of(":{ "));
    const bool words = info.value.find('|') != std::string::npos &&
                       info.value.find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string::npos;
    info.choices = words ? Split(info.value, '|') : std::vector<std::string>{};
  }
  info.many = option.get_expected_max() > 1;
  return info;
}

CommandInfo DescribeCommand(const CLI::App& app, const std::string& parent) {
  CommandInfo info;
  info.path = parent.empty() ? app.get_name() : parent + " " + app.get_name();
  info.name = app.get_name();
  info.help = app.get_description();
  info.hidden = app.get_group().empty();
  const CommandNotes notes = NotesOf(info.path);
  info.notes = notes.text;
  info.examples = notes.examples;
  for (const CLI::Option* option : app.get_options()) {
    if (option->nonpositional()) {
      info.options.push_back(DescribeOption(*option));
    } else {
      const OptionInfo described = DescribeOption(*option);
      info.positionals.push_back({.name = option->get_name(/*positional=*/true),
                                  .choices = described.choices,
                                  .help = described.help,
                                  .required = option->get_required()});
    }
  }
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    info.commands.push_back(DescribeCommand(*command, info.path));
  }
  return info;
}

}  // namespace

class CommandLine::Parser {
 public:
  explicit Parser(Options& options) : app_("service mesh agent: see and check this node", "weir") {
    app_.set_help_flag("-h,--help", "print this help");
    app_.get_option("--help")->group("Global");
    app_.require_subcommand(0, 1);
    AddGlobals(app_, options.global);
    AddFlows(app_, options.flows);
    AddStatus(app_, options.status);
    AddCheck(app_, options.check);
    AddTraces(app_, options.traces);
    AddViews(app_, options);
    AddFiles(app_, options);
    AddOthers(app_, options);
    for (CLI::App* command : app_.get_subcommands({})) {
      HideHelpFlag(*command);
    }
  }

  Outcome<Invocation> Parse(std::vector<std::string> words, Options& options) {
    std::ranges::reverse(words);  // CLI11 takes them from the end
    try {
      app_.parse(std::move(words));
    } catch (const CLI::CallForHelp&) {
      return Invocation{.command = Selected().get_name() == "weir" ? "" : PathOf(Selected()),
                        .wants_help = true};
    } catch (const CLI::ParseError& error) {
      return std::unexpected(Explain(error));
    }
    const CLI::App& selected = Selected();
    if (selected.get_name() == "uninstall-node") {
      options.uninstall_arguments = selected.remaining();
    }
    if (options.global.sockets.empty()) {
      options.global.sockets.emplace_back(kDefaultSocket);
    }
    return Invocation{.command = PathOf(selected)};
  }

  [[nodiscard]] CommandInfo Describe() const { return DescribeCommand(app_, ""); }

 private:
  static void HideHelpFlag(CLI::App& app) {
    app.get_option("--help")->group(kHidden);
    for (CLI::App* command : app.get_subcommands({})) {
      HideHelpFlag(*command);
    }
  }

  // The deepest command that was named.
  [[nodiscard]] const CLI::App& Selected() const {
    const CLI::App* app = &app_;
    while (!app->get_subcommands().empty()) {
      app = app->get_subcommands().front();
    }
    return *app;
  }

  static std::string PathOf(const CLI::App& app) {
    const CLI::App* parent = app.get_parent();
    if (parent == nullptr) {
      return {};
    }
    const std::string above = PathOf(*parent);
    return above.empty() ? app.get_name() : above + " " + app.get_name();
  }

  // Names of commands or flags that could have been meant.
  [[nodiscard]] std::string NearestTo(const std::string& word) const {
    std::vector<std::string> names;
    for (const CLI::App* app = &Selected(); app != nullptr; app = app->get_parent()) {
      for (const CLI::Option* option : app->get_options()) {
        for (const std::string& name : option->get_lnames()) {
          names.push_back("--" + name);
        }
      }
    }
    if (!word.starts_with('-')) {
      names.clear();
      for (const CLI::App* command :
           Selected().get_subcommands([](const CLI::App*) { return true; })) {
        names.push_back(command->get_name());
      }
    }
    const std::vector<std::string_view> views(names.begin(), names.end());
    return std::string(base::NearestName(word, views));
  }

  [[nodiscard]] Failure Explain(const CLI::ParseError& error) const {
    const std::string path = PathOf(Selected());
    Failure failure{.exit_code = kExitUsage,
                    .what = error.what(),
                    .why = {},
                    .remedy = "weir help" + (path.empty() ? "" : " " + path)};
    const std::vector<std::string> extras = app_.remaining(/*recurse=*/true);
    if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr || extras.empty()) {
      return failure;
    }
    const auto flag =
        std::ranges::find_if(extras, [](const std::string& word) { return word.starts_with('-'); });
    const std::string word = (flag == extras.end() ? extras.front() : *flag);
    const std::string name = word.substr(0, word.find('='));
    const bool command = !name.starts_with('-') &&
                         !Selected().get_subcommands([](const CLI::App*) { return true; }).empty();
    failure.what = command                 ? "unknown command '" + name + "'"
                   : name.starts_with('-') ? "unknown flag '" + name + "'"
                                           : "unexpected word '" + name + "'";
    const std::string near = NearestTo(name);
    failure.why = near.empty() ? "" : "did you mean '" + near + "'?";
    return failure;
  }

  CLI::App app_;
};

CommandLine::CommandLine() : parser_(std::make_unique<Parser>(options_)) {}
CommandLine::~CommandLine() = default;

Outcome<Invocation> CommandLine::Parse(const std::vector<std::string>& words) {
  return parser_->Parse(words, options_);
}

CommandInfo CommandLine::Describe() const {
  return parser_->Describe();
}

const CommandInfo* FindCommand(const CommandInfo& root, const std::string& path) {
  const CommandInfo* at = &root;
  for (const std::string& name : Split(path, ' ')) {
    const auto found = std::ranges::find(at->commands, name, &CommandInfo::name);
    if (found == at->commands.end()) {
      return nullptr;
    }
    at = &*found;
  }
  return at;
}

}  // namespace weir::cli

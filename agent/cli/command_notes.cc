#include "agent/cli/command_notes.h"

#include <map>

namespace weir::cli {
namespace {

const std::map<std::string_view, CommandNotes>& AllNotes() {
  static const std::map<std::string_view, CommandNotes> kNotes = {
      {"weir",
       {.examples = {{"weir status", "is the agent well, and what has it enrolled?"},
                     {"weir flows -f --verdict deny,error", "follow what does not get through"},
                     {"weir traces", "the newest traces; weir traces ID shows one as a tree"},
                     {"weir map", "who calls whom, how often, how fast, how well protected"},
                     {"weir check", "what is wrong on this node, and what to do about it"}},
        .text = ""}},
      {"weir flows",
       {.examples =
            {{"weir flows --to-workload shop/price --status 5xx", "what failed at a service"},
             {"weir flows -f 'duration>200ms and not path^=/health'", "follow slow requests"},
             {"weir flows --since 10m --mtls off -o wide", "what went unprotected"},
             {"weir flows --tree --trace-id 4bf92f3577b34da6a3ce929d0e0e4736",
              "one transaction, each call below the one that caused it"},
             {"weir flows --last 100 --fields time,src,dst,status,policy", "the columns you want"},
             {"weir flows --all -o jsonl | jq .http.path", "every path, for another tool"},
             {"weir flows --input-file kept.jsonl --status 5xx", "from what -o jsonl kept"}},
        .text =
            "Filter flags are joined by `and`; a list by commas means any of them. Those of a "
            "side have --from- and --to- forms (--from-workload, --to-port), and each has a "
            "--not- twin (--not-status, --not-from-ip).\n"
            "--fields takes the columns of -o wide in lower case: time, dir, src, dst, proto, "
            "method, path, status, dur, verdict, mtls, trace, node, src-id, dst-id, orig-dst, "
            "via, bytes-in, bytes-out, tls-ver, cert-exp, policy, reason, parent, parent-src, "
            "conn-id, req#, retries, pid, comm, tags, and the parts of the time: tunnel, "
            "connect, first-byte (each since the start), body; with -o json, jsonl and yaml "
            "members of the JSON form: time, source.workload, http.status.\n"
            "-o template=TEXT fills such members in: 'template={time} {source.workload} "
            "{http.path}'; a brace itself is written twice. -o otlp are OTLP log records in "
            "JSON, one a line.\n"
            "--header finds what MeshTrace keeps of headers (its tags); of other headers and of "
            "bodies no value is kept.\n"
            "On a terminal a table is kept within its width: long texts are shortened in the "
            "middle and the last columns left out. --no-trunc and a pipe show everything.\n"
            "Decrypted bytes are not kept anywhere, so there is no capture of them.\n"
            "The last line on standard error says how many flows were looked at, how many "
            "matched and how many were lost before they could be looked at."}},
      {"weir status",
       {.examples = {{"weir status", "one screen"},
                     {"weir status --check && echo fine", "for scripts"},
                     {"weir status --workload shop/cart", "everything about one workload"}},
        .text = ""}},
      {"weir check",
       {.examples = {{"sudo weir check --pre", "before the agent is installed"},
                     {"weir check", "this node, now"},
                     {"weir check --wait 60s", "after a change, until nothing fails or warns"},
                     {"sudo weir check --clean-leftovers", "what earlier agents left behind"},
                     {"weir check shop/cart", "one workload"},
                     {"weir check --describe WK104", "what a code means"}},
        .text = "Exit code 1 when a check fails (with --fail-on warn: or warns).\n"
                "--clean-leftovers removes links, pins and routing of weir that no process, no "
                "locked directory of pins and not this node's own agent.yaml owns; it says what, "
                "and needs root. `weir uninstall-node` removes this node's own."}},
      {"weir traces",
       {.examples = {{"weir traces --slow 200ms", "slow ones"},
                     {"weir traces --errors --service crm-mobile", "failed ones of a service"},
                     {"weir traces 4bf92f3577b34da6a3ce929d0e0e4736", "one as a tree"},
                     {"weir traces 4bf92f3577b34da6a3ce929d0e0e4736 -o waterfall",
                      "the same along the time"}},
        .text =
            "Several --socket flags join the spans of several agents into one tree.\n"
            "Where spans say what they waited for, the waterfall marks it: ~ for a tunnel, + for "
            "the upstream, - (client) or = (server) for the first byte of the answer, # for its "
            "body; ! where it failed.\n"
            "PARENT says where the parent of a span was known from: a header, a hook in the "
            "runtime, the same turn of the event loop, or the only open request."}},
      {"weir map",
       {.examples = {{"weir map", "as a table"},
                     {"weir map --focus shop/cart --depth 2", "what is near one workload"},
                     {"weir map --unencrypted", "what goes in the clear"},
                     {"weir map -o json >before; weir map --diff before", "what has changed since"},
                     {"weir map -o dot | dot -Tsvg >map.svg", "as a picture"}},
        .text = "PARENTS are the shares of an edge's requests by where their parent was known "
                "from. An edge that two agents see is taken from the one that saw more of it.\n"
                "--diff lists edges that came or went, whose rate or p99 is another by more than "
                "half, or whose share of errors or of protected calls moved by a hundredth."}},
      {"weir top",
       {.examples = {{"weir top", "who talks most, now"},
                     {"weir top --by path --sort p99", "the slowest paths"},
                     {"weir top --by policy", "which rules decide, and what they refuse"},
                     {"weir top --by pid --sort cpu", "which callers work hardest"},
                     {"weir top --once -o json", "for scripts"}},
        .text = "RPS are HTTP requests, CONNS connections without any that ended in the window, "
                "IN/s what came back and OUT/s what went. The figures are those of the flows that "
                "the agent still has: the summary says how much of the window that covers. With "
                "several --socket flags the counts of one row are added up, and the times are "
                "those of the slower agent.\n"
                "CPU% is of one CPU: since the picture before, on the first one since the process "
                "began.\n"
                "A terminal is drawn anew each time; a pipe gets one table after the other."}},
      {"weir workloads", {.examples = {{"weir workloads", "what is enrolled here"}}, .text = ""}},
      {"weir certs", {.examples = {{"weir certs", "who holds what until when"}}, .text = ""}},
      {"weir config check",
       {.examples = {{"weir config check /etc/weir/mesh.d", "before it is rolled out"}},
        .text = "Says what a running agent would say, and exits 1 if it would refuse them."}},
      {"weir policy explain",
       {.examples = {{"weir policy explain --from crm/gateway --to crm/orders",
                      "may it, by which rule, and what would change that?"},
                     {"weir policy explain --from outside --to crm/gateway",
                      "plain text from outside the mesh"},
                     {"weir policy explain --from crm/gateway --to crm/orders --documents ./mesh.d "
                      "--trust-domain example.org",
                      "before the documents are rolled out"}},
        .text =
            "The answer comes from the files, as an agent would take them: what a running agent "
            "decided is in `weir flows --verdict deny -o wide`, with the rule's name.\n"
            "Exit code 0 when it may, 1 when it may not or the files are not good."}},
      {"weir policy show",
       {.examples = {{"weir policy show crm/orders", "its mode, and each rule with its document"}},
        .text = "A denial wins over whatever else is said, then allowWithShadowDeny, then allow. "
                "Whom no rule is for may not."}},
      {"weir ca init",
       {.examples = {{"weir ca init --trust-domain example.org --dir ./ca",
                      "the root's key stays where this runs, never on a node"}},
        .text = ""}},
      {"weir ca node",
       {.examples = {{"weir ca node node-1 --dir ./ca",
                      "node-1 gets root.pem, nodes/node-1.pem and nodes/node-1.key"}},
        .text = ""}},
      {"weir completion",
       {.examples = {{"source <(weir completion bash)", "in this shell"}}, .text = ""}},
  };
  return kNotes;
}

constexpr std::string_view kExitCodes =
    R"(0   done
1   the answer is no: a check failed, nothing was found, the wait ran out
2   wrong usage: unknown flag, bad filter
3   the agent cannot be reached
4   no right to the agent's socket
5   agent and command are too far apart in version
6   some of several agents did not answer; the results of the others are printed
70  a bug in weir
130 interrupted
)";

constexpr std::string_view kFilter =
    R"(A filter is made of comparisons, joined by and, or, not and parentheses:

  dst=shop/price and (status>=500 or duration>200ms) and not path^=/health

  = !=          the whole value; * and ? in names, 5xx for a class of status,
                10.0.0.0/8 for a range of addresses
  ^= $= *= ~    begins with, ends with, contains, matches a regular expression
  > >= < <=     numbers, durations (200ms, 1.5s, 5m), sizes (5MB, 64KiB)
  in (a, b)     any of them; also: not in (a, b)

Values with spaces, parentheses or quotes stand in quotes. A field that a flow does
not have equals nothing.

  src dst workload            namespace/name, name, or an address outside the mesh;
                              workload is either side
  src.ns dst.ns ns            namespace
  src.vm dst.vm vm            name of a workload without a namespace, as VMs are
  src.service dst.service service
                              service, by label or by the workload's name
  src.id dst.id id            SPIFFE ID
  src.node dst.node node      node that it lives on
  src.ip dst.ip ip            address or range
  src.port dst.port port      port
  dir                         out, in
  kind                        connection, request
  proto                       opaque, tls, http1, http2, grpc, postgresql, mysql, redis
  method host path query      of the HTTP request; query holds keys only
  agent                       User-Agent
  tag                         NAME:VALUE of a header that MeshTrace keeps as a tag
  status                      of the HTTP response
  grpc                        status of the gRPC call: NOT_FOUND, or 5
  operation table summary     of the database command: INSERT, orders, INSERT orders
  database db-status          where it goes, and the error's code: 23505
  duration                    of the whole, and of its parts:
  tunnel-wait connect first-byte body
  bytes sent received         both ways, towards and from the upstream
  verdict                     allow, deny, bypass, passthrough, error
  reason                      why it ended other than well
  policy retries              rule that decided; tries of the upstream connection
  mtls                        on (mtls between nodes or local on one), off
  tls sni via                 TLS version, server name, the way that it took
  parent                      none, header, runtime, turn, sole
  trace span parent-span      ids
  conn pid comm               number of the connection, process, its name
)";

}  // namespace

CommandNotes NotesOf(std::string_view path) {
  const auto found = AllNotes().find(path);
  return found == AllNotes().end() ? CommandNotes{} : found->second;
}

std::string TopicText(std::string_view topic) {
  if (topic == "exit-codes") {
    return std::string(kExitCodes);
  }
  return topic == "filter" ? std::string(kFilter) : std::string();
}

}  // namespace weir::cli

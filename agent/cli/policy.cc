// weir policy explain and weir policy show: who may call whom by the files.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "agent/cli/failure.h"
#include "agent/cli/run.h"
#include "agent/cli/terminal.h"
#include "agent/config/policy_view.h"
#include "agent/model/identity.h"
#include "agent/policy/decide.h"

namespace weir::cli {
namespace {

constexpr std::string_view kOutside = "outside";

// The mesh from the destination's side, or why there is none; findings are printed.
Outcome<config::PolicyView> View(const PolicyOptions& options) {
  if (options.trust_domain.empty() && ::access(options.agent_config.c_str(), R_OK) != 0) {
    return std::unexpected(
        Failure{.exit_code = kExitUsage,
                .what = "cannot read " + options.agent_config + ": " + std::strerror(errno),
                .why = "it names the trust domain and the directory of documents",
                .remedy = "--agent-config FILE, or --documents DIR --trust-domain DOMAIN"});
  }
  auto view = config::ViewPolicy({.agent_config = options.agent_config,
                                  .documents = options.documents,
                                  .trust_domain = options.trust_domain},
                                 options.to);
  if (!view) {
    return std::unexpected(Failure{.exit_code = kExitUsage,
                                   .what = view.error().message(),
                                   .why = {},
                                   .remedy = "weir workloads"});
  }
  if (view->snapshot == nullptr) {
    (void)std::fputs(config::ToText(view->diagnostics.Errors()).c_str(), stderr);
    return std::unexpected(Failure{.exit_code = kExitNegative,
                                   .what = "an agent would refuse these files",
                                   .why = "a set with an error is refused whole",
                                   .remedy = "weir config check DIR"});
  }
  return std::move(*view);
}

// Who asks; the identity of one that is no workload of the mesh lives in `given`.
struct Caller {
  policy::Peer peer;
  std::string name;
};

Outcome<Caller> FindCaller(const PolicyOptions& options, const config::PolicyView& view,
                           std::optional<model::SpiffeId>& given) {
  Caller caller{.peer = {}, .name = options.from};
  if (options.from == kOutside) {
    return caller;
  }
  caller.peer.server_name = options.server_name;
  if (options.from.starts_with("spiffe://")) {
    auto id = model::SpiffeId::Parse(options.from);
    if (!id) {
      return std::unexpected(
          Failure{.exit_code = kExitUsage, .what = id.error().message(), .why = {}, .remedy = {}});
    }
    given = std::move(*id);
    caller.peer.identity = &*given;
    caller.peer.workload = view.snapshot->FindByIdentity(*given);
    return caller;
  }
  caller.peer.workload = view.Find(options.from);
  if (caller.peer.workload == nullptr) {
    return std::unexpected(Failure{
        .exit_code = kExitUsage,
        .what = "no Dataplane document has the name \"" + options.from + "\", or several have it",
        .why = {},
        .remedy = "weir workloads"});
  }
  caller.peer.identity = &caller.peer.workload->identity;
  caller.name = caller.peer.workload->display_name();
  return caller;
}

std::string_view EffectName(model::PermissionEffect effect) {
  switch (effect) {
    case model::PermissionEffect::kDeny:
      return "deny";
    case model::PermissionEffect::kAllowWithShadowDeny:
      return "allowWithShadowDeny";
    case model::PermissionEffect::kAllow:
      return "allow";
  }
  return "";
}

std::string AllowEntry(const policy::Peer& peer) {
  return "- spiffeID: {type: Exact, value: \"" + peer.identity->uri() + "\"}";
}

// What would have to be written for another verdict.
std::string Remedy(const policy::Verdict& verdict, const policy::Peer& peer,
                   const config::PolicyView& view, std::uint16_t port) {
  const model::PermissionSet* rules = view.destination->permissions.Of(port);
  if (verdict.permission != nullptr) {
    const std::string entry = "the entry at " + verdict.permission->source;
    switch (verdict.permission->effect) {
      case model::PermissionEffect::kDeny:
        return "take out " + entry + ": a denial wins over every allow";
      case model::PermissionEffect::kAllowWithShadowDeny:
        return "move " + entry + " to \"deny\", or take it out, and it may not";
      case model::PermissionEffect::kAllow:
        return "take out " + entry + ", or add one to \"deny\", and it may not";
    }
  }
  if (verdict.rule == policy::kPermissiveRule) {
    return "a MeshTLS with the mode Strict refuses plain text";
  }
  if (verdict.rule == policy::kStrictRule) {
    return "enrol the caller in the mesh, or let plain text in by a MeshTLS with the mode "
           "Permissive";
  }
  if (verdict.rule == policy::kOtherDomainRule) {
    return "only identities of " + view.snapshot->trust_domain() + " are verified here";
  }
  std::string where = "to the \"allow\" of a MeshTrafficPermission for " +
                      view.destination->workload->display_name();
  if (rules != nullptr && !rules->rules().empty()) {
    const model::PermissionRule& nearest = *rules->rules().front();
    where += ", as " + nearest.name.substr(0, nearest.name.rfind(':')) + " (" + nearest.source +
             ") is one";
  }
  return "add " + AllowEntry(peer) + " " + where;
}

}  // namespace

int RunPolicyExplain(const Options& options) {
  const PolicyOptions& asked = options.policy;
  const auto view = View(asked);
  if (!view) {
    return Report(view.error());
  }
  std::optional<model::SpiffeId> given;
  const auto caller = FindCaller(asked, *view, given);
  if (!caller) {
    return Report(caller.error());
  }
  const model::LocalWorkload& destination = *view->destination;
  const auto& inbounds = destination.workload->inbounds;
  const std::uint16_t first = inbounds.empty() ? std::uint16_t{0} : inbounds.front().port;
  const std::uint16_t port = asked.port != 0 ? asked.port : first;
  const policy::Verdict verdict = policy::Decide(*view->snapshot, caller->peer, destination, port);
  const bool may = verdict.decision == policy::Decision::kAllow;
  const model::PermissionSet* rules = destination.permissions.Of(port);
  const Style style = StyleOf(options.global);
  std::string text = Printable(caller->name) +
                     Paint(style, may ? Color::kGreen : Color::kRed, may ? " may" : " may not") +
                     " call " + destination.workload->display_name() + " on port " +
                     std::to_string(port) + "\n";
  text += "verdict   " + std::string(ToString(verdict.outcome)) + "\n";
  text += "rule      " + std::string(verdict.rule) + "\n";
  if (verdict.permission != nullptr) {
    text += "document  " + verdict.permission->source + "\n";
    text += "for       " + verdict.permission->peer + "\n";
  }
  text += "caller    " +
          (caller->peer.identity == nullptr ? "plain text, no identity"
                                            : caller->peer.identity->uri()) +
          "\n";
  text += std::string("mode      ") +
          (destination.tls_mode == model::TlsMode::kStrict ? "strict" : "permissive") + ", " +
          std::to_string(rules == nullptr ? 0 : rules->rule_count()) + " rules for this port\n";
  text += "change    " + Remedy(verdict, caller->peer, *view, port) + "\n";
  (void)std::fputs(text.c_str(), stdout);
  return may ? kExitDone : kExitNegative;
}

int RunPolicyShow(const Options& options) {
  const auto view = View(options.policy);
  if (!view) {
    return Report(view.error());
  }
  const model::LocalWorkload& destination = *view->destination;
  const bool strict = destination.tls_mode == model::TlsMode::kStrict;
  std::string text = destination.workload->display_name() + "  " +
                     destination.workload->identity.uri() + "  " +
                     (strict ? "strict" : "permissive: plain text is let in") + "\n";
  Table table({"PORT", "EFFECT", "FOR", "RULE", "DOCUMENT"}, StyleOf(options.global).width);
  const auto add = [&](const std::string& port, const model::PermissionSet* rules) {
    if (rules == nullptr) {
      table.Add({port, "deny", "*", std::string(policy::kDefaultRule), "-"});
      return;
    }
    auto sorted = rules->rules();
    std::ranges::stable_sort(sorted, {}, &model::PermissionRule::effect);
    for (const model::PermissionRulePtr& rule : sorted) {
      table.Add({port, std::string(EffectName(rule->effect)), Printable(rule->peer),
                 Printable(rule->name), Printable(rule->source)});
    }
    table.Add({port, "deny", "everybody else", std::string(policy::kDefaultRule), "-"});
  };
  for (const model::Inbound& inbound : destination.workload->inbounds) {
    add(std::to_string(inbound.port), destination.permissions.Of(inbound.port));
  }
  add("other", destination.permissions.general.get());
  text += table.Take();
  (void)std::fputs(text.c_str(), stdout);
  return kExitDone;
}

}  // namespace weir::cli

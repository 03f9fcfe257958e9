// MeshTrafficPermission, in the forms of 2.x (`from`) and 3.0 (`rules`).
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "agent/config/document_readers.h"
#include "agent/config/documents.h"
#include "agent/config/fields.h"
#include "agent/config/target.h"
#include "agent/config/yaml.h"
#include "agent/model/identity.h"
#include "agent/model/permissions.h"

namespace weir::config {
namespace {

using model::PermissionEffect;
using model::PermissionMatch;

constexpr std::size_t kMaxServerNameBytes = 255;

// The lists of a rule's `default`, in the order of PermissionEffect.
constexpr std::array<std::string_view, model::kPermissionEffectCount> kLists = {
    "deny", "allowWithShadowDeny", "allow"};

// What is said of a rule besides whom it is for.
struct RuleFacts {
  PermissionEffect effect;
  const Envelope& envelope;
  std::string path;  // in the document
  Place place;
};

model::PermissionRulePtr MakeRule(const RuleFacts& facts, std::string peer) {
  return std::make_shared<const model::PermissionRule>(
      model::PermissionRule{.effect = facts.effect,
                            .name = facts.envelope.display_name() + ":" + facts.path,
                            .source = facts.place.ToString(),
                            .peer = std::move(peer)});
}

std::string ToText(const PermissionMatch& match) {
  std::string text = match.kind == PermissionMatch::Kind::kAnyone ? "*" : match.spiffe_id;
  text += match.kind == PermissionMatch::Kind::kPrefix ? "*" : "";
  return match.server_name.empty() ? text : text + " sni=" + match.server_name;
}

std::string ToText(const TargetRef& peer) {
  std::string text = peer.kind == TargetKind::kMesh ? "Mesh" : "tags";
  for (const auto& [key, value] : TagsOf(peer)) {
    text += " " + key + "=" + value;
  }
  return text;
}

// A prefix of which some SPIFFE ID can begin.
bool IsPrefixOfIds(const std::string& text) {
  return text.starts_with("spiffe://") && model::SpiffeId::Parse(text + "x").has_value();
}

void ReadSpiffeId(const Node& node, const Reader& reader, PermissionEffect effect,
                  PermissionMatch& match) {
  Fields fields(node, "spiffeID", reader);
  const Node* type = fields.Require("type");
  const auto choice =
      type == nullptr ? std::nullopt : ReadChoice(*type, "type", {"Exact", "Prefix"}, reader);
  (void)fields.Require("value");  // its absence is reported here
  match.spiffe_id = fields.String("value").value_or("");
  match.kind =
      choice == std::size_t{1} ? PermissionMatch::Kind::kPrefix : PermissionMatch::Kind::kExact;
  if (match.kind == PermissionMatch::Kind::kPrefix) {
    if (!IsPrefixOfIds(match.spiffe_id)) {
      fields.ErrorAt("value", "no SPIFFE ID begins like that: spiffe://DOMAIN/PATH");
    } else if (!match.spiffe_id.ends_with('/') && effect != PermissionEffect::kDeny) {
      reader.Warn(node, "the prefix \"" + match.spiffe_id.substr(0, 256) +
                            "\" ends inside a name: \"" + match.spiffe_id.substr(0, 256) +
                            "-other\" begins with it too; end it with \"/\", or use Exact");
    }
  } else if (const auto id = model::SpiffeId::Parse(match.spiffe_id); !id) {
    fields.ErrorAt("value", id.error().message());
  } else if (id->path().empty()) {
    fields.ErrorAt("value", "is a trust domain, which is nobody's identity: add its path");
  }
  fields.Finish();
}

void ReadServerName(const Node& node, const Reader& reader, PermissionMatch& match) {
  Fields fields(node, "sni", reader);
  if (const Node* type = fields.Require("type")) {
    (void)ReadChoice(*type, "type", {"Exact"}, reader);
  }
  (void)fields.Require("value");  // its absence is reported here
  match.server_name = fields.String("value").value_or("");
  if (match.server_name.size() > kMaxServerNameBytes ||
      match.server_name.find_first_of(" /:*") != std::string::npos) {
    fields.ErrorAt("value", "must be a host name");
  }
  fields.Finish();
}

PermissionMatch ReadMatch(const Node& node, const Reader& reader, PermissionEffect effect) {
  Fields fields(node, "a match", reader);
  PermissionMatch match;
  const Node* id = fields.Take("spiffeID");
  const Node* name = fields.Take("sni");
  if (id == nullptr && name == nullptr) {
    reader.Error(node, "a match must have \"spiffeID\" or \"sni\"");
  }
  if (id != nullptr) {
    ReadSpiffeId(*id, reader, effect, match);
  }
  if (name != nullptr) {
    ReadServerName(*name, reader, match);
  }
  fields.Finish();
  return match;
}

void ReadRule(const Node& node, const Reader& reader, const std::string& prefix,
              PermissionDocument& document) {
  Fields rule(node, "an item of rules", reader);
  if (const Node* conf = rule.Require("default")) {
    Fields fields(*conf, "default", reader);
    std::size_t total = 0;
    for (std::size_t list = 0; list < kLists.size(); ++list) {
      const auto effect = static_cast<PermissionEffect>(list);
      std::size_t index = 0;
      fields.ForEach(kLists[list], [&](const Node& item) {
        const Place place = reader.At(item);
        const std::string path =
            prefix + std::string(kLists[list]) + "[" + std::to_string(index++) + "]";
        PermissionMatch match = ReadMatch(item, reader, effect);
        auto made = MakeRule({effect, document.policy.envelope, path, place}, ToText(match));
        document.entries.push_back(
            {.match = std::move(match), .rule = std::move(made), .place = place});
      });
      total += index;
    }
    if (total == 0) {
      reader.Error(*conf,
                   "at least one of \"deny\", \"allowWithShadowDeny\" and \"allow\" must have an "
                   "entry");
    }
    fields.Finish();
  }
  rule.Finish();
}

std::optional<PermissionEffect> ReadAction(Fields& item) {
  const Node* node = item.Require("default");
  if (node == nullptr) {
    return std::nullopt;
  }
  Fields fields(*node, "default", item.reader());
  const Node* action = fields.Require("action");
  // In the order of PermissionEffect.
  const auto choice =
      action == nullptr
          ? std::nullopt
          : ReadChoice(*action, "action", {"Deny", "AllowWithShadowDeny", "Allow"}, item.reader());
  fields.Finish();
  return choice ? std::optional(static_cast<PermissionEffect>(*choice)) : std::nullopt;
}

void ReadFrom(const Node& node, const Reader& reader, std::size_t index,
              PermissionDocument& document) {
  Fields item(node, "an item of from", reader);
  (void)item.Require("targetRef");  // its absence is reported here
  TargetRef peer = ReadTargetRef(item);
  if (peer.kind == TargetKind::kDataplane || peer.kind == TargetKind::kMeshGateway) {
    item.ErrorAt("targetRef",
                 "must be of the kind Mesh, MeshSubset, MeshService or MeshServiceSubset");
  }
  if (peer.kind == TargetKind::kMeshSubset && peer.tags.empty()) {
    item.ErrorAt("targetRef", "a MeshSubset without \"tags\" would be the whole mesh: use Mesh");
  }
  const auto effect = ReadAction(item);
  const Place place = reader.At(node);
  auto rule = MakeRule({effect.value_or(PermissionEffect::kDeny), document.policy.envelope,
                        "from[" + std::to_string(index) + "]", place},
                       ToText(peer));
  document.from.push_back({.peer = std::move(peer), .rule = std::move(rule), .place = place});
  item.Finish();
}

}  // namespace

void ReadMeshTrafficPermission(Fields& body, const Envelope& envelope, DocumentSet& set) {
  PermissionDocument document{
      .policy = {.envelope = envelope, .target = ReadTargetRef(body), .configuration = {}},
      .entries = {},
      .from = {}};
  const Node* rules = body.map().Find("rules");
  const bool has_from = body.map().Find("from") != nullptr;
  if (rules != nullptr && has_from) {
    body.ErrorAt("from", "cannot stand beside \"rules\"");
  }
  if (rules == nullptr && !has_from) {
    body.reader().Error(body.map(),
                        "MeshTrafficPermission needs \"rules\" (or, in the 2.x form, \"from\")");
  }
  const bool several = rules != nullptr && rules->items.size() > 1;
  std::size_t index = 0;
  body.ForEach("rules", [&](const Node& node) {
    const std::string prefix = several ? "rules[" + std::to_string(index) + "]." : "";
    ReadRule(node, body.reader(), prefix, document);
    ++index;
  });
  if (rules != nullptr && index == 0) {
    body.ErrorAt("rules", "must have an item");
  }
  index = 0;
  body.ForEach("from", [&](const Node& node) { ReadFrom(node, body.reader(), index++, document); });
  set.permissions.push_back(std::move(document));
}

}  // namespace weir::config

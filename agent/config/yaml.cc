#include "agent/config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <exception>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "agent/base/utf8.h"

namespace weir::config {
namespace {

using MutableNode = std::shared_ptr<Node>;

// Builds Nodes from the parser's events. After the first error it ignores the rest:
// throwing through the parser is not for us.
class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(const std::string& file, Diagnostics& diagnostics)
      : file_(file), diagnostics_(diagnostics) {}

  // The document built last; null for an empty one.
  NodePtr TakeRoot() { return std::exchange(root_, nullptr); }
  [[nodiscard]] bool failed() const { return failed_; }

  void OnDocumentStart(const YAML::Mark& /*mark*/) override {
    anchors_.clear();
    open_.clear();
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    Place(MakeNode(mark, NodeKind::kNull), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    if (failed_) {
      return;
    }
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      Fail(Line(mark), "an alias stands inside what it names");
      return;
    }
    Place(found->second, 0);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    // The parser gives "?" to a plain scalar and "!" to a quoted or block one.
    if (tag != "?" && tag != "!") {
      Fail(Line(mark), "tags are not used in configuration");
      return;
    }
    auto node = MakeNode(mark, NodeKind::kScalar);
    node->quoted = tag == "!";
    node->scalar = value;
    if (!node->quoted && (value.empty() || value == "~" || value == "null")) {
      node->kind = NodeKind::kNull;
    }
    Place(std::move(node), anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value /*style*/) override {
    Open(mark, tag, anchor, NodeKind::kSequence);
  }
  void OnSequenceEnd() override { Close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value /*style*/) override {
    Open(mark, tag, anchor, NodeKind::kMap);
  }
  void OnMapEnd() override { Close(); }

  void Fail(int line, std::string text) {
    if (!failed_) {
      diagnostics_.Error({.file = file_, .line = line}, std::move(text));
    }
    failed_ = true;
  }
  static int Line(const YAML::Mark& mark) { return mark.is_null() ? 0 : mark.line + 1; }

 private:
  struct OpenNode {
    MutableNode node;
    YAML::anchor_t anchor = 0;
    std::optional<MapEntry> pending;  // a key that waits for its value
  };

  static MutableNode MakeNode(const YAML::Mark& mark, NodeKind kind) {
    auto node = std::make_shared<Node>();
    node->kind = kind;
    node->line = Line(mark);
    return node;
  }

  void Open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, NodeKind kind) {
    if (failed_) {
      return;
    }
    if (tag != "?" && tag != "!" && !tag.empty()) {
      Fail(Line(mark), "tags are not used in configuration");
    } else if (open_.size() >= kMaxYamlDepth) {
      Fail(Line(mark), "nested deeper than " + std::to_string(kMaxYamlDepth) + " levels");
    } else {
      open_.push_back({.node = MakeNode(mark, kind), .anchor = anchor, .pending = std::nullopt});
    }
  }

  void Close() {
    if (failed_) {
      return;
    }
    OpenNode done = std::move(open_.back());
    open_.pop_back();
    weight_ -= done.node->weight - 1;  // counted again as part of the whole
    Place(std::move(done.node), done.anchor);
  }

  void Place(const NodePtr& node, YAML::anchor_t anchor) {
    if (failed_) {
      return;
    }
    weight_ += node->weight;
    if (weight_ > kMaxYamlNodes) {
      Fail(node->line,
           "more than " + std::to_string(kMaxYamlNodes) + " values in one file, aliases expanded");
      return;
    }
    if (anchor != 0) {
      anchors_[anchor] = node;
    }
    if (open_.empty()) {
      root_ = node->kind == NodeKind::kNull ? nullptr : node;
      return;
    }
    OpenNode& parent = open_.back();
    parent.node->weight += node->weight;
    if (parent.node->kind == NodeKind::kSequence) {
      parent.node->items.push_back(node);
    } else if (parent.pending) {
      parent.pending->value = node;
      parent.node->entries.push_back(std::move(*parent.pending));
      parent.pending.reset();
    } else {
      BeginEntry(parent, *node);
    }
  }

  void BeginEntry(OpenNode& parent, const Node& key) {
    if (key.kind != NodeKind::kScalar) {
      Fail(key.line, "a key must be a word");
    } else if (const Node* twin = parent.node->Find(key.scalar); twin != nullptr) {
      Fail(key.line, "key \"" + key.scalar + "\" is given twice, first near line " +
                         std::to_string(twin->line));
    } else if (parent.node->entries.size() >= kMaxYamlKeys) {
      Fail(key.line, "more than " + std::to_string(kMaxYamlKeys) + " keys in one map");
    } else {
      parent.pending = MapEntry{.key = key.scalar, .line = key.line, .value = nullptr};
    }
  }

  const std::string& file_;
  Diagnostics& diagnostics_;
  std::map<YAML::anchor_t, NodePtr> anchors_;
  std::vector<OpenNode> open_;
  NodePtr root_;
  std::size_t weight_ = 0;
  bool failed_ = false;
};

// The first line that is not UTF-8 text, 0 if all are.
int FirstBadLine(std::string_view text) {
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.contains('\0') || !base::IsUtf8(line)) {
      return number;
    }
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return 0;
}

}  // namespace

const Node* Node::Find(std::string_view key) const {
  const auto found = std::ranges::find(entries, key, &MapEntry::key);
  return found == entries.end() ? nullptr : found->value.get();
}

std::vector<NodePtr> ParseYaml(std::string_view text, const std::string& file,
                               Diagnostics& diagnostics) {
  if (const int line = FirstBadLine(text); line != 0) {
    diagnostics.Error({.file = file, .line = line}, "not UTF-8 text");
    return {};
  }
  std::vector<NodePtr> documents;
  TreeBuilder builder(file, diagnostics);
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    while (!builder.failed() && parser.HandleNextDocument(builder)) {
      if (NodePtr root = builder.TakeRoot(); root != nullptr && !builder.failed()) {
        documents.push_back(std::move(root));
      }
    }
  } catch (const YAML::Exception& error) {
    builder.Fail(TreeBuilder::Line(error.mark), "not YAML: " + error.msg);
  } catch (const std::exception& error) {
    builder.Fail(0, std::string("not YAML: ") + error.what());
  }
  return documents;
}

namespace {

// The items of two lists, one after the other.
NodePtr Append(const NodePtr& base, const NodePtr& more) {
  auto both = std::make_shared<Node>(*base);
  both->items.insert(both->items.end(), more->items.begin(), more->items.end());
  return both;
}

}  // namespace

NodePtr Merge(const NodePtr& base, const NodePtr& patch) {
  if (patch->kind != NodeKind::kMap) {
    return patch;
  }
  auto merged = std::make_shared<Node>();
  merged->kind = NodeKind::kMap;
  merged->line = patch->line;
  if (base != nullptr && base->kind == NodeKind::kMap) {
    merged->entries = base->entries;
  }
  for (const MapEntry& entry : patch->entries) {
    const auto at = std::ranges::find(merged->entries, entry.key, &MapEntry::key);
    if (entry.value->kind == NodeKind::kNull) {
      if (at != merged->entries.end()) {
        merged->entries.erase(at);
      }
    } else if (at != merged->entries.end()) {
      const bool appends = entry.key.starts_with("append") &&
                           at->value->kind == NodeKind::kSequence &&
                           entry.value->kind == NodeKind::kSequence;
      at->value = appends ? Append(at->value, entry.value) : Merge(at->value, entry.value);
    } else {
      merged->entries.push_back(
          {.key = entry.key, .line = entry.line, .value = Merge(nullptr, entry.value)});
    }
  }
  return merged;
}

}  // namespace weir::config

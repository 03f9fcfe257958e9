#include "agent/admin/flow_replay.h"

#include <google/protobuf/util/json_util.h>

#include "agent/admin/flow_message.h"
#include "agent/admin/target.h"
#include "weir/v1/flow.pb.h"

namespace weir::admin {
namespace {

constexpr std::string_view kSummaryStart = R"({"summary":)";

}  // namespace

QueryResult<FlowReplay> FlowReplay::Create(std::string_view target, base::WallTime now) {
  const auto parsed = ParseTarget(target);
  if (!parsed) {
    return std::unexpected(QueryError{.message = parsed.error().message()});
  }
  const auto query = ParseFlowQuery(*parsed, now);
  if (!query) {
    return std::unexpected(query.error());
  }
  if (query->follow || query->max_rps) {
    return std::unexpected(QueryError{.message = "a file can neither be followed nor slowed down"});
  }
  return FlowReplay(*query);
}

FlowReplay::Step FlowReplay::Take(std::string_view line, const OnLine& out) {
  if (line.empty() || line.starts_with(kSummaryStart)) {
    return Step::kMore;
  }
  v1::Flow message;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;
  if (!google::protobuf::util::JsonStringToMessage(
           google::protobuf::StringPiece(line.data(), line.size()), &message, options)
           .ok()) {
    return Step::kNoFlow;
  }
  const auto flow = FromMessage(message);
  if (!flow) {
    return Step::kNoFlow;
  }
  if (!selection_.Take(*flow) || !selection_.InSample(*flow, message.sequence())) {
    return Step::kMore;
  }
  if (query_.last) {
    kept_.emplace_back(line);
    if (kept_.size() > *query_.last) {
      kept_.pop_front();
    }
    return Step::kMore;
  }
  const auto& summary = selection_.summary();
  const bool enough = query_.first && summary.matched - summary.skipped >= *query_.first;
  return !out(line) || enough ? Step::kEnough : Step::kMore;
}

void FlowReplay::Finish(std::string_view name, const OnLine& out) {
  for (const std::string& line : kept_) {
    if (!out(line)) {
      return;
    }
  }
  kept_.clear();
  std::string summary;
  selection_.AppendSummary(name, summary);
  (void)out(std::string_view(summary).substr(0, summary.size() - 1));
}

}  // namespace weir::admin

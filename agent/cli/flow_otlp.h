#pragma once

#include <string>

namespace weir::v1 {
class Flow;
}

namespace weir::cli {

// A flow as a log record of OTLP in its JSON form, on one line: an ExportLogsServiceRequest, as
// the Collector's otlpjsonfile receiver reads and OTLP/HTTP takes. The record's time is that
// of the flow's end, its resource the node, and it names the request's span. Pure.
std::string ToOtlp(const v1::Flow& flow);

}  // namespace weir::cli

#pragma once

#include <string>

#include "agent/base/clock.h"
#include "agent/cli/terminal.h"

namespace weir::v1 {
class CertificateStatus;
class WorkloadStatus;
}  // namespace weir::v1

namespace weir::cli {

// "ns/name", or "name" without a namespace.
std::string DisplayName(const v1::WorkloadStatus& workload);

// Whether hooks, listeners, probe and certificate are as they must be.
bool IsWell(const v1::WorkloadStatus& workload, base::WallTime now);
// The same as a word, "ok" or what is wrong.
std::string StateOf(const v1::WorkloadStatus& workload, base::WallTime now);

// "23 h (renewal in 11 h)", "expired 5 min ago", "none".
std::string CertificateText(const v1::CertificateStatus& certificate, base::WallTime now);

// Every field of one workload, one on a line.
std::string WorkloadDetails(const v1::WorkloadStatus& workload, base::WallTime now);

}  // namespace weir::cli

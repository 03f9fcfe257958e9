#pragma once

#include <string>

#include "agent/admin/admin_server.h"
#include "agent/admin/flow_store.h"
#include "agent/base/clock.h"

namespace weir::v1 {
class TopList;
}

namespace weir::daemon {

// Adds up the flows of the store that ended within the query's window, or since `started_at`.
// Nothing is kept between calls. Any thread but a worker; it takes time by the number of flows,
// which the store bounds.
v1::TopList MakeTop(const admin::FlowStore& store, const admin::TopQuery& query,
                    base::WallTime started_at, const std::string& node);

}  // namespace weir::daemon

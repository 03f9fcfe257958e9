#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/observe/record.h"

namespace weir::test {

// 2027-01-15T08:00:00Z, when the first of these flows begins.
inline constexpr base::WallTime kFlowsBegin{std::chrono::seconds(1'800'000'000)};

std::shared_ptr<const model::Workload> MakeWorkload(const std::string& ns, const std::string& name,
                                                    const std::string& address);

// shop/cart on node-a asks shop/price on node-b: GET /p/42, 200 after 3.1 ms, by mTLS.
observe::Record MakeRequest();
// The same, refused: 503 after 450 ms.
observe::Record MakeFailedRequest();
// An opaque connection from outside the mesh to shop/db, denied.
observe::Record MakeDeniedConnection();
// `count` requests, one a millisecond, whose paths are /0, /1, ...
std::vector<observe::Record> MakeRequests(std::uint64_t count);

}  // namespace weir::test

#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "agent/base/clock.h"
#include "agent/base/error.h"

// What `weir ca` does: a root that stays off the nodes and one intermediate per node.
//
//   DIRECTORY/root.pem, root.key              the trust domain's root (the key 0600)
//   DIRECTORY/nodes/NAME.pem, NAME.key        what node NAME gets, besides root.pem
namespace weir::identity {

inline constexpr std::chrono::seconds kRootLifetime = std::chrono::days(3652);
inline constexpr std::chrono::seconds kMaxNodeLifetime = std::chrono::days(7);
inline constexpr std::chrono::seconds kMaxSvidLifetime = std::chrono::hours(24);
// How far certificates are dated back, for peers whose clocks are behind (F23).
inline constexpr std::chrono::seconds kBackDating = std::chrono::minutes(2);

struct RootRequest {
  std::string directory;  // made (0700) if it is not there
  std::string trust_domain;
  std::chrono::seconds lifetime = kRootLifetime;
  bool force = false;  // replace a root that is there: every node needs a new intermediate
};

struct NodeRequest {
  std::string directory;
  std::string node;  // 1 to 64 of a-z 0-9 . -, as agent.yaml names it
  std::chrono::seconds lifetime = kMaxNodeLifetime;  // kMaxNodeLifetime at most
  bool force = false;                                // renew one that is there, with a new key
};

// What was written, for the command to say.
struct WrittenCertificate {
  std::string certificate_path;
  std::string key_path;
  std::string spiffe_id;  // of the trust domain
  std::string serial;     // hexadecimal
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;  // seconds since 1970
};

// Makes a self-signed P-256 root. kAlreadyExists if there is one and not `force`. Each
// file appears whole; on failure nothing that was there is lost. Blocks.
base::Result<WrittenCertificate> InitRoot(const RootRequest& request, const base::Clock& clock);

// Makes an intermediate that may sign workloads of the trust domain and nothing else
// (path length 0), whose subject names the node. It never outlives the root. Blocks.
base::Result<WrittenCertificate> IssueNode(const NodeRequest& request, const base::Clock& clock);

// Checks a node's name (NodeRequest::node).
base::Result<void> CheckNodeName(const std::string& node);

}  // namespace weir::identity

#pragma once

#include <cstdint>
#include <string>

namespace weir::v1 {
class Edge;
}

// The figures of an edge as people read them. Pure.
namespace weir::cli {

// Requests where there were any, else connections: what the shares of an edge are of.
std::uint64_t CallsOf(const v1::Edge& edge);
std::string Rate(const v1::Edge& edge, double window_seconds);  // 2.5/s
std::string ErrorShare(const v1::Edge& edge);                   // 1 %
std::string ProtectedShare(const v1::Edge& edge);               // by mTLS, or joined on one node
// "turn 60 %, header 40 %": where parents of the requests were known from.
std::string ParentShares(const v1::Edge& edge);

}  // namespace weir::cli

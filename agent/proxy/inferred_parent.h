#pragma once

#include "agent/observe/finish.h"
#include "agent/seam/causality.h"

// From what the kernel side knows of a request to its spans, and back. Pure.
namespace weir::proxy {

// Puts a request that came without a trace of its own below the one that `hint` names, or
// links it to those that it may have been sent for. A hint of requests without a trace
// changes nothing.
void AdoptParent(const seam::ParentHint& hint, observe::ExchangeResult& exchange);

// What requests that the application sends while it serves this one are children of: the
// span that its own headers were told of.
seam::ParentContext ContextOf(const observe::ExchangeResult& exchange);

}  // namespace weir::proxy

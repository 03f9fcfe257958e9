#pragma once

#include <openssl/ssl.h>

#include "agent/tls/svid_verifier.h"
#include "agent/tls/workload_tls.h"

namespace weir::tls {

// What a WorkloadTls holds of BoringSSL. Included by workload_tls.cc and engine.cc only.
struct WorkloadTls::Contexts {
  bssl::UniquePtr<SSL_CTX> client;
  bssl::UniquePtr<SSL_CTX> server;
  SvidVerifier verifier;
};

// Called by the handshake of a connection once the peer's chain is there; defined by
// the engine, which keeps what the chain proved.
ssl_verify_result_t VerifyPeerOf(SSL* ssl, std::uint8_t* out_alert);

}  // namespace weir::tls

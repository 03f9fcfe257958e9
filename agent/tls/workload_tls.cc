#include "agent/tls/workload_tls.h"

#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>

#include <array>
#include <utility>
#include <vector>

#include "agent/tls/contexts.h"
#include "agent/tls/x509_util.h"

namespace weir::tls {
namespace {

// A chain of kMaxChainCertificates ordinary certificates is below 8 KiB.
constexpr std::size_t kMaxPeerChainBytes = 32768;

using BufferPtr = bssl::UniquePtr<CRYPTO_BUFFER>;

base::Result<std::vector<BufferPtr>> ToBuffers(const std::vector<bssl::UniquePtr<X509>>& chain) {
  std::vector<BufferPtr> buffers;
  for (const auto& certificate : chain) {
    std::uint8_t* der = nullptr;
    const int length = i2d_X509(certificate.get(), &der);
    if (length <= 0) {
      return base::MakeError(base::ErrorCode::kInternal,
                             "encode a certificate: " + TakeCryptoError("failed"));
    }
    const bssl::UniquePtr<std::uint8_t> owner(der);
    buffers.emplace_back(CRYPTO_BUFFER_new(der, static_cast<std::size_t>(length), nullptr));
  }
  return buffers;
}

// Server: picks weir's own name over HTTP/2's; no common name ends the handshake
// (RFC 7301 section 3.2).
int SelectAlpn(SSL* /*ssl*/, const std::uint8_t** out, std::uint8_t* out_length,
               const std::uint8_t* offered, unsigned offered_length, void* /*context*/) {
  for (const std::string_view wanted : {kAlpnWeir, kAlpnH2}) {
    CBS list;
    CBS_init(&list, offered, offered_length);
    CBS name;
    while (CBS_get_u8_length_prefixed(&list, &name) != 0) {
      if (std::string_view(reinterpret_cast<const char*>(CBS_data(&name)), CBS_len(&name)) ==
          wanted) {
        *out = CBS_data(&name);
        *out_length = static_cast<std::uint8_t>(CBS_len(&name));
        return SSL_TLSEXT_ERR_OK;
      }
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

bool Configure(SSL_CTX* context, const std::vector<BufferPtr>& chain, EVP_PKEY* key) {
  constexpr std::array<int, 2> kGroups = {NID_X9_62_prime256v1, NID_X25519};
  constexpr std::array<std::uint16_t, 3> kPeerSignatures = {SSL_SIGN_ECDSA_SECP256R1_SHA256,
                                                            SSL_SIGN_ECDSA_SECP384R1_SHA384,
                                                            SSL_SIGN_RSA_PSS_RSAE_SHA256};
  std::vector<CRYPTO_BUFFER*> raw;
  for (const auto& buffer : chain) {
    raw.push_back(buffer.get());
  }
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_max_cert_list(context, kMaxPeerChainBytes);
  SSL_CTX_set_custom_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                            VerifyPeerOf);
  SSL_CTX_set_alpn_select_cb(context, SelectAlpn, nullptr);
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set1_curves(context, kGroups.data(), kGroups.size()) == 1 &&
         SSL_CTX_set_verify_algorithm_prefs(context, kPeerSignatures.data(),
                                            kPeerSignatures.size()) == 1 &&
         SSL_CTX_set_chain_and_key(context, raw.data(), raw.size(), key, nullptr) == 1;
}

std::vector<io::Bytes> Views(const std::vector<BufferPtr>& chain) {
  std::vector<io::Bytes> views;
  for (const auto& buffer : chain) {
    views.emplace_back(CRYPTO_BUFFER_data(buffer.get()), CRYPTO_BUFFER_len(buffer.get()));
  }
  return views;
}

}  // namespace

WorkloadTls::WorkloadTls(std::unique_ptr<Contexts> contexts, std::string spiffe_id,
                         std::int64_t not_after)
    : contexts_(std::move(contexts)), spiffe_id_(std::move(spiffe_id)), not_after_(not_after) {}

WorkloadTls::~WorkloadTls() = default;

base::Result<std::shared_ptr<const WorkloadTls>> WorkloadTls::Create(const SvidMaterial& material,
                                                                     const TrustBundles& bundles,
                                                                     const base::Clock& clock) {
  const std::string what = "certificate of " + material.spiffe_id;
  auto verifier = SvidVerifier::Create(bundles, clock);
  if (!verifier) {
    return std::unexpected(verifier.error());
  }
  const auto certificates =
      ParsePemCertificates(material.certificate_chain_pem, what, kMaxChainCertificates);
  if (!certificates) {
    return std::unexpected(certificates.error());
  }
  const auto key = ParsePemPrivateKey(material.private_key_pem, "key of " + material.spiffe_id);
  if (!key) {
    return std::unexpected(key.error());
  }
  const auto chain = ToBuffers(*certificates);
  if (!chain) {
    return std::unexpected(chain.error());
  }
  const auto own = verifier->Verify(Views(*chain));
  if (!own) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           what + " does not verify: " + std::string(ToString(own.error())));
  }
  if (own->spiffe_id != material.spiffe_id) {
    return base::MakeError(base::ErrorCode::kInvalidArgument, what + " names " + own->spiffe_id);
  }
  auto contexts = std::make_unique<Contexts>(
      bssl::UniquePtr<SSL_CTX>(SSL_CTX_new(TLS_with_buffers_method())),
      bssl::UniquePtr<SSL_CTX>(SSL_CTX_new(TLS_with_buffers_method())), std::move(*verifier));
  ERR_clear_error();
  for (SSL_CTX* context : {contexts->client.get(), contexts->server.get()}) {
    if (context == nullptr || !Configure(context, *chain, key->get())) {
      return base::MakeError(base::ErrorCode::kInvalidArgument,
                             what + " and its key: " + TakeCryptoError("do not fit"));
    }
  }
  return std::shared_ptr<const WorkloadTls>(
      new WorkloadTls(std::move(contexts), own->spiffe_id, own->not_after));
}

}  // namespace weir::tls

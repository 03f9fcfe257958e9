#pragma once

#include <openssl/x509.h>

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/error.h"
#include "agent/tls/secret.h"

// What tls and identity both need from BoringSSL's X.509 code. Only their .cc files
// include this.
namespace weir::tls {

// Empties this thread's error queue and returns its first entry as text, or `otherwise`
// if there was none.
std::string TakeCryptoError(std::string_view otherwise);

// Reads every certificate of a PEM text, at least one and `most` at most; `what` names
// the text in the error.
base::Result<std::vector<bssl::UniquePtr<X509>>> ParsePemCertificates(std::string_view pem,
                                                                      std::string_view what,
                                                                      std::size_t most);

// Reads a private key in PEM without a passphrase; never asks for one.
base::Result<bssl::UniquePtr<EVP_PKEY>> ParsePemPrivateKey(const Secret& pem,
                                                           std::string_view what);

// Seconds since 1970; empty if the time does not parse.
std::optional<std::int64_t> UnixSeconds(const ASN1_TIME* time);

// The URI names of a certificate's SubjectAlternativeName.
struct UriNames {
  std::vector<std::string> uris;
  bool critical = false;
};
// Fails if the extension is broken or there twice; no extension gives no names.
std::optional<UriNames> ReadUriNames(const X509* certificate);

// The one value of attribute `nid` in the subject; empty if it is missing or repeated.
std::string SubjectEntry(const X509* certificate, int nid);

// The serial number in lower-case hexadecimal.
std::string SerialHex(const X509* certificate);

}  // namespace weir::tls

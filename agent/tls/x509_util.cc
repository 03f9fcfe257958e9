#include "agent/tls/x509_util.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>
#include <limits>

namespace weir::tls {
namespace {

constexpr std::string_view kBeginCertificate = "-----BEGIN CERTIFICATE-----";
constexpr std::int64_t kSecondsPerDay = 86400;

std::size_t CountOccurrences(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + part.size())) {
    ++count;
  }
  return count;
}

bssl::UniquePtr<BIO> BioOf(std::string_view text) {
  return bssl::UniquePtr<BIO>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// Answers PEM's question for a passphrase with "none".
int NoPassphrase(char* /*buffer*/, int /*size*/, int /*writing*/, void* /*context*/) {
  return 0;
}

}  // namespace

std::string TakeCryptoError(std::string_view otherwise) {
  const std::uint32_t first = ERR_peek_error();
  ERR_clear_error();
  if (first == 0) {
    return std::string(otherwise);
  }
  const char* reason = ERR_reason_error_string(first);
  return reason != nullptr ? reason : std::string(otherwise);
}

base::Result<std::vector<bssl::UniquePtr<X509>>> ParsePemCertificates(std::string_view pem,
                                                                      std::string_view what,
                                                                      std::size_t most) {
  ERR_clear_error();
  const std::size_t count = CountOccurrences(pem, kBeginCertificate);
  if (count == 0 || pem.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           std::string(what) + " holds no PEM certificate");
  }
  if (count > most) {
    return base::MakeError(base::ErrorCode::kLimit, std::string(what) + " holds more than " +
                                                        std::to_string(most) + " certificates");
  }
  const auto bio = BioOf(pem);
  std::vector<bssl::UniquePtr<X509>> certificates;
  for (std::size_t i = 0; i < count; ++i) {
    bssl::UniquePtr<X509> certificate(PEM_read_bio_X509(bio.get(), nullptr, NoPassphrase, nullptr));
    if (!certificate) {
      return base::MakeError(base::ErrorCode::kInvalidArgument,
                             std::string(what) + ": certificate " + std::to_string(i + 1) +
                                 " does not parse: " + TakeCryptoError("bad PEM"));
    }
    certificates.push_back(std::move(certificate));
  }
  return certificates;
}

base::Result<bssl::UniquePtr<EVP_PKEY>> ParsePemPrivateKey(const Secret& pem,
                                                           std::string_view what) {
  ERR_clear_error();
  const auto bio = BioOf(pem.Reveal());
  bssl::UniquePtr<EVP_PKEY> key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (!key) {
    return base::MakeError(
        base::ErrorCode::kInvalidArgument,
        std::string(what) + " holds no PEM private key: " + TakeCryptoError("bad PEM"));
  }
  return key;
}

std::optional<std::int64_t> UnixSeconds(const ASN1_TIME* time) {
  const bssl::UniquePtr<ASN1_TIME> epoch(ASN1_TIME_set(nullptr, 0));
  int days = 0;
  int seconds = 0;
  if (!epoch || ASN1_TIME_diff(&days, &seconds, epoch.get(), time) == 0) {
    ERR_clear_error();
    return std::nullopt;
  }
  return days * kSecondsPerDay + seconds;
}

std::optional<UriNames> ReadUriNames(const X509* certificate) {
  UriNames names;
  int critical = 0;
  const bssl::UniquePtr<GENERAL_NAMES> parsed(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, nullptr)));
  if (!parsed) {
    ERR_clear_error();
    // -1: no such extension; anything else: broken, or more than one.
    return critical == -1 ? std::optional(names) : std::nullopt;
  }
  names.critical = critical == 1;
  for (std::size_t i = 0; i < sk_GENERAL_NAME_num(parsed.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(parsed.get(), i);
    if (name->type == GEN_URI) {
      const ASN1_STRING* uri = name->d.uniformResourceIdentifier;
      const std::uint8_t* bytes = ASN1_STRING_get0_data(uri);
      names.uris.emplace_back(bytes, bytes + ASN1_STRING_length(uri));
    }
  }
  return names;
}

std::string SubjectEntry(const X509* certificate, int nid) {
  const X509_NAME* subject = X509_get_subject_name(certificate);
  const int index = X509_NAME_get_index_by_NID(subject, nid, -1);
  if (index < 0 || X509_NAME_get_index_by_NID(subject, nid, index) >= 0) {
    return {};
  }
  std::uint8_t* utf8 = nullptr;
  const int length =
      ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index)));
  if (length < 0) {
    ERR_clear_error();
    return {};
  }
  const bssl::UniquePtr<std::uint8_t> owner(utf8);
  return {utf8, utf8 + length};
}

std::string SerialHex(const X509* certificate) {
  const bssl::UniquePtr<BIGNUM> number(
      ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  const bssl::UniquePtr<char> text(number ? BN_bn2hex(number.get()) : nullptr);
  ERR_clear_error();
  return text ? text.get() : "";
}

}  // namespace weir::tls

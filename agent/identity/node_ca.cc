#include "agent/identity/node_ca.h"

#include <openssl/bytestring.h>
#include <openssl/nid.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/identity/certificate.h"
#include "agent/identity/certificate_authority.h"
#include "agent/tls/svid_verifier.h"
#include "agent/tls/x509_util.h"

namespace weir::identity {
namespace {

constexpr std::size_t kMaxPemFileBytes = 65536;
constexpr std::size_t kMaxRoots = 64;
constexpr std::size_t kMaxSigners = tls::kMaxChainCertificates - 1;
constexpr std::string_view kProbePath = "/weir-check";

using base::ErrorCode;

std::unexpected<base::Error> Bad(ErrorCode code, std::string message, std::string remedy) {
  return std::unexpected(base::Error(code, std::move(message)).WithRemedy(std::move(remedy)));
}

std::string IssueCommand(const std::string& node) {
  return "weir ca node " + node;
}

template <typename T>
base::Result<T> WithRemedy(base::Result<T> result, std::string remedy) {
  if (!result) {
    return std::unexpected(std::move(result).error().WithRemedy(std::move(remedy)));
  }
  return result;
}

base::Result<tls::Secret> ReadKey(const std::string& path, const std::string& node) {
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && (status.st_mode & S_IROTH) != 0) {
    return Bad(ErrorCode::kPermission, "key " + path + " can be read by everybody",
               "chmod 0600 " + path);
  }
  return WithRemedy(tls::Secret::ReadFile(path, kMaxPemFileBytes), IssueCommand(node));
}

}  // namespace

struct NodeCa::State {
  const base::Clock* clock = nullptr;
  KeyedCertificate signer;
  std::string chain_pem;  // of the signer and what stands above it
  std::string bundle_pem;
  std::vector<std::int64_t> root_ends;
  std::string serial;
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;

  static base::Result<std::unique_ptr<State>> Read(const NodeCaFiles& files,
                                                   const std::string& node,
                                                   const base::Clock& clock);
  base::Result<void> CheckValidity(const std::string& path, const std::string& node) const;
  base::Result<void> CheckSubject(const std::string& path, const std::string& node,
                                  const std::string& trust_domain) const;
  [[nodiscard]] std::int64_t Now() const {
    return std::chrono::floor<std::chrono::seconds>(clock->WallNow()).time_since_epoch().count();
  }
};

base::Result<void> NodeCa::State::CheckValidity(const std::string& path,
                                                const std::string& node) const {
  if (Now() >= not_after) {
    return Bad(ErrorCode::kUnavailable,
               "certificate " + path + " expired at " + FormatTime(not_after),
               IssueCommand(node) + " --force, and copy the files to this node");
  }
  if (Now() + tls::kClockSkewSeconds < not_before) {
    return Bad(ErrorCode::kUnavailable,
               "certificate " + path + " is valid only from " + FormatTime(not_before) +
                   ", and it is " + FormatTime(Now()),
               "set this node's clock");
  }
  return {};
}

// Everything that can be wrong with the intermediate itself.
base::Result<void> NodeCa::State::CheckSubject(const std::string& path, const std::string& node,
                                               const std::string& trust_domain) const {
  X509* certificate = signer.certificate.get();
  if ((X509_get_extension_flags(certificate) & EXFLAG_CA) == 0 ||
      (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) == 0) {
    return Bad(ErrorCode::kInvalidArgument,
               "certificate " + path + " is not a certificate authority", IssueCommand(node));
  }
  const std::string named = tls::SubjectEntry(certificate, NID_commonName);
  if (tls::SubjectEntry(certificate, NID_organizationName) != tls::kNodeOrganization ||
      named != node) {
    return Bad(
        ErrorCode::kInvalidArgument,
        "certificate " + path + " is for node '" + named + "', and this is node '" + node + "'",
        IssueCommand(node) + ", or set the node's name in agent.yaml");
  }
  const auto names = tls::ReadUriNames(certificate);
  const std::string wanted = "spiffe://" + trust_domain;
  if (!names || names->uris != std::vector<std::string>{wanted}) {
    return Bad(ErrorCode::kInvalidArgument,
               "certificate " + path + " is for trust domain " +
                   (names && !names->uris.empty() ? names->uris.front() : std::string("(none)")) +
                   ", and this node's is " + wanted,
               "set trustDomain in agent.yaml, or " + IssueCommand(node) +
                   " from the root of that trust domain");
  }
  return {};
}

NodeCa::NodeCa(std::unique_ptr<State> state) : state_(std::move(state)) {}
NodeCa::~NodeCa() = default;

base::Result<std::unique_ptr<NodeCa::State>> NodeCa::State::Read(const NodeCaFiles& files,
                                                                 const std::string& node,
                                                                 const base::Clock& clock) {
  auto chain_pem =
      WithRemedy(base::ReadFile(files.certificate, kMaxPemFileBytes), IssueCommand(node));
  if (!chain_pem) {
    return std::unexpected(chain_pem.error());
  }
  const auto key_pem = ReadKey(files.key, node);
  if (!key_pem) {
    return std::unexpected(key_pem.error());
  }
  auto bundle_pem = WithRemedy(base::ReadFile(files.bundle, kMaxPemFileBytes),
                               "copy root.pem of the certificate authority to this node");
  if (!bundle_pem) {
    return std::unexpected(bundle_pem.error());
  }
  auto chain = WithRemedy(tls::ParsePemCertificates(*chain_pem, files.certificate, kMaxSigners),
                          IssueCommand(node));
  if (!chain) {
    return std::unexpected(chain.error());
  }
  auto key = WithRemedy(tls::ParsePemPrivateKey(*key_pem, files.key), IssueCommand(node));
  if (!key) {
    return std::unexpected(key.error());
  }
  auto state = std::make_unique<State>();
  state->clock = &clock;
  state->signer = {.certificate = std::move(chain->front()), .key = std::move(*key)};
  state->chain_pem = std::move(*chain_pem);
  state->bundle_pem = std::move(*bundle_pem);
  const X509* certificate = state->signer.certificate.get();
  state->serial = tls::SerialHex(certificate);
  state->not_before = tls::UnixSeconds(X509_get0_notBefore(certificate)).value_or(0);
  state->not_after = tls::UnixSeconds(X509_get0_notAfter(certificate)).value_or(0);
  return state;
}

base::Result<std::unique_ptr<NodeCa>> NodeCa::Load(const NodeCaFiles& files,
                                                   const std::string& node,
                                                   const std::string& trust_domain,
                                                   const base::Clock& clock) {
  auto state = State::Read(files, node, clock);
  if (!state) {
    return std::unexpected(state.error());
  }
  const KeyedCertificate& signer = (*state)->signer;
  if (!KeyFits(signer.certificate.get(), signer.key.get())) {
    return Bad(ErrorCode::kInvalidArgument,
               "key " + files.key + " is not the key of " + files.certificate,
               "copy both files of one " + IssueCommand(node));
  }
  if (auto checked = (*state)->CheckValidity(files.certificate, node); !checked) {
    return std::unexpected(checked.error());
  }
  if (auto checked = (*state)->CheckSubject(files.certificate, node, trust_domain); !checked) {
    return std::unexpected(checked.error());
  }
  const auto probe = model::SpiffeId::Make(trust_domain, kProbePath);
  if (!probe) {
    return std::unexpected(probe.error());
  }
  // What peers will check: an SVID of this authority, against this bundle.
  std::unique_ptr<NodeCa> ca(new NodeCa(std::move(*state)));
  const auto issued = ca->Issue(*probe, kMaxSvidLifetime);
  if (!issued) {
    return std::unexpected(issued.error());
  }
  const auto accepted =
      tls::WorkloadTls::Create(issued->material, {{trust_domain, ca->bundle_pem()}}, clock);
  if (!accepted) {
    return Bad(ErrorCode::kInvalidArgument,
               "certificate " + files.certificate + " is not good for SVIDs under " + files.bundle +
                   ": " + accepted.error().message(),
               "copy root.pem of the authority that issued it, or " + IssueCommand(node));
  }
  // It parses, or nothing would have been accepted under it.
  const auto roots = tls::ParsePemCertificates(ca->bundle_pem(), files.bundle, kMaxRoots);
  if (!roots) {
    return std::unexpected(roots.error());
  }
  for (const auto& root : *roots) {
    ca->state_->root_ends.push_back(tls::UnixSeconds(X509_get0_notAfter(root.get())).value_or(0));
  }
  return ca;
}

base::Result<IssuedSvid> NodeCa::Issue(const model::SpiffeId& identity,
                                       std::chrono::seconds lifetime) const {
  const std::int64_t now = state_->Now();
  if (now >= state_->not_after) {
    return base::MakeError(ErrorCode::kUnavailable, "the node's certificate authority expired at " +
                                                        FormatTime(state_->not_after));
  }
  const CertificateProfile profile{
      .role = CertificateRole::kWorkload,
      .organization = "weir",
      .common_name = "",
      .spiffe_id = identity.uri(),
      // Not before its issuer, whose own dating back covers the peers' skew.
      .not_before = std::max(now - kBackDating.count(), state_->not_before),
      .not_after = std::min(now + std::min(lifetime, kMaxSvidLifetime).count(), state_->not_after)};
  const auto made = MakeCertificate(profile, &state_->signer);
  if (!made) {
    return std::unexpected(made.error());
  }
  auto pem = CertificatePem(made->certificate.get());
  if (!pem) {
    return std::unexpected(pem.error());
  }
  auto key = PrivateKeyPem(made->key.get());
  if (!key) {
    return std::unexpected(key.error());
  }
  return IssuedSvid{.material = {.spiffe_id = identity.uri(),
                                 .certificate_chain_pem = std::move(*pem) + state_->chain_pem,
                                 .private_key_pem = std::move(*key)},
                    .serial = tls::SerialHex(made->certificate.get()),
                    .not_before = profile.not_before,
                    .not_after = profile.not_after};
}

const std::string& NodeCa::bundle_pem() const {
  return state_->bundle_pem;
}
const std::vector<std::int64_t>& NodeCa::root_ends() const {
  return state_->root_ends;
}
const std::string& NodeCa::serial() const {
  return state_->serial;
}
std::int64_t NodeCa::not_before() const {
  return state_->not_before;
}
std::int64_t NodeCa::not_after() const {
  return state_->not_after;
}

}  // namespace weir::identity

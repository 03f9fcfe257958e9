#include "agent/identity/certificate_authority.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "agent/base/file.h"
#include "agent/identity/certificate.h"
#include "agent/model/identity.h"
#include "agent/tls/svid_verifier.h"
#include "agent/tls/x509_util.h"

namespace weir::identity {
namespace {

constexpr std::size_t kMaxPemFileBytes = 65536;
constexpr std::size_t kMaxNodeNameBytes = 64;  // RFC 5280 appendix A.1: ub-common-name
constexpr unsigned kKeyMode = 0600;
constexpr unsigned kCertificateMode = 0644;
constexpr mode_t kDirectoryMode = 0700;

std::int64_t Seconds(base::WallTime time) {
  return std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
}

base::Result<void> MakeDirectory(const std::string& path) {
  if (::mkdir(path.c_str(), kDirectoryMode) != 0 && errno != EEXIST) {
    return base::SystemError("make directory " + path);
  }
  return {};
}

std::string RootPath(const std::string& directory, std::string_view extension) {
  return directory + "/root." + std::string(extension);
}

// Fails if one of the two files is there: half a pair is worth keeping, too.
base::Result<void> RefuseToReplace(const WrittenCertificate& files, const std::string& remedy) {
  for (const std::string& path : {files.certificate_path, files.key_path}) {
    if (::access(path.c_str(), F_OK) == 0) {
      return std::unexpected(
          base::Error(base::ErrorCode::kAlreadyExists, path + " exists").WithRemedy(remedy));
    }
  }
  return {};
}

// Writes both files and says what they are.
base::Result<WrittenCertificate> Write(WrittenCertificate files, const CertificateProfile& profile,
                                       const KeyedCertificate& made) {
  const auto pem = CertificatePem(made.certificate.get());
  if (!pem) {
    return std::unexpected(pem.error());
  }
  const auto key = PrivateKeyPem(made.key.get());
  if (!key) {
    return std::unexpected(key.error());
  }
  if (auto written = base::WriteFileAtomically(files.key_path, key->Reveal(), kKeyMode); !written) {
    return std::unexpected(written.error());
  }
  if (auto written = base::WriteFileAtomically(files.certificate_path, *pem, kCertificateMode);
      !written) {
    return std::unexpected(written.error());
  }
  files.spiffe_id = profile.spiffe_id;
  files.serial = tls::SerialHex(made.certificate.get());
  files.not_before = profile.not_before;
  files.not_after = profile.not_after;
  return files;
}

// A root as read from its files.
struct Root {
  KeyedCertificate keyed;
  std::string spiffe_id;
  std::int64_t not_after = 0;
};

template <typename T>
base::Result<T> WithInitRemedy(base::Result<T> result, const std::string& directory) {
  if (!result && result.error().code() == base::ErrorCode::kNotFound) {
    return std::unexpected(std::move(result).error().WithRemedy("weir ca init --dir " + directory));
  }
  return result;
}

base::Result<Root> LoadRoot(const std::string& directory, std::int64_t now) {
  const std::string certificate_path = RootPath(directory, "pem");
  const std::string key_path = RootPath(directory, "key");
  const auto pem = WithInitRemedy(base::ReadFile(certificate_path, kMaxPemFileBytes), directory);
  if (!pem) {
    return std::unexpected(pem.error());
  }
  const auto key_pem = WithInitRemedy(tls::Secret::ReadFile(key_path, kMaxPemFileBytes), directory);
  if (!key_pem) {
    return std::unexpected(key_pem.error());
  }
  auto certificates = tls::ParsePemCertificates(*pem, certificate_path, /*most=*/1);
  if (!certificates) {
    return std::unexpected(certificates.error());
  }
  auto key = tls::ParsePemPrivateKey(*key_pem, key_path);
  if (!key) {
    return std::unexpected(key.error());
  }
  Root root{.keyed = {.certificate = std::move(certificates->front()), .key = std::move(*key)},
            .spiffe_id = {},
            .not_after = 0};
  const X509* certificate = root.keyed.certificate.get();
  if (!KeyFits(certificate, root.keyed.key.get())) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           key_path + " is not the key of " + certificate_path);
  }
  const auto names = tls::ReadUriNames(certificate);
  const auto not_after = tls::UnixSeconds(X509_get0_notAfter(certificate));
  if (!names || names->uris.size() != 1 || !not_after ||
      !model::SpiffeId::Parse(names->uris.front())) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           certificate_path + " is not a root that weir ca init made");
  }
  if (*not_after <= now) {
    return std::unexpected(base::Error(base::ErrorCode::kUnavailable,
                                       certificate_path + " expired at " + FormatTime(*not_after))
                               .WithRemedy("weir ca init --force --dir " + directory +
                                           ", then new certificates for all nodes"));
  }
  root.spiffe_id = names->uris.front();
  root.not_after = *not_after;
  return root;
}

}  // namespace

base::Result<void> CheckNodeName(const std::string& node) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
  };
  if (node.empty() || node.size() > kMaxNodeNameBytes || !std::ranges::all_of(node, allowed) ||
      node.front() == '.' || node.front() == '-') {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           "node name '" + node.substr(0, 2 * kMaxNodeNameBytes) +
                               "' is not 1 to 64 of a-z 0-9 . -, beginning with a letter or digit");
  }
  return {};
}

base::Result<WrittenCertificate> InitRoot(const RootRequest& request, const base::Clock& clock) {
  const auto identity = model::SpiffeId::Make(request.trust_domain, "");
  if (!identity) {
    return std::unexpected(identity.error());
  }
  if (request.lifetime <= std::chrono::seconds(0)) {
    return base::MakeError(base::ErrorCode::kInvalidArgument, "the lifetime is not positive");
  }
  if (auto made = MakeDirectory(request.directory); !made) {
    return std::unexpected(made.error());
  }
  WrittenCertificate files{.certificate_path = RootPath(request.directory, "pem"),
                           .key_path = RootPath(request.directory, "key"),
                           .spiffe_id = {},
                           .serial = {}};
  if (!request.force) {
    if (auto free = RefuseToReplace(files, "--force replaces it and cuts off every node"); !free) {
      return std::unexpected(free.error());
    }
  }
  const std::int64_t now = Seconds(clock.WallNow());
  const CertificateProfile profile{.role = CertificateRole::kRoot,
                                   .organization = "weir",
                                   .common_name = "",
                                   .spiffe_id = identity->uri(),
                                   .not_before = now - kBackDating.count(),
                                   .not_after = now + request.lifetime.count()};
  const auto made = MakeCertificate(profile, nullptr);
  if (!made) {
    return std::unexpected(made.error());
  }
  return Write(std::move(files), profile, *made);
}

base::Result<WrittenCertificate> IssueNode(const NodeRequest& request, const base::Clock& clock) {
  if (auto checked = CheckNodeName(request.node); !checked) {
    return std::unexpected(checked.error());
  }
  if (request.lifetime <= std::chrono::seconds(0) || request.lifetime > kMaxNodeLifetime) {
    return base::MakeError(base::ErrorCode::kInvalidArgument,
                           "the lifetime of a node's certificate is 7 days at most");
  }
  const std::int64_t now = Seconds(clock.WallNow());
  const auto root = LoadRoot(request.directory, now);
  if (!root) {
    return std::unexpected(root.error());
  }
  const std::string folder = request.directory + "/nodes";
  if (auto made = MakeDirectory(folder); !made) {
    return std::unexpected(made.error());
  }
  WrittenCertificate files{.certificate_path = folder + "/" + request.node + ".pem",
                           .key_path = folder + "/" + request.node + ".key",
                           .spiffe_id = {},
                           .serial = {}};
  if (!request.force) {
    if (auto free = RefuseToReplace(files, "--force renews it"); !free) {
      return std::unexpected(free.error());
    }
  }
  const CertificateProfile profile{
      .role = CertificateRole::kNode,
      .organization = std::string(tls::kNodeOrganization),
      .common_name = request.node,
      .spiffe_id = root->spiffe_id,
      .not_before = now - kBackDating.count(),
      .not_after = std::min(now + request.lifetime.count(), root->not_after)};
  const auto made = MakeCertificate(profile, &root->keyed);
  if (!made) {
    return std::unexpected(made.error());
  }
  return Write(std::move(files), profile, *made);
}

}  // namespace weir::identity

#include "agent/tls/engine.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pool.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/check.h"
#include "agent/tls/contexts.h"
#include "agent/tls/x509_util.h"

namespace weir::tls {
namespace {

constexpr std::size_t kRecordHeaderBytes = 5;
constexpr std::size_t kMaxPlaintextBytes = 16384;                  // RFC 8446 section 5.1
constexpr std::size_t kMaxRecordBytes = kMaxPlaintextBytes + 256;  // RFC 8446 section 5.2
// Header, content type and tag of a TLS 1.3 record.
constexpr std::size_t kRecordOverheadBytes = 22;
constexpr std::uint8_t kFirstContentType = 20;
constexpr std::uint8_t kLastContentType = 23;
constexpr std::uint8_t kAlertType = 21;
constexpr std::uint8_t kHandshakeType = 22;

enum class HeaderFault : std::uint8_t { kNotTls, kOversized };

std::size_t RecordBytes(io::Bytes header) {
  return kRecordHeaderBytes + (std::size_t{header[3]} << 8U | header[4]);
}

// What is wrong with the front of a record, looked at as far as it is there, so that
// bytes that are no TLS fail at the first of them.
std::optional<HeaderFault> CheckHeader(io::Bytes front, bool first_record) {
  const bool good_type = first_record
                             ? front[0] == kHandshakeType || front[0] == kAlertType
                             : front[0] >= kFirstContentType && front[0] <= kLastContentType;
  if (!good_type || (front.size() > 1 && front[1] != 3)) {
    return HeaderFault::kNotTls;
  }
  if (front.size() >= kRecordHeaderBytes &&
      RecordBytes(front) > kRecordHeaderBytes + kMaxRecordBytes) {
    return HeaderFault::kOversized;
  }
  return std::nullopt;
}

// SslEngine runs a BoringSSL connection over memory. Within a call, feed_ is the whole
// records that BoringSSL may read and out_ is where it writes.
class SslEngine final : public Engine {
 public:
  SslEngine(std::shared_ptr<const WorkloadTls> workload, SSL_CTX* context, bool is_client,
            std::uint64_t records_per_key);

  bool OfferAlpn(std::string_view name);

  EngineState Receive(io::Bytes from_peer, io::ByteBuffer& plaintext,
                      io::ByteBuffer& ciphertext) override;
  EngineState Start(io::ByteBuffer& ciphertext) override;
  EngineState Send(io::Bytes plaintext, io::ByteBuffer& ciphertext) override;
  EngineState UpdateKeys(bool ask_peer, io::ByteBuffer& ciphertext) override;
  void Close(io::ByteBuffer& ciphertext) override;

  [[nodiscard]] EngineState state() const override { return state_; }
  [[nodiscard]] TlsFailure failure() const override { return failure_; }
  [[nodiscard]] std::string_view failure_text() const override { return failure_text_; }
  [[nodiscard]] const PeerInfo& peer() const override { return peer_; }
  [[nodiscard]] std::string_view alpn() const override { return alpn_; }
  [[nodiscard]] std::uint16_t version() const override {
    return state_ == EngineState::kHandshaking
               ? std::uint16_t{0}
               : static_cast<std::uint16_t>(SSL_version(ssl_.get()));
  }

  ssl_verify_result_t VerifyPeer(std::uint8_t* out_alert);
  int ReadRecords(BIO* bio, char* to, int most);
  int WriteRecords(const char* from, int count);
  void OnAlert(int value);

 private:
  [[nodiscard]] bool CanReceive() const {
    return state_ == EngineState::kHandshaking || state_ == EngineState::kOpen;
  }
  [[nodiscard]] bool CanSend() const {
    return !closed_ && (state_ == EngineState::kOpen || state_ == EngineState::kPeerClosed);
  }
  io::Bytes CompletePartial(io::Bytes from_peer, io::ByteBuffer& plaintext);
  io::Bytes ProcessWhole(io::Bytes from_peer, io::ByteBuffer& plaintext);
  void Process(io::Bytes records, io::ByteBuffer& plaintext);
  void Handshake();
  void FinishHandshake();
  void Read(io::ByteBuffer& plaintext);
  void Fail(TlsFailure failure, std::string text);
  void FailAtHeader(HeaderFault fault);
  void FailFromLibrary(TlsFailure otherwise);

  std::shared_ptr<const WorkloadTls> workload_;
  bssl::UniquePtr<SSL> ssl_;
  io::ByteBuffer partial_;  // the front of one record, until the rest is here
  io::Bytes feed_;
  io::ByteBuffer* out_ = nullptr;
  PeerInfo peer_;
  std::string alpn_;
  std::string failure_text_;
  std::uint64_t records_per_key_;
  std::uint64_t records_sealed_ = 0;
  std::optional<SvidFault> peer_fault_;
  std::optional<std::uint8_t> peer_alert_;
  EngineState state_ = EngineState::kHandshaking;
  TlsFailure failure_ = TlsFailure::kNone;
  bool any_record_ = false;
  bool closed_ = false;
};

SslEngine& EngineOf(const SSL* ssl) {
  return *static_cast<SslEngine*>(SSL_get_app_data(ssl));
}

int BioRead(BIO* bio, char* to, int most) {
  return static_cast<SslEngine*>(BIO_get_data(bio))->ReadRecords(bio, to, most);
}

int BioWrite(BIO* bio, const char* from, int count) {
  return static_cast<SslEngine*>(BIO_get_data(bio))->WriteRecords(from, count);
}

long BioControl(BIO* /*bio*/, int command, long /*number*/, void* /*pointer*/) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

const BIO_METHOD* BufferMethod() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(0, "records");
    WEIR_CHECK(made != nullptr && BIO_meth_set_read(made, BioRead) == 1 &&
               BIO_meth_set_write(made, BioWrite) == 1 && BIO_meth_set_ctrl(made, BioControl) == 1);
    return made;  // lives as long as the process
  }();
  return method;
}

void OnInfo(const SSL* ssl, int type, int value) {
  if (type == SSL_CB_READ_ALERT) {
    EngineOf(ssl).OnAlert(value);
  }
}

std::uint8_t AlertFor(SvidFault fault) {
  switch (fault) {
    case SvidFault::kExpired:
    case SvidFault::kNotYetValid:
      return SSL_AD_CERTIFICATE_EXPIRED;
    case SvidFault::kUntrusted:
    case SvidFault::kUnknownTrustDomain:
      return SSL_AD_UNKNOWN_CA;
    case SvidFault::kNoCertificate:
    case SvidFault::kChainTooLong:
    case SvidFault::kMalformed:
    case SvidFault::kNotOneUri:
    case SvidFault::kBadSpiffeId:
    case SvidFault::kRootPath:
    case SvidFault::kUriNotCritical:
    case SvidFault::kLeafIsCa:
    case SvidFault::kKeyUsage:
    case SvidFault::kLeafSigns:
    case SvidFault::kExtendedKeyUsage:
    case SvidFault::kNameConstraint:
    case SvidFault::kPathLength:
    case SvidFault::kSignerNotCa:
    case SvidFault::kSignerKeyUsage:
    case SvidFault::kSignerName:
    case SvidFault::kWeakKey:
    case SvidFault::kWeakSignature:
      return SSL_AD_BAD_CERTIFICATE;
  }
  return SSL_AD_BAD_CERTIFICATE;
}

SslEngine::SslEngine(std::shared_ptr<const WorkloadTls> workload, SSL_CTX* context, bool is_client,
                     std::uint64_t records_per_key)
    : workload_(std::move(workload)), ssl_(SSL_new(context)), records_per_key_(records_per_key) {
  BIO* bio = BIO_new(BufferMethod());
  WEIR_CHECK(ssl_ != nullptr && bio != nullptr);  // fail for want of memory only
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);  // takes the BIO
  SSL_set_app_data(ssl_.get(), this);
  SSL_set_info_callback(ssl_.get(), OnInfo);
  SSL_set_shed_handshake_config(ssl_.get(), 1);
  if (is_client) {
    SSL_set_connect_state(ssl_.get());
  } else {
    SSL_set_accept_state(ssl_.get());
  }
}

bool SslEngine::OfferAlpn(std::string_view name) {
  if (name.empty() || name.size() > std::numeric_limits<std::uint8_t>::max()) {
    return false;
  }
  std::vector<std::uint8_t> wire = {static_cast<std::uint8_t>(name.size())};
  wire.insert(wire.end(), name.begin(), name.end());
  return SSL_set_alpn_protos(ssl_.get(), wire.data(), static_cast<unsigned>(wire.size())) == 0;
}

int SslEngine::ReadRecords(BIO* bio, char* to, int most) {
  BIO_clear_retry_flags(bio);
  if (feed_.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t count = std::min(static_cast<std::size_t>(most), feed_.size());
  std::memcpy(to, feed_.data(), count);
  feed_ = feed_.subspan(count);
  return static_cast<int>(count);
}

int SslEngine::WriteRecords(const char* from, int count) {
  WEIR_CHECK(out_ != nullptr);
  out_->Append({reinterpret_cast<const std::uint8_t*>(from), static_cast<std::size_t>(count)});
  return count;
}

void SslEngine::OnAlert(int value) {
  const auto description = static_cast<std::uint8_t>(value & 0xff);
  if (description != SSL_AD_CLOSE_NOTIFY && description != SSL_AD_USER_CANCELLED) {
    peer_alert_ = description;
  }
}

ssl_verify_result_t SslEngine::VerifyPeer(std::uint8_t* out_alert) {
  const STACK_OF(CRYPTO_BUFFER)* presented = SSL_get0_peer_certificates(ssl_.get());
  std::vector<io::Bytes> chain;
  for (std::size_t i = 0; presented != nullptr && i < sk_CRYPTO_BUFFER_num(presented); ++i) {
    const CRYPTO_BUFFER* certificate = sk_CRYPTO_BUFFER_value(presented, i);
    chain.emplace_back(CRYPTO_BUFFER_data(certificate), CRYPTO_BUFFER_len(certificate));
  }
  auto verified = workload_->contexts().verifier.Verify(chain);
  if (!verified) {
    peer_fault_ = verified.error();
    *out_alert = AlertFor(verified.error());
    return ssl_verify_invalid;
  }
  peer_ = std::move(*verified);
  return ssl_verify_ok;
}

EngineState SslEngine::Start(io::ByteBuffer& ciphertext) {
  if (state_ == EngineState::kHandshaking) {
    out_ = &ciphertext;
    Handshake();
    out_ = nullptr;
  }
  return state_;
}

EngineState SslEngine::Receive(io::Bytes from_peer, io::ByteBuffer& plaintext,
                               io::ByteBuffer& ciphertext) {
  out_ = &ciphertext;
  while (!from_peer.empty() && CanReceive()) {
    from_peer = partial_.empty() ? ProcessWhole(from_peer, plaintext)
                                 : CompletePartial(from_peer, plaintext);
  }
  out_ = nullptr;
  return state_;
}

// Adds to the record that began in an earlier call, and to no other: what follows it is
// read where it lies. Returns what is left.
io::Bytes SslEngine::CompletePartial(io::Bytes from_peer, io::ByteBuffer& plaintext) {
  const std::size_t want =
      partial_.size() < kRecordHeaderBytes ? kRecordHeaderBytes : RecordBytes(partial_.Readable());
  const io::Bytes taken = from_peer.first(std::min(want - partial_.size(), from_peer.size()));
  partial_.Append(taken);
  if (const auto fault = CheckHeader(partial_.Readable(), !any_record_)) {
    FailAtHeader(*fault);
    return {};
  }
  const io::Bytes record = partial_.Readable();
  if (record.size() >= kRecordHeaderBytes && record.size() == RecordBytes(record)) {
    Process(record, plaintext);
    partial_.Clear();
    partial_.Trim();
  }
  return from_peer.subspan(taken.size());
}

// Reads the whole records at the front and keeps the part of one after them.
io::Bytes SslEngine::ProcessWhole(io::Bytes from_peer, io::ByteBuffer& plaintext) {
  std::size_t whole = 0;
  std::optional<HeaderFault> fault;
  bool first = !any_record_;
  while (whole < from_peer.size()) {
    const io::Bytes rest = from_peer.subspan(whole);
    fault = CheckHeader(rest, std::exchange(first, false));
    if (fault || rest.size() < kRecordHeaderBytes || rest.size() < RecordBytes(rest)) {
      break;
    }
    whole += RecordBytes(rest);
  }
  if (whole > 0) {
    Process(from_peer.first(whole), plaintext);
  }
  if (fault && CanReceive()) {
    FailAtHeader(*fault);
  } else if (CanReceive()) {
    partial_.Append(from_peer.subspan(whole));
  }
  return {};
}

void SslEngine::Process(io::Bytes records, io::ByteBuffer& plaintext) {
  any_record_ = true;
  feed_ = records;
  if (state_ == EngineState::kHandshaking) {
    Handshake();
  }
  if (state_ == EngineState::kOpen && !feed_.empty()) {
    Read(plaintext);
  }
  feed_ = {};
}

void SslEngine::Handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    FinishHandshake();
  } else if (SSL_get_error(ssl_.get(), result) != SSL_ERROR_WANT_READ) {
    FailFromLibrary(TlsFailure::kProtocol);
  }
}

void SslEngine::FinishHandshake() {
  const std::uint8_t* name = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &length);
  if (length == 0) {
    // One side named nothing. What is on this port must then not be a tunnel.
    (void)SSL_send_fatal_alert(ssl_.get(), SSL_AD_NO_APPLICATION_PROTOCOL);
    Fail(TlsFailure::kProtocol, "no common ALPN");
    return;
  }
  alpn_.assign(name, name + length);
  state_ = EngineState::kOpen;
}

void SslEngine::Read(io::ByteBuffer& plaintext) {
  while (!feed_.empty() || SSL_pending(ssl_.get()) > 0) {
    // Plaintext is shorter than its records, so this makes room once for all of them.
    const io::MutableBytes room = plaintext.Prepare(
        std::max(feed_.size(), static_cast<std::size_t>(SSL_pending(ssl_.get()))));
    constexpr std::size_t kMost = std::numeric_limits<int>::max();
    ERR_clear_error();
    const int got =
        SSL_read(ssl_.get(), room.data(), static_cast<int>(std::min(room.size(), kMost)));
    if (got > 0) {
      plaintext.Commit(static_cast<std::size_t>(got));
      continue;
    }
    const int error = SSL_get_error(ssl_.get(), got);
    if (error == SSL_ERROR_ZERO_RETURN) {
      state_ = EngineState::kPeerClosed;
      return;
    }
    if (error != SSL_ERROR_WANT_READ) {
      FailFromLibrary(TlsFailure::kProtocol);
      return;
    }
  }
}

EngineState SslEngine::Send(io::Bytes plaintext, io::ByteBuffer& ciphertext) {
  if (!CanSend() || plaintext.empty()) {
    return state_;
  }
  const std::size_t records = (plaintext.size() + kMaxPlaintextBytes - 1) / kMaxPlaintextBytes;
  if (records_sealed_ + records > records_per_key_) {
    UpdateKeys(/*ask_peer=*/false, ciphertext);
  }
  records_sealed_ += records;
  (void)ciphertext.Prepare(plaintext.size() + records * kRecordOverheadBytes);
  out_ = &ciphertext;
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 30U;
  while (!plaintext.empty() && CanSend()) {
    const io::Bytes part = plaintext.first(std::min(plaintext.size(), kMostAtOnce));
    ERR_clear_error();
    // The BIO takes everything, so a write is whole or has failed.
    if (SSL_write(ssl_.get(), part.data(), static_cast<int>(part.size())) <= 0) {
      FailFromLibrary(TlsFailure::kInternal);
    }
    plaintext = plaintext.subspan(part.size());
  }
  out_ = nullptr;
  return state_;
}

EngineState SslEngine::UpdateKeys(bool ask_peer, io::ByteBuffer& ciphertext) {
  if (!CanSend()) {
    return state_;
  }
  out_ = &ciphertext;
  ERR_clear_error();
  const int request = ask_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
  if (SSL_key_update(ssl_.get(), request) != 1) {
    FailFromLibrary(TlsFailure::kInternal);
  } else {
    // The message is only queued; an empty write sends it without a record of its own.
    (void)SSL_write(ssl_.get(), "", 0);
    ERR_clear_error();
    records_sealed_ = 0;
  }
  out_ = nullptr;
  return state_;
}

void SslEngine::Close(io::ByteBuffer& ciphertext) {
  if (!CanSend()) {
    return;
  }
  out_ = &ciphertext;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_.get());  // 0 only says that the peer has not closed yet
  ERR_clear_error();
  out_ = nullptr;
  closed_ = true;
}

void SslEngine::Fail(TlsFailure failure, std::string text) {
  state_ = EngineState::kFailed;
  failure_ = failure;
  failure_text_ = std::move(text);
  feed_ = {};
  partial_.Clear();
  partial_.Trim();
  ERR_clear_error();
}

void SslEngine::FailAtHeader(HeaderFault fault) {
  switch (fault) {
    case HeaderFault::kNotTls:
      // Whoever does not speak TLS is not told about it in TLS.
      Fail(TlsFailure::kProtocol, "not a TLS record");
      return;
    case HeaderFault::kOversized:
      (void)SSL_send_fatal_alert(ssl_.get(), SSL_AD_RECORD_OVERFLOW);
      Fail(TlsFailure::kOversizedRecord, "record longer than 16 KiB");
      return;
  }
}

void SslEngine::FailFromLibrary(TlsFailure otherwise) {
  const std::string text = TakeCryptoError("connection broken");
  if (peer_fault_) {
    Fail(
        *peer_fault_ == SvidFault::kExpired ? TlsFailure::kPeerExpired : TlsFailure::kPeerUntrusted,
        "peer certificate: " + std::string(ToString(*peer_fault_)));
  } else if (peer_alert_) {
    Fail(TlsFailure::kPeerAlert,
         std::string("alert from the peer: ") + SSL_alert_desc_string_long(*peer_alert_));
  } else {
    Fail(otherwise, text);
  }
}

}  // namespace

ssl_verify_result_t VerifyPeerOf(SSL* ssl, std::uint8_t* out_alert) {
  return EngineOf(ssl).VerifyPeer(out_alert);
}

std::unique_ptr<Engine> Engine::Client(std::shared_ptr<const WorkloadTls> workload,
                                       std::string_view alpn, std::uint64_t records_per_key) {
  SSL_CTX* context = workload->contexts().client.get();
  auto engine = std::make_unique<SslEngine>(std::move(workload), context, /*is_client=*/true,
                                            records_per_key);
  WEIR_CHECK(engine->OfferAlpn(alpn));  // a constant of the caller
  return engine;
}

std::unique_ptr<Engine> Engine::Server(std::shared_ptr<const WorkloadTls> workload,
                                       std::uint64_t records_per_key) {
  SSL_CTX* context = workload->contexts().server.get();
  return std::make_unique<SslEngine>(std::move(workload), context, /*is_client=*/false,
                                     records_per_key);
}

std::string_view ToString(TlsFailure value) {
  switch (value) {
    case TlsFailure::kNone:
      return "none";
    case TlsFailure::kProtocol:
      return "protocol";
    case TlsFailure::kPeerUntrusted:
      return "peer-untrusted";
    case TlsFailure::kPeerExpired:
      return "peer-expired";
    case TlsFailure::kPeerAlert:
      return "peer-alert";
    case TlsFailure::kOversizedRecord:
      return "oversized-record";
    case TlsFailure::kInternal:
      return "internal";
  }
  return "unknown";
}

}  // namespace weir::tls

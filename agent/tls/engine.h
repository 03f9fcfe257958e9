#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <string_view>

#include "agent/io/byte_buffer.h"
#include "agent/tls/peer.h"
#include "agent/tls/workload_tls.h"

namespace weir::tls {

enum class EngineState : std::uint8_t {
  kHandshaking,
  kOpen,
  kPeerClosed,  // close_notify seen: no more plaintext will come
  kFailed       // see failure(); an alert may still be in the output
};

// Why a TLS connection failed; each is a counter label.
enum class TlsFailure : std::uint8_t {
  kNone,
  kProtocol,       // malformed, wrong version, no common ALPN, bad record
  kPeerUntrusted,  // the chain or an X509-SVID rule: no PeerInfo
  kPeerExpired,    // the same, for nothing but the time
  kPeerAlert,      // the peer refused us
  kOversizedRecord,
  kInternal
};
std::string_view ToString(TlsFailure value);

// Records that one key may seal before it is replaced: AES-GCM is good for 2^24.5 of full
// size (RFC 8446 section 5.5).
inline constexpr std::uint64_t kRecordsPerKey = std::uint64_t{1} << 23U;

// Engine is one TLS 1.3 connection over byte buffers: ciphertext in and out, plaintext
// in and out, never a descriptor (sans-I/O). BoringSSL only ever sees whole records; a
// partial one stays in this object (so that a live connection can be handed over).
// One thread. Never logs keys.
class Engine {
 public:
  // Plays the client with the workload's SVID; offers `alpn` (one name). `workload`
  // is kept alive. The server plays Server(), accepting `alpn` names given there.
  static std::unique_ptr<Engine> Client(std::shared_ptr<const WorkloadTls> workload,
                                        std::string_view alpn,
                                        std::uint64_t records_per_key = kRecordsPerKey);
  static std::unique_ptr<Engine> Server(std::shared_ptr<const WorkloadTls> workload,
                                        std::uint64_t records_per_key = kRecordsPerKey);
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;
  virtual ~Engine() = default;

  // Takes bytes from the peer, all of them; appends decrypted bytes to `plaintext` and
  // whatever must be sent back (handshake, alerts) to `ciphertext`. `from_peer` may be
  // any part of the stream and must not lie in either buffer. Bytes after close_notify
  // and after a failure are ignored. Plaintext of the records before a bad one is there.
  virtual EngineState Receive(io::Bytes from_peer, io::ByteBuffer& plaintext,
                              io::ByteBuffer& ciphertext) = 0;
  // Starts a client's handshake: the ClientHello goes to `ciphertext`.
  virtual EngineState Start(io::ByteBuffer& ciphertext) = 0;
  // Seals `plaintext` (all of it, records of 16 KiB) to `ciphertext`. Only in kOpen
  // and kPeerClosed (half-closed by the peer): otherwise, and after Close, nothing happens.
  virtual EngineState Send(io::Bytes plaintext, io::ByteBuffer& ciphertext) = 0;
  // Replaces the key that seals (KeyUpdate, RFC 8446 section 4.6.3) and tells the peer;
  // with `ask_peer` it is to do the same. Send does this by itself in time. Only in kOpen
  // and kPeerClosed.
  virtual EngineState UpdateKeys(bool ask_peer, io::ByteBuffer& ciphertext) = 0;
  // Appends close_notify; nothing can be sent afterwards. No effect unless open.
  virtual void Close(io::ByteBuffer& ciphertext) = 0;

  [[nodiscard]] virtual EngineState state() const = 0;
  [[nodiscard]] virtual TlsFailure failure() const = 0;
  // Text of the failure for the log, with no secret in it.
  [[nodiscard]] virtual std::string_view failure_text() const = 0;
  // The verified peer, from kOpen on.
  [[nodiscard]] virtual const PeerInfo& peer() const = 0;
  // The negotiated ALPN, empty before kOpen.
  [[nodiscard]] virtual std::string_view alpn() const = 0;
  [[nodiscard]] virtual std::uint16_t version() const = 0;  // 0x0304

 protected:
  Engine() = default;
};

}  // namespace weir::tls

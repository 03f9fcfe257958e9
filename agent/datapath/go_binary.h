#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string_view>

// Where the functions that weir probes are in a Go program. The program is anybody's, so
// every number in it is checked before it is used, and what is read is bounded.
namespace weir::datapath {

// ByteSource gives the bytes of a file, which may change or shrink meanwhile.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  // Copies the bytes at `offset`; how many there were, up to the size of `into`.
  virtual std::size_t ReadAt(std::uint64_t offset, std::span<std::byte> into) const = 0;
};

// FileSource reads an open file with pread(2). The descriptor outlives it.
class FileSource final : public ByteSource {
 public:
  explicit FileSource(int fd) : fd_(fd) {}
  std::size_t ReadAt(std::uint64_t offset, std::span<std::byte> into) const override;
  // So far.
  [[nodiscard]] std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  int fd_;
  mutable std::uint64_t bytes_read_ = 0;
};

// Why a file has no functions to probe; the text of each is a counter's label.
enum class GoBinaryError : std::uint8_t {
  kNotElf,
  kOtherMachine,        // no little-endian x86-64 program: the registers are others
  kNotGo,               // no table of Go functions
  kNoHttpClient,        // Go without net/http's client
  kUnsupportedVersion,  // older than Go 1.18, or a table that is not known
  kMalformed,           // a number leads out of its table, or the file is shorter than it says
  kTooLarge,            // a table beyond its limit
  kUnexpectedCode       // the function does not begin as Go's functions do
};
std::string_view ToString(GoBinaryError error);
// Whether there was something that weir should have understood.
bool IsFailure(GoBinaryError error);

// Where to probe, as offsets in the file: at the jump behind the test of the stack's bounds
// with which a function begins. The registers still are as its caller left them, and the
// kernel emulates a jump, where it has to step over most instructions in a trap of its own.
struct GoHttpFunctions {
  std::uint64_t round_trip = 0;  // net/http.(*persistConn).roundTrip
  std::uint64_t write_loop = 0;  // net/http.(*persistConn).writeLoop

  friend bool operator==(const GoHttpFunctions&, const GoHttpFunctions&) = default;
};

// Finds them by .symtab, or where that was stripped by .gopclntab (the layout of Go 1.18 to
// 1.26), and checks that each begins with the test of the stack's bounds through R14 that
// Go's internal ABI has: a probe never lands inside of an instruction. Reads at most a few
// hundred MiB of a hostile file, a few MiB of a usual one; blocks.
std::expected<GoHttpFunctions, GoBinaryError> FindGoHttpFunctions(const ByteSource& file);

}  // namespace weir::datapath

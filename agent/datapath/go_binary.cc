#include "agent/datapath/go_binary.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace weir::datapath {
namespace {

constexpr std::size_t kNameCount = 2;
constexpr std::array<std::string_view, kNameCount> kNames = {"net/http.(*persistConn).roundTrip",
                                                             "net/http.(*persistConn).writeLoop"};

constexpr std::uint64_t kMaxTableBytes = 64ULL << 20U;
constexpr std::uint32_t kMaxFunctions = 1U << 20U;
constexpr std::uint64_t kMaxSectionNameBytes = 64ULL << 10U;
constexpr unsigned kMaxSegments = 256;
constexpr unsigned kMaxSections = 4096;
constexpr std::size_t kWindowBytes = 64ULL << 10U;

// internal/abi/symtab.go
constexpr std::uint32_t kMagicGo118 = 0xfffffff0U;
constexpr std::uint32_t kMagicGo120 = 0xfffffff1U;
constexpr std::array kFormerMagics = {0xfffffffbU, 0xfffffffaU};  // 1.2, 1.16

// runtime.pcHeader
struct PcHeader {
  std::uint32_t magic;
  std::uint8_t padding[2];
  std::uint8_t least_instruction;
  std::uint8_t pointer_bytes;
  std::uint64_t function_count;
  std::uint64_t file_count;
  std::uint64_t text_start;  // unused since 1.26, and where a loader would have to move it
  std::uint64_t names;       // from here on offsets from the header
  std::uint64_t units;
  std::uint64_t files;
  std::uint64_t values;
  std::uint64_t functions;
};
static_assert(sizeof(PcHeader) == 72);

// An element of runtime.functab, and the first two fields of runtime._func.
struct FunctionEntry {
  std::uint32_t entry;  // from the start of the text
  std::uint32_t function;
};
struct Function {
  std::uint32_t entry;
  std::uint32_t name;
};

// Offset of `text` in runtime.moduledata, which is the content of .go.module since 1.26.
constexpr std::uint64_t kTextInModule = 176;

using Failure = std::unexpected<GoBinaryError>;
template <typename T>
using Parsed = std::expected<T, GoBinaryError>;
// Of each of kNames, where it was found.
using Found = std::array<std::optional<std::uint64_t>, kNameCount>;

bool IsComplete(const Found& found) {
  return std::ranges::all_of(found, [](const auto& one) { return one.has_value(); });
}

template <typename T>
std::optional<T> Read(const ByteSource& file, std::uint64_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::array<std::byte, sizeof(T)> bytes{};
  if (file.ReadAt(offset, bytes) != bytes.size()) {
    return std::nullopt;
  }
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// Window reads small things that follow each other with few calls.
class Window {
 public:
  explicit Window(const ByteSource& file) : file_(file), bytes_(kWindowBytes) {}

  template <typename T>
  std::optional<T> Read(std::uint64_t offset) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kWindowBytes);
    if (offset < start_ || offset - start_ > filled_ || filled_ - (offset - start_) < sizeof(T)) {
      start_ = offset;
      filled_ = file_.ReadAt(offset, bytes_);
      if (filled_ < sizeof(T)) {
        return std::nullopt;
      }
    }
    T value;
    std::memcpy(&value, bytes_.data() + (offset - start_), sizeof(value));
    return value;
  }

 private:
  const ByteSource& file_;
  std::vector<std::byte> bytes_;
  std::uint64_t start_ = 0;
  std::size_t filled_ = 0;
};

// A part of the file.
struct Range {
  std::uint64_t offset = 0;
  std::uint64_t size = 0;
};

// Where each of the names is in a table of texts that end in NUL, from the table's start.
Parsed<Found> FindNames(const ByteSource& file, const Range& table) {
  if (table.size > kMaxTableBytes) {
    return Failure(GoBinaryError::kTooLarge);
  }
  Found found;
  std::size_t overlap = 0;
  for (const auto name : kNames) {
    overlap = std::max(overlap, name.size() + 2);
  }
  std::vector<std::byte> chunk(kWindowBytes);
  for (std::uint64_t at = 0; at < table.size && !IsComplete(found);) {
    const auto wanted = std::min<std::uint64_t>(chunk.size(), table.size - at);
    if (file.ReadAt(table.offset + at, std::span(chunk).first(wanted)) != wanted) {
      return Failure(GoBinaryError::kMalformed);
    }
    const std::string_view text(reinterpret_cast<const char*>(chunk.data()), wanted);
    for (std::size_t i = 0; i < kNameCount; ++i) {
      const std::string whole = '\0' + std::string(kNames[i]) + '\0';
      const auto position = found[i] ? std::string_view::npos : text.find(whole);
      if (position != std::string_view::npos) {
        found[i] = at + position + 1;
      }
    }
    if (wanted < chunk.size()) {
      break;
    }
    at += wanted - overlap;
  }
  return found;
}

// Elf knows the segments and sections of one file.
class Elf {
 public:
  static Parsed<Elf> Open(const ByteSource& file);

  [[nodiscard]] const Elf64_Shdr* Find(std::string_view name) const;
  [[nodiscard]] const Elf64_Shdr* Find(std::uint32_t type) const;
  [[nodiscard]] const Elf64_Shdr* At(std::uint32_t index) const {
    return index < sections_.size() ? &sections_[index] : nullptr;
  }
  // Where the code at `address` is in the file.
  [[nodiscard]] std::optional<std::uint64_t> OffsetOfCode(std::uint64_t address) const;

 private:
  Parsed<void> ReadSegments(const ByteSource& file, const Elf64_Ehdr& header);
  Parsed<void> ReadSections(const ByteSource& file, const Elf64_Ehdr& header);

  std::vector<Elf64_Phdr> code_;
  std::vector<Elf64_Shdr> sections_;
  std::string names_;
};

Parsed<Elf> Elf::Open(const ByteSource& file) {
  const auto header = Read<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
    return Failure(GoBinaryError::kNotElf);
  }
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_machine != EM_X86_64 || (header->e_type != ET_EXEC && header->e_type != ET_DYN)) {
    return Failure(GoBinaryError::kOtherMachine);
  }
  Elf elf;
  if (auto done = elf.ReadSegments(file, *header); !done) {
    return Failure(done.error());
  }
  if (auto done = elf.ReadSections(file, *header); !done) {
    return Failure(done.error());
  }
  return elf;
}

Parsed<void> Elf::ReadSegments(const ByteSource& file, const Elf64_Ehdr& header) {
  if (header.e_phentsize != sizeof(Elf64_Phdr)) {
    return Failure(GoBinaryError::kMalformed);
  }
  if (header.e_phnum > kMaxSegments) {
    return Failure(GoBinaryError::kTooLarge);
  }
  Window window(file);
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    const auto segment = window.Read<Elf64_Phdr>(header.e_phoff + i * sizeof(Elf64_Phdr));
    if (!segment) {
      return Failure(GoBinaryError::kMalformed);
    }
    if (segment->p_type == PT_LOAD && (segment->p_flags & PF_X) != 0) {
      code_.push_back(*segment);
    }
  }
  return {};
}

Parsed<void> Elf::ReadSections(const ByteSource& file, const Elf64_Ehdr& header) {
  if (header.e_shnum == 0) {
    return Failure(GoBinaryError::kNotGo);  // without them nothing can be found
  }
  if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_shstrndx >= header.e_shnum) {
    return Failure(GoBinaryError::kMalformed);
  }
  if (header.e_shnum > kMaxSections) {
    return Failure(GoBinaryError::kTooLarge);
  }
  Window window(file);
  for (unsigned i = 0; i < header.e_shnum; ++i) {
    const auto section = window.Read<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr));
    if (!section) {
      return Failure(GoBinaryError::kMalformed);
    }
    sections_.push_back(*section);
  }
  const Elf64_Shdr& names = sections_[header.e_shstrndx];
  if (names.sh_size > kMaxSectionNameBytes) {
    return Failure(GoBinaryError::kTooLarge);
  }
  names_.resize(names.sh_size);
  if (file.ReadAt(names.sh_offset, std::as_writable_bytes(std::span(names_))) != names_.size()) {
    return Failure(GoBinaryError::kMalformed);
  }
  return {};
}

const Elf64_Shdr* Elf::Find(std::string_view name) const {
  for (const auto& section : sections_) {
    if (section.sh_name < names_.size() && section.sh_type != SHT_NOBITS &&
        std::string_view(names_).substr(section.sh_name, name.size() + 1) ==
            std::string(name) + '\0') {
      return &section;
    }
  }
  return nullptr;
}

const Elf64_Shdr* Elf::Find(std::uint32_t type) const {
  const auto found = std::ranges::find(sections_, type, &Elf64_Shdr::sh_type);
  return found == sections_.end() ? nullptr : &*found;
}

std::optional<std::uint64_t> Elf::OffsetOfCode(std::uint64_t address) const {
  for (const auto& segment : code_) {
    if (address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_filesz) {
      return segment.p_offset + (address - segment.p_vaddr);
    }
  }
  return std::nullopt;
}

// The addresses of the functions by the linker's symbols.
Parsed<Found> FindSymbols(const ByteSource& file, const Elf& elf) {
  const Elf64_Shdr* symbols = elf.Find(std::uint32_t{SHT_SYMTAB});
  const Elf64_Shdr* texts = symbols == nullptr ? nullptr : elf.At(symbols->sh_link);
  if (texts == nullptr || texts->sh_type != SHT_STRTAB ||
      symbols->sh_entsize != sizeof(Elf64_Sym)) {
    return Found{};
  }
  if (symbols->sh_size > kMaxTableBytes) {
    return Failure(GoBinaryError::kTooLarge);
  }
  const auto names = FindNames(file, {.offset = texts->sh_offset, .size = texts->sh_size});
  if (!names || !IsComplete(*names)) {
    return names ? Parsed<Found>(Found{}) : names;
  }
  Found addresses;
  Window window(file);
  for (std::uint64_t at = 0; at + sizeof(Elf64_Sym) <= symbols->sh_size && !IsComplete(addresses);
       at += sizeof(Elf64_Sym)) {
    const auto symbol = window.Read<Elf64_Sym>(symbols->sh_offset + at);
    if (!symbol) {
      return Failure(GoBinaryError::kMalformed);
    }
    for (std::size_t i = 0; i < kNameCount; ++i) {
      if (symbol->st_name == (*names)[i] && ELF64_ST_TYPE(symbol->st_info) == STT_FUNC) {
        addresses[i] = symbol->st_value;
      }
    }
  }
  return addresses;
}

// What the Go runtime keeps of its functions.
struct FunctionTable {
  Range whole;
  PcHeader header{};
};

Parsed<FunctionTable> OpenTable(const ByteSource& file, const Elf& elf) {
  const Elf64_Shdr* section = elf.Find(std::string_view(".gopclntab"));
  if (section == nullptr) {
    section = elf.Find(std::string_view(".data.rel.ro.gopclntab"));  // of a PIE
  }
  if (section == nullptr) {
    return Failure(GoBinaryError::kNotGo);
  }
  FunctionTable table{.whole = {.offset = section->sh_offset, .size = section->sh_size}};
  if (table.whole.size > kMaxTableBytes) {
    return Failure(GoBinaryError::kTooLarge);
  }
  const auto read = Read<PcHeader>(file, table.whole.offset);
  if (!read || table.whole.size < sizeof(PcHeader)) {
    return Failure(GoBinaryError::kMalformed);
  }
  table.header = *read;
  const PcHeader& header = table.header;
  if (std::ranges::find(kFormerMagics, header.magic) != kFormerMagics.end()) {
    return Failure(GoBinaryError::kUnsupportedVersion);
  }
  if (header.magic != kMagicGo118 && header.magic != kMagicGo120) {
    return Failure(GoBinaryError::kUnsupportedVersion);
  }
  if (header.padding[0] != 0 || header.padding[1] != 0 || header.least_instruction != 1 ||
      header.pointer_bytes != sizeof(std::uint64_t) || header.names > header.units ||
      header.units > table.whole.size || header.functions > table.whole.size) {
    return Failure(GoBinaryError::kMalformed);
  }
  if (header.function_count > kMaxFunctions) {
    return Failure(GoBinaryError::kTooLarge);
  }
  return table;
}

// Offsets of the functions from the start of the text, by the runtime's table.
Parsed<Found> FindEntries(const ByteSource& file, const FunctionTable& table) {
  const PcHeader& header = table.header;
  const auto names = FindNames(
      file, {.offset = table.whole.offset + header.names, .size = header.units - header.names});
  if (!names) {
    return names;
  }
  if (!IsComplete(*names)) {
    return Failure(GoBinaryError::kNoHttpClient);
  }
  const std::uint64_t functions = table.whole.offset + header.functions;
  const std::uint64_t room = table.whole.size - header.functions;
  Found entries;
  Window index(file);
  Window details(file);
  for (std::uint64_t i = 0; i < header.function_count && !IsComplete(entries); ++i) {
    if ((i + 1) * sizeof(FunctionEntry) > room) {
      return Failure(GoBinaryError::kMalformed);
    }
    const auto entry = index.Read<FunctionEntry>(functions + i * sizeof(FunctionEntry));
    if (!entry || entry->function > room || room - entry->function < sizeof(Function)) {
      return Failure(GoBinaryError::kMalformed);
    }
    const auto function = details.Read<Function>(functions + entry->function);
    if (!function) {
      return Failure(GoBinaryError::kMalformed);
    }
    for (std::size_t k = 0; k < kNameCount; ++k) {
      if (function->name == (*names)[k]) {
        entries[k] = entry->entry;
      }
    }
  }
  return IsComplete(entries) ? Parsed<Found>(entries) : Failure(GoBinaryError::kMalformed);
}

// Where the text may start; with a C linker .text begins with what is not Go's.
std::vector<std::uint64_t> TextStarts(const ByteSource& file, const Elf& elf,
                                      const PcHeader& header) {
  std::vector<std::uint64_t> starts;
  if (header.text_start != 0) {
    starts.push_back(header.text_start);
  }
  if (const Elf64_Shdr* module = elf.Find(std::string_view(".go.module"))) {
    const auto text = module->sh_size < kTextInModule + sizeof(std::uint64_t)
                          ? std::nullopt
                          : Read<std::uint64_t>(file, module->sh_offset + kTextInModule);
    if (text.value_or(0) != 0) {
      starts.push_back(*text);
    }
  }
  if (const Elf64_Shdr* text = elf.Find(std::string_view(".text"))) {
    starts.push_back(text->sh_addr);
  }
  return starts;
}

// Go's functions begin with a test of their stack's bounds and a jump that grows it (cmd/internal/
// obj/x86, stacksplit): CMPQ SP, 16(R14), or the same of R12 behind a LEAQ of the frame; then
// JLS. How far behind the function's begin the jump is.
std::optional<std::uint64_t> FindJump(const ByteSource& file, std::uint64_t offset) {
  using namespace std::string_view_literals;
  constexpr auto kCompareR12 = "\x4d\x3b\x66\x10"sv;
  constexpr std::size_t kLongest = 14;
  std::array<std::byte, kLongest> code{};
  if (file.ReadAt(offset, code) != code.size()) {
    return std::nullopt;
  }
  const std::string_view text(reinterpret_cast<const char*>(code.data()), code.size());
  std::size_t length = 0;
  if (text.starts_with("\x49\x3b\x66\x10"sv)) {
    length = 4;
  } else if (text.starts_with("\x4c\x8d\x64\x24"sv) && text.substr(5, 4) == kCompareR12) {
    length = 9;
  } else if (text.starts_with("\x4c\x8d\xa4\x24"sv) && text.substr(8, 4) == kCompareR12) {
    length = 12;
  } else {
    return std::nullopt;
  }
  const bool is_jump = text.substr(length, 2) == "\x0f\x86"sv || text[length] == '\x76';
  return is_jump ? std::optional<std::uint64_t>(length) : std::nullopt;
}

// Where to probe functions at `base` + each of `found`, if all are functions.
std::optional<GoHttpFunctions> Check(const ByteSource& file, const Elf& elf, std::uint64_t base,
                                     const Found& found) {
  std::array<std::uint64_t, kNameCount> offsets{};
  for (std::size_t i = 0; i < kNameCount; ++i) {
    const auto offset = elf.OffsetOfCode(base + found[i].value_or(0));
    const auto jump = offset ? FindJump(file, *offset) : std::nullopt;
    if (!jump) {
      return std::nullopt;
    }
    offsets[i] = *offset + *jump;
  }
  return GoHttpFunctions{.round_trip = offsets[0], .write_loop = offsets[1]};
}

}  // namespace

std::size_t FileSource::ReadAt(std::uint64_t offset, std::span<std::byte> into) const {
  std::size_t done = 0;
  while (done < into.size()) {
    const auto count = ::pread(fd_, into.data() + done, into.size() - done,
                               static_cast<off_t>(offset + done));  // EINVAL beyond its range
    if (count <= 0) {
      break;
    }
    done += static_cast<std::size_t>(count);
  }
  bytes_read_ += done;
  return done;
}

std::string_view ToString(GoBinaryError error) {
  switch (error) {
    case GoBinaryError::kNotElf:
      return "not-elf";
    case GoBinaryError::kOtherMachine:
      return "other-machine";
    case GoBinaryError::kNotGo:
      return "not-go";
    case GoBinaryError::kNoHttpClient:
      return "no-http-client";
    case GoBinaryError::kUnsupportedVersion:
      return "unsupported-version";
    case GoBinaryError::kMalformed:
      return "malformed";
    case GoBinaryError::kTooLarge:
      return "too-large";
    case GoBinaryError::kUnexpectedCode:
      return "unexpected-code";
  }
  return "";
}

bool IsFailure(GoBinaryError error) {
  return error != GoBinaryError::kNotElf && error != GoBinaryError::kNotGo &&
         error != GoBinaryError::kNoHttpClient;
}

std::expected<GoHttpFunctions, GoBinaryError> FindGoHttpFunctions(const ByteSource& file) {
  const auto elf = Elf::Open(file);
  if (!elf) {
    return Failure(elf.error());
  }
  const auto table = OpenTable(file, *elf);
  if (!table) {
    return Failure(table.error());
  }
  const auto symbols = FindSymbols(file, *elf);
  if (!symbols) {
    return Failure(symbols.error());
  }
  if (IsComplete(*symbols)) {
    const auto functions = Check(file, *elf, /*base=*/0, *symbols);
    return functions ? std::expected<GoHttpFunctions, GoBinaryError>(*functions)
                     : Failure(GoBinaryError::kUnexpectedCode);
  }
  const auto entries = FindEntries(file, *table);
  if (!entries) {
    return Failure(entries.error());
  }
  for (const auto start : TextStarts(file, *elf, table->header)) {
    if (const auto functions = Check(file, *elf, start, *entries)) {
      return *functions;
    }
  }
  return Failure(GoBinaryError::kUnexpectedCode);
}

}  // namespace weir::datapath

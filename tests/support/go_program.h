#pragma once

#include <elf.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/datapath/go_binary.h"

// A small file with the parts of a Go program that weir looks at.
namespace weir::test {

// MemorySource is a file in memory. `bytes` outlives it.
class MemorySource final : public datapath::ByteSource {
 public:
  explicit MemorySource(std::string_view bytes) : bytes_(bytes) {}
  std::size_t ReadAt(std::uint64_t offset, std::span<std::byte> into) const override {
    if (offset >= bytes_.size()) {
      return 0;
    }
    const std::size_t count = std::min<std::size_t>(into.size(), bytes_.size() - offset);
    std::memcpy(into.data(), bytes_.data() + offset, count);
    read_ += count;
    return count;
  }
  [[nodiscard]] std::uint64_t read() const { return read_; }

 private:
  std::string_view bytes_;
  mutable std::uint64_t read_ = 0;
};

struct GoProgramShape {
  std::uint32_t magic = 0xfffffff1U;  // of Go 1.20 and later
  bool symbols = true;                // .symtab and .strtab
  bool table = true;                  // .gopclntab
  bool http = true;                   // has net/http's client
  bool text_start_in_header = false;  // as Go 1.18 to 1.25 write it
  bool text_start_in_module = false;  // as Go 1.26 with a C linker
  std::string_view section = ".gopclntab";
  std::string_view prologue = "\x49\x3b\x66\x10\x0f\x86";  // cmp 0x10(%r14),%rsp; jbe
};

inline constexpr std::uint64_t kTextAddress = 0x401000;
inline constexpr std::uint64_t kTextOffset = 0x1000;
inline constexpr std::uint64_t kTextBytes = 0x200;
// Go's part of the text begins here when a C linker put its own before it.
inline constexpr std::uint64_t kGoTextSkip = 0x40;
inline constexpr std::uint64_t kRoundTrip = 0x100;
inline constexpr std::uint64_t kWriteLoop = 0x180;

// GoProgramBuilder puts sections behind each other and the tables that name them last.
class GoProgramBuilder {
 public:
  explicit GoProgramBuilder(const GoProgramShape& shape) : shape_(shape) {
    file_.resize(kTextOffset + kTextBytes, '\0');
    // Without an own start, entries count from where .text begins.
    skip_ = shape.text_start_in_header || shape.text_start_in_module ? kGoTextSkip : 0;
    for (const auto at : {kRoundTrip, kWriteLoop}) {
      std::ranges::copy(shape.prologue, file_.begin() + static_cast<long>(kTextOffset + at));
    }
    Add("", SHT_NULL, 0, 0, "");
    Add(".text", SHT_PROGBITS, 0, 0, "");
    sections_.back().header.sh_addr = kTextAddress;
    sections_.back().header.sh_offset = kTextOffset;
    sections_.back().header.sh_size = kTextBytes;
  }

  std::string Build() {
    if (shape_.table) {
      Add(shape_.section, SHT_PROGBITS, 0, 0, Table());
    }
    if (shape_.text_start_in_module) {
      std::string module(256, '\0');
      Put(module, 176, kTextAddress + skip_);
      Add(".go.module", SHT_PROGBITS, 0, 0, module);
    }
    if (shape_.symbols) {
      AddSymbols();
    }
    Finish();
    return file_;
  }

 private:
  struct Section {
    std::string name;
    Elf64_Shdr header{};
  };

  template <typename T>
  static void Put(std::string& bytes, std::size_t at, const T& value) {
    std::memcpy(bytes.data() + at, &value, sizeof(value));
  }
  template <typename T>
  static void Append(std::string& bytes, const T& value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void Add(std::string_view name, std::uint32_t type, std::uint32_t link, std::uint64_t entry,
           const std::string& content) {
    Section section{.name = std::string(name), .header = {}};
    section.header.sh_type = type;
    section.header.sh_link = link;
    section.header.sh_entsize = entry;
    section.header.sh_offset = file_.size();
    section.header.sh_size = content.size();
    sections_.push_back(section);
    file_ += content;
  }

  [[nodiscard]] std::string Table() const {
    const std::string names = std::string("main.main\0", 10) +
                              (shape_.http ? std::string(kRoundTripName) + '\0' : std::string()) +
                              (shape_.http ? std::string(kWriteLoopName) + '\0' : std::string());
    std::string table(72, '\0');
    Put(table, 0, shape_.magic);
    table[6] = 1;
    table[7] = 8;
    Put(table, 8, std::uint64_t{3});
    Put(table, 24, shape_.text_start_in_header ? kTextAddress + skip_ : std::uint64_t{0});
    Put(table, 32, std::uint64_t{72});
    for (const unsigned at : {40U, 48U, 56U}) {
      Put(table, at, std::uint64_t{72 + names.size()});
    }
    Put(table, 64, std::uint64_t{72 + names.size()});
    table += names;
    const std::uint32_t functions = 3 * 8 + 4;
    const std::uint32_t entries[] = {0x20, static_cast<std::uint32_t>(kRoundTrip - skip_),
                                     static_cast<std::uint32_t>(kWriteLoop - skip_)};
    const std::uint32_t offsets[] = {0, 10, 10 + kRoundTripName.size() + 1};
    for (std::uint32_t i = 0; i < 3; ++i) {
      Append(table, entries[i]);
      Append(table, functions + i * 8);
    }
    Append(table, static_cast<std::uint32_t>(kTextBytes));
    for (std::uint32_t i = 0; i < 3; ++i) {
      Append(table, entries[i]);
      Append(table, offsets[i]);
    }
    return table;
  }

  void AddSymbols() {
    std::string texts(1, '\0');
    std::string symbols(sizeof(Elf64_Sym), '\0');
    const auto symbol = [&](std::string_view name, std::uint64_t address) {
      Elf64_Sym one{};
      one.st_name = static_cast<std::uint32_t>(texts.size());
      one.st_info = ELF64_ST_INFO(STB_GLOBAL, STT_FUNC);
      one.st_value = address;
      Append(symbols, one);
      texts += std::string(name) + '\0';
    };
    symbol("main.main", kTextAddress + 0x20);
    if (shape_.http) {
      symbol(kRoundTripName, kTextAddress + kRoundTrip);
      symbol(kWriteLoopName, kTextAddress + kWriteLoop);
    }
    const auto texts_index = static_cast<std::uint32_t>(sections_.size() + 1);
    Add(".symtab", SHT_SYMTAB, texts_index, sizeof(Elf64_Sym), symbols);
    Add(".strtab", SHT_STRTAB, 0, 0, texts);
  }

  void Finish() {
    std::string names(1, '\0');
    sections_.push_back({.name = ".shstrtab", .header = {}});
    for (auto& section : sections_) {
      section.header.sh_name = static_cast<std::uint32_t>(names.size());
      names += section.name + '\0';
    }
    Section& last = sections_.back();
    last.header.sh_type = SHT_STRTAB;
    last.header.sh_offset = file_.size();
    last.header.sh_size = names.size();
    file_ += names;
    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_type = ET_EXEC;
    header.e_machine = EM_X86_64;
    header.e_phoff = sizeof(header);
    header.e_phentsize = sizeof(Elf64_Phdr);
    header.e_phnum = 1;
    header.e_shoff = file_.size();
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<std::uint16_t>(sections_.size());
    header.e_shstrndx = static_cast<std::uint16_t>(sections_.size() - 1);
    for (const auto& section : sections_) {
      Append(file_, section.header);
    }
    Elf64_Phdr code{};
    code.p_type = PT_LOAD;
    code.p_flags = PF_R | PF_X;
    code.p_offset = kTextOffset;
    code.p_vaddr = kTextAddress;
    code.p_filesz = kTextBytes;
    code.p_memsz = kTextBytes;
    Put(file_, 0, header);
    Put(file_, sizeof(header), code);
  }

  static constexpr std::string_view kRoundTripName = "net/http.(*persistConn).roundTrip";
  static constexpr std::string_view kWriteLoopName = "net/http.(*persistConn).writeLoop";

  GoProgramShape shape_;
  std::string file_;
  std::uint64_t skip_ = 0;
  std::vector<Section> sections_;
};

inline std::string MakeGoProgram(const GoProgramShape& shape) {
  return GoProgramBuilder(shape).Build();
}

}  // namespace weir::test

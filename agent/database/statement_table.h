#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "agent/database/sql_summary.h"

namespace weir::database {

using StatementPtr = std::shared_ptr<const SqlSummary>;

// StatementTable remembers what the names of one connection (prepared statements, portals)
// stand for. At most `max_bytes` of names and texts: the oldest entry goes first. A name longer
// than kMaxNameBytes is not remembered. One thread.
class StatementTable {
 public:
  static constexpr std::size_t kMaxNameBytes = 64;
  // What an entry costs beside its texts.
  static constexpr std::size_t kEntryBytes = 192;

  explicit StatementTable(std::size_t max_bytes) : max_bytes_(max_bytes) {}

  void Set(std::string_view name, StatementPtr statement);
  void Erase(std::string_view name);
  void Clear();
  // Null if it is not known.
  [[nodiscard]] StatementPtr Find(std::string_view name) const;
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::string name;
    StatementPtr statement;
    std::size_t bytes = 0;
  };
  void Erase(std::list<Entry>::iterator entry);

  std::list<Entry> entries_;                                                // oldest first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> index_;  // keys are entries'
  std::size_t bytes_ = 0;
  std::size_t max_bytes_;
};

}  // namespace weir::database

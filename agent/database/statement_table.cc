#include "agent/database/statement_table.h"

#include <iterator>
#include <utility>

namespace weir::database {

void StatementTable::Set(std::string_view name, StatementPtr statement) {
  Erase(name);
  if (name.size() > kMaxNameBytes || statement == nullptr) {
    return;
  }
  const std::size_t bytes = kEntryBytes + name.size() + statement->operation.size() +
                            statement->collection.size() + statement->text.size();
  if (bytes > max_bytes_) {
    return;
  }
  entries_.push_back(
      {.name = std::string(name), .statement = std::move(statement), .bytes = bytes});
  index_.emplace(entries_.back().name, std::prev(entries_.end()));
  bytes_ += bytes;
  while (bytes_ > max_bytes_) {
    Erase(entries_.begin());
  }
}

void StatementTable::Erase(std::string_view name) {
  if (const auto found = index_.find(name); found != index_.end()) {
    Erase(found->second);
  }
}

void StatementTable::Erase(std::list<Entry>::iterator entry) {
  bytes_ -= entry->bytes;
  index_.erase(entry->name);
  entries_.erase(entry);
}

void StatementTable::Clear() {
  index_.clear();
  entries_.clear();
  bytes_ = 0;
}

StatementPtr StatementTable::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second->statement;
}

}  // namespace weir::database

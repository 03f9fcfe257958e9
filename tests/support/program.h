#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

#include "agent/base/unique_fd.h"

namespace weir::test {

// How a program ended and what it wrote.
struct ProgramResult {
  int exit_code = -1;  // 128 + signal when one ended it
  std::string out;
  std::string err;
};

using Environment = std::map<std::string, std::string>;

// Program runs `arguments` (the first is a path) with `environment` alone, and is killed
// when it is still running after 30 s or when this object ends.
class Program {
 public:
  explicit Program(const std::vector<std::string>& arguments, const Environment& environment = {});
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program();

  // Reads standard output until `text` has come; false at the end of the stream.
  bool WaitForOutput(const std::string& text);
  void Signal(int number) const;
  [[nodiscard]] pid_t pid() const { return pid_; }
  ProgramResult Wait();

 private:
  bool ReadOnce(std::chrono::milliseconds patience);

  pid_t pid_ = -1;
  base::UniqueFd out_;
  base::UniqueFd err_;
  ProgramResult result_;
};

}  // namespace weir::test

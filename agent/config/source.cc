#include "agent/config/source.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <expected>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/error.h"
#include "agent/config/agent_config.h"
#include "agent/config/diagnostic.h"
#include "agent/config/directory_watcher.h"
#include "agent/config/documents.h"
#include "agent/io/event_loop.h"
#include "agent/model/snapshot.h"

namespace weir::config {
namespace {

// Rebuilding may take this share of the control thread: the wait before the next one is
// that many times what the last one took.
constexpr int kRebuildShare = 10;
constexpr std::chrono::seconds kLongestGather{5};

bool SameFiles(const std::vector<SourceFile>& left, const std::vector<SourceFile>& right) {
  return std::ranges::equal(left, right, [](const SourceFile& one, const SourceFile& other) {
    return one.name == other.name && one.content == other.content;
  });
}

class DirectorySource final : public ConfigSource {
 public:
  DirectorySource(io::EventLoop& loop, AgentConfig agent, Options options)
      : loop_(loop),
        agent_(std::move(agent)),
        options_(std::move(options)),
        gather_(loop, [this] { Reload(); }) {}

  base::Result<void> Watch() {
    auto watcher = DirectoryWatcher::Create(loop_, DirectoryWatcher::NewFile::kWhenClosed,
                                            [this] { Schedule(); });
    if (!watcher) {
      return std::unexpected(watcher.error());
    }
    watcher_ = std::move(*watcher);
    return {};
  }

  base::Result<void> Start(std::set<std::string> present) override {
    present_ = std::move(present);
    // Watched before it is read, so that no change falls between.
    watcher_->SetDirectory(agent_.documents_directory);
    Attempt attempt = Read(agent_);
    if (attempt.Errors() != 0) {
      return std::unexpected(Refuse(attempt, agent_));
    }
    Accept(std::move(attempt));
    return {};
  }

  void SetPresent(std::set<std::string> present) override {
    if (present == present_) {
      return;
    }
    present_ = std::move(present);
    if (!current_) {
      return;
    }
    Attempt attempt = BuildFrom(agent_, documents_, document_diagnostics_);
    if (attempt.Errors() != 0) {
      (void)Refuse(attempt, agent_);  // told through on_rejected and status
      return;
    }
    Publish(std::move(attempt.result));
  }

  base::Result<void> SetAgentConfig(AgentConfig agent) override {
    Attempt attempt = Read(agent);
    if (attempt.Errors() != 0) {
      return std::unexpected(Refuse(attempt, agent));
    }
    if (agent.documents_directory != agent_.documents_directory) {
      watcher_->SetDirectory(agent.documents_directory);
    }
    agent_ = std::move(agent);
    Accept(std::move(attempt));
    return {};
  }

  void Reload() override {
    gather_.Cancel();
    const auto began = loop_.clock().Now();
    Diagnostics reading;
    std::vector<SourceFile> files = ReadDocumentFiles(agent_.documents_directory, reading);
    if (current_ && reading.ok() && last_reading_ok_ && SameFiles(files, last_files_)) {
      return;
    }
    Attempt attempt = Parse(agent_, std::move(files), std::move(reading));
    if (attempt.Errors() != 0) {
      (void)Refuse(attempt, agent_);  // told through on_rejected and status
    } else {
      Accept(std::move(attempt));
    }
    last_cost_ = loop_.clock().Now() - began;
  }

  [[nodiscard]] const SourceStatus& status() const override { return status_; }
  [[nodiscard]] const BuildResult* current() const override {
    return current_ ? &*current_ : nullptr;
  }
  model::LocalId IdOf(const std::string& display_name) override {
    return builder_.IdOf(display_name);
  }

 private:
  // One try: what was read, and what it amounts to.
  struct Attempt {
    DocumentSet documents;
    Diagnostics document_diagnostics;
    BuildResult result;

    [[nodiscard]] std::size_t Errors() const { return result.diagnostics.error_count(); }
  };

  void Schedule() {
    if (!gather_.armed()) {
      gather_.Arm(std::clamp<base::Nanoseconds>(
          last_cost_ * kRebuildShare, options_.gather,
          std::max<base::Nanoseconds>(options_.gather, kLongestGather)));
    }
  }

  Attempt Read(const AgentConfig& agent) {
    Diagnostics reading;
    std::vector<SourceFile> files = ReadDocumentFiles(agent.documents_directory, reading);
    return Parse(agent, std::move(files), std::move(reading));
  }

  Attempt Parse(const AgentConfig& agent, std::vector<SourceFile> files, Diagnostics reading) {
    last_reading_ok_ = reading.ok();
    DocumentSet documents = parser_.Parse(files, reading);
    last_files_ = std::move(files);
    return BuildFrom(agent, std::move(documents), std::move(reading));
  }

  // Builds only from documents that are sound; the findings come together either way.
  Attempt BuildFrom(const AgentConfig& agent, DocumentSet documents, Diagnostics findings) {
    Attempt attempt{.documents = std::move(documents),
                    .document_diagnostics = std::move(findings),
                    .result = {}};
    if (!attempt.document_diagnostics.ok()) {
      attempt.result.diagnostics = attempt.document_diagnostics;
      return attempt;
    }
    attempt.result = builder_.Build(agent, attempt.documents, present_);
    Diagnostics all = attempt.document_diagnostics;
    all.Append(attempt.result.diagnostics);
    attempt.result.diagnostics = std::move(all);
    return attempt;
  }

  void Accept(Attempt attempt) {
    documents_ = std::move(attempt.documents);
    document_diagnostics_ = std::move(attempt.document_diagnostics);
    ++status_.reload_count;
    status_.last_rejection.reset();
    Publish(std::move(attempt.result));
  }

  void Publish(BuildResult result) {
    current_ = std::move(result);
    status_.revision = current_->snapshot->revision();
    status_.loaded_at = loop_.clock().WallNow();
    status_.warnings = current_->diagnostics.Warnings();
    if (options_.on_published) {
      options_.on_published(*current_);
    }
  }

  base::Error Refuse(const Attempt& attempt, const AgentConfig& agent) {
    ++status_.rejection_count;
    status_.last_rejection =
        Rejection{.errors = attempt.result.diagnostics.Errors(), .when = loop_.clock().WallNow()};
    if (options_.on_rejected) {
      options_.on_rejected(*status_.last_rejection);
    }
    return RefusalOf(attempt.result.diagnostics, "weir config check " + agent.documents_directory);
  }

  io::EventLoop& loop_;
  AgentConfig agent_;
  Options options_;
  std::set<std::string> present_;
  SnapshotBuilder builder_;
  DocumentParser parser_;
  std::vector<SourceFile> last_files_;  // of the newest try, taken or refused
  bool last_reading_ok_ = false;
  DocumentSet documents_;  // in force
  Diagnostics document_diagnostics_;
  std::optional<BuildResult> current_;
  SourceStatus status_;
  base::Nanoseconds last_cost_{0};
  io::Timer gather_;
  std::unique_ptr<DirectoryWatcher> watcher_;
};

}  // namespace

base::Result<std::unique_ptr<ConfigSource>> ConfigSource::Create(io::EventLoop& loop,
                                                                 AgentConfig agent,
                                                                 Options options) {
  auto source = std::make_unique<DirectorySource>(loop, std::move(agent), std::move(options));
  if (auto watching = source->Watch(); !watching) {
    return std::unexpected(watching.error());
  }
  return source;
}

}  // namespace weir::config

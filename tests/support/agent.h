#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/datapath/datapath.h"
#include "agent/seam/interception.h"
#include "tests/support/sandbox.h"

namespace weir::test {

// EchoAgent is a Datapath with one thread that accepts for all its workers: it tells
// each connection what the hooks said of it and closes. Outbound: "out ID DESTINATION
// COMM", or a reset without a record; inbound: "in ID FROM LOCAL". Self-probes get
// their answer.
class EchoAgent {
 public:
  explicit EchoAgent(std::unique_ptr<datapath::Datapath> datapath);
  EchoAgent(const EchoAgent&) = delete;
  EchoAgent& operator=(const EchoAgent&) = delete;
  ~EchoAgent();

  [[nodiscard]] datapath::Datapath& datapath() { return *datapath_; }
  // Enrols and accepts from the new listeners.
  base::Result<void> Enrol(const datapath::Enrolment& wanted);
  // Un-enrols and closes the listeners.
  base::Result<void> Unenrol(model::LocalId id);
  // Closes every listener, as a process that ends does.
  void CloseListeners();
  [[nodiscard]] unsigned accepted() const { return accepted_; }

 private:
  void Serve();
  void Answer(const seam::Listener& listener);

  std::unique_ptr<datapath::Datapath> datapath_;
  std::mutex mutex_;  // of listeners_
  std::vector<seam::Listener> listeners_;
  std::atomic<unsigned> accepted_{0};
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

// Options with the sandbox's cgroup and bpffs, for two workers.
datapath::Options OptionsFor(const Sandbox& sandbox, const std::string& instance = "weir");

}  // namespace weir::test

#include <grp.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "agent/admin/admin_server.h"
#include "agent/client/http_client.h"
#include "tests/support/root_test.h"
#include "weir/v1/admin.pb.h"

namespace weir::admin {
namespace {

constexpr uid_t kStranger = 65534;

// The status that somebody gets, 1 when the socket cannot be opened.
unsigned AskAs(uid_t uid, std::vector<gid_t> groups, const std::string& path,
               const client::HttpRequest& request) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgroups(groups.size(), groups.data()) != 0 || ::setgid(kStranger) != 0 ||
        ::setuid(uid) != 0) {
      ::_exit(99);
    }
    client::HttpConnection connection(client::HttpPeer::Unix(path));
    const auto response = connection.Send(request);
    // An exit status has eight bits: 200 fits, 403 is told as 43.
    ::_exit(!response ? (response.error().code() == base::ErrorCode::kPermission ? 1 : 2)
            : response->status == 403 ? 43
                                      : static_cast<int>(response->status % 256));
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WIFEXITED(status) ? static_cast<unsigned>(WEXITSTATUS(status)) : 255;
}

class AdminRootTest : public test::RootTest {
 protected:
  void SetUp() override {
    RootTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    char name[] = "/tmp/weir-admin-root-XXXXXX";
    ASSERT_NE(::mkdtemp(name), nullptr);
    directory_ = name;
    ASSERT_EQ(::chmod(name, 0755), 0);
    options_.socket_path = directory_ + "/admin.sock";
    Providers providers;
    providers.status = [] { return v1::Status(); };
    providers.set_log_level = [](std::string_view) { return base::Result<void>(); };
    auto server = AdminServer::Start(options_, std::move(providers), store_);
    ASSERT_TRUE(server.has_value()) << server.error().ToString();
    server_ = std::move(*server);
  }
  void TearDown() override {
    server_.reset();
    if (!directory_.empty()) {
      std::filesystem::remove_all(directory_);
    }
  }
  std::string directory_;
  AdminOptions options_;
  FlowStore store_;
  std::unique_ptr<AdminServer> server_;
};

TEST_F(AdminRootTest, LetsRootReadAndChange) {
  EXPECT_EQ(AskAs(0, {}, options_.socket_path, {.target = "/v1/status"}), 200U);
  EXPECT_EQ(
      AskAs(0, {}, options_.socket_path, {.method = "POST", .target = "/v1/log-level?level=debug"}),
      200U);
}

TEST_F(AdminRootTest, LetsNobodyElseConnect) {
  EXPECT_EQ(AskAs(kStranger, {}, options_.socket_path, {.target = "/v1/status"}), 1U);
}

// The mode alone would let them in: their credentials are what counts.
TEST_F(AdminRootTest, RefusesStrangersThatGotPastTheMode) {
  ASSERT_EQ(::chmod(options_.socket_path.c_str(), 0666), 0);
  EXPECT_EQ(AskAs(kStranger, {}, options_.socket_path, {.target = "/v1/status"}), 43U);
  EXPECT_EQ(AskAs(kStranger, {}, options_.socket_path,
                  {.method = "POST", .target = "/v1/log-level?level=debug"}),
            43U);
}

TEST_F(AdminRootTest, LetsTheGroupReadButNotChange) {
  const gid_t own = ::getegid();
  EXPECT_EQ(AskAs(kStranger, {own}, options_.socket_path, {.target = "/v1/status"}), 200U);
  EXPECT_EQ(AskAs(kStranger, {own}, options_.socket_path,
                  {.method = "POST", .target = "/v1/log-level?level=debug"}),
            43U);
}

}  // namespace
}  // namespace weir::admin

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "agent/config/builder.h"
#include "agent/config/documents.h"
#include "agent/config/target.h"
#include "tests/unit/config_support.h"

namespace weir::config {
namespace {

// Two local workloads, `a` (label app: a) and `b` (app: b, with the inbounds web and 81).
class PoliciesTest : public testing::Test {
 protected:
  PoliciesTest() {
    agent_.node_name = "node-a";
    agent_.trust_domain = "mesh.local";
    agent_.workloads = {LocalAt("a", "a"), LocalAt("b", "b")};
  }

  // Builds with both workloads and `policies` (Universal documents).
  const BuildResult& Build(std::string_view policies) {
    Diagnostics diagnostics;
    documents_ = ParseText(DataplaneText("a", "198.18.0.1", "app: a") + R"(---
type: Dataplane
name: b
labels: {app: b, weir.io/node: node-a}
networking:
  address: 198.18.0.2
  inbound:
  - {port: 80, name: web, tags: {kuma.io/service: b, version: v1}}
  - {port: 81}
---
)" + std::string(policies) + std::string(kEverybodyMay),
                           diagnostics);
    result_ = SnapshotBuilder().Build(agent_, documents_, {"a", "b"});
    diagnostics.Append(result_.diagnostics);
    result_.diagnostics = diagnostics;
    EXPECT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
    return result_;
  }

  const model::LocalWorkload& Local(std::string_view name) {
    const auto& locals = result_.snapshot->locals();
    return **std::ranges::find_if(locals,
                                  [&](const auto& local) { return local->workload->name == name; });
  }
  model::TlsMode Mode(std::string_view name) { return Local(name).tls_mode; }

  static std::string Tls(const std::string& name, const std::string& target,
                         const std::string& mode) {
    return "---\ntype: MeshTLS\nname: " + name + "\nspec:\n" +
           (target.empty() ? "" : "  targetRef: {" + target + "}\n") +
           "  rules: [{default: {mode: " + mode + "}}]\n";
  }

  AgentConfig agent_;
  DocumentSet documents_;
  BuildResult result_;
};

constexpr auto kStrict = model::TlsMode::kStrict;
constexpr auto kPermissive = model::TlsMode::kPermissive;

TEST_F(PoliciesTest, ModeIsStrictWithoutAnyDocument) {
  Build("");
  EXPECT_EQ(Mode("a"), kStrict);
}

TEST_F(PoliciesTest, ModeOfTheEnabledBackendOfAMeshHoldsUntilMeshTls) {
  const std::string mesh =
      "type: Mesh\nname: default\nmtls:\n  enabledBackend: two\n  backends:\n"
      "  - {name: one, type: builtin}\n  - {name: two, type: builtin, mode: PERMISSIVE}\n";
  Build(mesh);
  EXPECT_EQ(Mode("a"), kPermissive);
  Build(mesh + Tls("t", "", "Strict"));
  EXPECT_EQ(Mode("a"), kStrict);
}

TEST_F(PoliciesTest, DataplaneIsStrongerThanMesh) {
  Build(Tls("aaa", "kind: Mesh", "Strict") +
        Tls("zzz", "kind: Dataplane, labels: {app: b}", "Permissive"));
  EXPECT_EQ(Mode("a"), kStrict);
  EXPECT_EQ(Mode("b"), kPermissive);
}

TEST_F(PoliciesTest, NameIsStrongerThanLabels) {
  Build(Tls("aaa", "kind: Dataplane, labels: {app: b}", "Strict") +
        Tls("zzz", "kind: Dataplane, name: b", "Permissive"));
  EXPECT_EQ(Mode("b"), kPermissive);
}

TEST_F(PoliciesTest, FirstNameWinsAmongEquals) {
  Build(Tls("aaa", "", "Permissive") + Tls("bbb", "", "Strict"));
  EXPECT_EQ(Mode("a"), kPermissive);
}

TEST_F(PoliciesTest, SectionNameIsStrongerAndHoldsForItsInbound) {
  const auto& mixed =
      Build(Tls("one", "kind: Dataplane, labels: {app: b}", "Strict") +
            Tls("two", "kind: Dataplane, labels: {app: b}, sectionName: web", "Permissive"));
  EXPECT_EQ(Mode("b"), kStrict);
  EXPECT_TRUE(std::ranges::any_of(mixed.diagnostics.Warnings(), [](const Diagnostic& one) {
    return one.text.contains("partly Strict");
  }));
  Build(Tls("one", "kind: Dataplane, labels: {app: b}", "Strict") +
        Tls("two", "kind: Dataplane, labels: {app: b}, sectionName: web", "Permissive") +
        Tls("three", "kind: Dataplane, labels: {app: b}, sectionName: '81'", "Permissive"));
  EXPECT_EQ(Mode("b"), kPermissive);
}

TEST_F(PoliciesTest, SecondGenerationTargetsSelectByTagsAndServices) {
  for (const char* target :
       {"kind: MeshSubset, tags: {version: v1}", "kind: MeshService, name: b",
        "kind: MeshServiceSubset, name: b, tags: {version: v1}", "kind: MeshSubset, tags: {app: b}",
        "kind: MeshSubset, tags: {kuma.io/service: '*'}"}) {
    Build(Tls("t", target, "Permissive"));
    EXPECT_EQ(Mode("a"), kStrict) << target;
    EXPECT_EQ(Mode("b"), kPermissive) << target;
  }
  Build(Tls("t", "kind: MeshServiceSubset, name: b, tags: {version: v2}", "Permissive"));
  EXPECT_EQ(Mode("b"), kStrict);
}

TEST_F(PoliciesTest, ReadsTheFromForm) {
  Build(
      "type: MeshTLS\nname: t\nspec:\n  from:\n  - targetRef: {kind: Mesh}\n"
      "    default: {mode: Permissive, tlsVersion: {min: TLS12}}\n");
  EXPECT_EQ(Mode("a"), kPermissive);
  EXPECT_FALSE(result_.diagnostics.Warnings().empty());
}

TEST_F(PoliciesTest, ProxyTypesWithoutSidecarSelectNothingHere) {
  Build(Tls("t", "kind: Mesh, proxyTypes: [Gateway]", "Permissive"));
  EXPECT_EQ(Mode("a"), kStrict);
}

TEST_F(PoliciesTest, PolicyOfANamespaceReachesThatNamespaceOnly) {
  Build(
      "apiVersion: kuma.io/v1alpha1\nkind: MeshTLS\nmetadata: {name: t, namespace: elsewhere}\n"
      "spec: {rules: [{default: {mode: Permissive}}]}\n");
  EXPECT_EQ(Mode("a"), kStrict);
  Build(
      "apiVersion: kuma.io/v1alpha1\nkind: MeshTLS\nmetadata: {name: t, namespace: kuma-system}\n"
      "spec: {rules: [{default: {mode: Permissive}}]}\n");
  EXPECT_EQ(Mode("a"), kPermissive);
}

TEST_F(PoliciesTest, PolicyOfAnotherMeshDoesNotReach) {
  Build("type: MeshTLS\nname: t\nmesh: other\nspec: {rules: [{default: {mode: Permissive}}]}\n");
  EXPECT_EQ(Mode("a"), kStrict);
}

TEST_F(PoliciesTest, AgentYamlOverridesTheMode) {
  agent_.workloads[0].mode = kPermissive;
  Build(Tls("t", "", "Strict"));
  EXPECT_EQ(Mode("a"), kPermissive);
}

TEST_F(PoliciesTest, TracesByDefaultAndKeepsThem) {
  const auto& result = Build("");
  EXPECT_TRUE(Local("a").trace.enabled);
  EXPECT_EQ(Local("a").trace.sample_ratio, 1.0);
  EXPECT_TRUE(result.trace_backends.empty());
}

constexpr std::string_view kCollector =
    "type: MeshOpenTelemetryBackend\nname: c\nlabels: {x: y}\nspec:\n"
    "  endpoint: {address: 198.18.0.9, port: 4318, path: /otlp/}\n  protocol: http\n";
constexpr std::string_view kTrace =
    "---\ntype: MeshTrace\nname: base\nspec:\n  default:\n    backends:\n"
    "    - type: OpenTelemetry\n      openTelemetry:\n"
    "        backendRef: {kind: MeshOpenTelemetryBackend, labels: {x: y}}\n"
    "    sampling: {overall: 50, random: 80}\n    tags: [{name: team, literal: crm}]\n";

TEST_F(PoliciesTest, TraceSettingsComeFromMeshTraceAndItsBackend) {
  const auto& result = Build(std::string(kCollector) + std::string(kTrace));
  EXPECT_EQ(result.trace_backends,
            (std::vector<TelemetryBackend>{{.name = "MeshOpenTelemetryBackend/c",
                                            .kind = BackendKind::kOtlpHttp,
                                            .url = "http://198.18.0.9:4318/otlp",
                                            .env = {.is_first = true}}}));
  EXPECT_EQ(result.trace_routes.at(Local("a").id), 0U);
  EXPECT_EQ(result.trace_routes.at(Local("b").id), 0U);
  EXPECT_FALSE(result.trace_fallback.has_value());
  EXPECT_EQ(Local("a").trace.sample_ratio, 0.5);
  ASSERT_EQ(Local("a").trace.literal_tags.size(), 1U);
  EXPECT_EQ(Local("a").trace.literal_tags[0].second, "crm");
}

TEST_F(PoliciesTest, ConnectionsHaveSpansWhereAskedFor) {
  Build("type: MeshTrace\nname: t\nspec: {default: {connectionSpans: true}}\n");
  EXPECT_TRUE(Local("a").trace.connections);
  Build("type: MeshTrace\nname: t\nspec: {default: {sampling: {}}}\n");
  EXPECT_FALSE(Local("a").trace.connections);
}

TEST_F(PoliciesTest, StrongerMeshTraceIsMergedOverTheWeaker) {
  Build(
      std::string(kCollector) + std::string(kTrace) +
      "---\ntype: MeshTrace\nname: less\nspec:\n  targetRef: {kind: Dataplane, labels: {app: b}}\n"
      "  default: {sampling: {random: '12.5'}}\n");
  EXPECT_EQ(Local("a").trace.sample_ratio, 0.5);
  EXPECT_EQ(Local("b").trace.sample_ratio, 0.125);
  EXPECT_EQ(Local("b").trace.literal_tags.size(), 1U);
}

TEST_F(PoliciesTest, SamplingSharesCombineAsWithEnvoy) {
  struct Case {
    const char* sampling;
    double roots;
    double asked_for;  // with x-client-trace-id
  };
  for (const Case& c :
       {Case{"{}", 1.0, 1.0}, Case{"{random: 1}", 0.01, 1.0},
        Case{"{random: '0.5', client: 10}", 0.005, 0.1}, Case{"{random: 20, client: 10}", 0.2, 0.2},
        Case{"{overall: 5, random: 20, client: 10}", 0.05, 0.05},
        Case{"{overall: 50, random: 0, client: '12.5'}", 0.0, 0.125},
        Case{"{overall: 0}", 0.0, 0.0}}) {
    Build("type: MeshTrace\nname: t\nspec: {default: {sampling: " + std::string(c.sampling) +
          "}}\n");
    EXPECT_DOUBLE_EQ(Local("a").trace.sample_ratio, c.roots) << c.sampling;
    EXPECT_DOUBLE_EQ(Local("a").trace.client_ratio, c.asked_for) << c.sampling;
  }
}

TEST_F(PoliciesTest, TagsAreLiteralsOrHeadersWithADefault) {
  Build(
      "type: MeshTrace\nname: t\nspec:\n  default:\n    tags:\n    - {name: team, literal: crm}\n"
      "    - {name: tenant, header: {name: X-Tenant, default: none}}\n"
      "    - {name: plan, header: {name: x-plan}}\n");
  const auto& trace = Local("a").trace;
  ASSERT_EQ(trace.literal_tags.size(), 1U);
  ASSERT_EQ(trace.header_tags.size(), 2U);
  EXPECT_EQ(trace.header_tags[0].name, "tenant");
  EXPECT_EQ(trace.header_tags[0].header, "x-tenant");
  EXPECT_EQ(trace.header_tags[0].fallback, "none");
  EXPECT_EQ(trace.header_tags[1].fallback, "");
}

TEST_F(PoliciesTest, TagsAreLimitedToTheByte) {
  const auto errors = [&](const std::string& tags) {
    Diagnostics diagnostics;
    (void)ParseText("type: MeshTrace\nname: t\nspec: {default: {tags: [" + tags + "]}}\n",
                    diagnostics);
    return !diagnostics.ok();
  };
  const auto named = [](std::size_t size) {
    return "{name: " + std::string(size, 'n') + ", literal: x}";
  };
  EXPECT_FALSE(errors(named(128)));
  EXPECT_TRUE(errors(named(129)));
  EXPECT_FALSE(errors("{name: n, literal: " + std::string(256, 'x') + "}"));
  EXPECT_TRUE(errors("{name: n, literal: " + std::string(257, 'x') + "}"));
  EXPECT_FALSE(errors("{name: n, header: {name: h, default: " + std::string(256, 'x') + "}}"));
  EXPECT_TRUE(errors("{name: n, header: {name: h, default: " + std::string(257, 'x') + "}}"));
  std::string many = "{name: t0, literal: x}";
  for (int i = 1; i < 32; ++i) {
    many += ", {name: t" + std::to_string(i) + ", literal: x}";
  }
  EXPECT_FALSE(errors(many));
  EXPECT_TRUE(errors(many + ", {name: t32, literal: x}"));
}

TEST_F(PoliciesTest, AgentYamlSaysWhatIsAlwaysSampledAndWhereTheBoundaryIs) {
  agent_.telemetry.tail = {.errors = true, .slower_than = std::chrono::seconds(1)};
  agent_.workloads[0].trace_boundary = true;
  agent_.workloads[0].trace_formats.b3 = true;
  Build("");
  EXPECT_EQ(Local("a").trace.tail, agent_.telemetry.tail);
  EXPECT_TRUE(Local("a").trace.is_boundary);
  EXPECT_TRUE(Local("a").trace.formats.b3);
  EXPECT_FALSE(Local("b").trace.is_boundary);
}

TEST_F(PoliciesTest, EmptyBackendsOfAStrongerPolicyTurnTracingOff) {
  Build(std::string(kCollector) + std::string(kTrace) +
        "---\ntype: MeshTrace\nname: off\nspec:\n  targetRef: {kind: Dataplane, name: b}\n"
        "  default: {backends: []}\n");
  EXPECT_TRUE(Local("a").trace.enabled);
  EXPECT_FALSE(Local("b").trace.enabled);
}

// A MeshTrace of `target` with the one backend that `backend` is.
std::string Trace(const std::string& name, const std::string& target, const std::string& backend) {
  return "---\ntype: MeshTrace\nname: " + name + "\nspec:\n  targetRef: " + target +
         "\n  default:\n    backends:\n    - " + backend + "\n";
}

TEST_F(PoliciesTest, InlineEndpointOfTheOlderFormIsGrpcButOnThePortOfHttp) {
  const auto backend = [&](const std::string& endpoint) {
    return Build(Trace("t", "{kind: Mesh}",
                       "{type: OpenTelemetry, openTelemetry: {endpoint: '" + endpoint + "'}}"))
        .trace_backends.at(0);
  };
  EXPECT_EQ(backend("collector"), (TelemetryBackend{.name = "http://collector:4317",
                                                    .kind = BackendKind::kOtlpGrpc,
                                                    .url = "http://collector:4317"}));
  EXPECT_EQ(backend("collector:9999").kind, BackendKind::kOtlpGrpc);
  EXPECT_EQ(backend("198.18.0.9:4318").kind, BackendKind::kOtlpHttp);
  EXPECT_EQ(backend("198.18.0.9:4318").url, "http://198.18.0.9:4318");
  EXPECT_EQ(backend("[fd00::9]:4318").url, "http://[fd00::9]:4318");
}

TEST_F(PoliciesTest, ReadsHowTheEnvironmentChangesABackend) {
  const auto env = [&](const std::string& text) {
    return Build("type: MeshOpenTelemetryBackend\nname: c\nlabels: {x: y}\nspec: {" + text + "}\n" +
                 std::string(kTrace))
        .trace_backends.at(0);
  };
  EXPECT_EQ(env("").url, "http://127.0.0.1:4317");
  EXPECT_EQ(env("").kind, BackendKind::kOtlpGrpc);
  EXPECT_EQ(env("").env, (EnvironmentUse{.is_first = true}));
  EXPECT_EQ(
      env("env: {mode: Required, precedence: ExplicitFirst, allowSignalOverrides: false}").env,
      (EnvironmentUse{.mode = EnvironmentUse::Mode::kRequired, .allows_signals = false}));
  EXPECT_EQ(env("env: {mode: Disabled}").env.mode, EnvironmentUse::Mode::kDisabled);
}

TEST_F(PoliciesTest, WorkloadsOfOneNodeHaveBackendsOfTheirOwn) {
  const auto& result = Build(std::string(kCollector) + std::string(kTrace) +
                             Trace("z", "{kind: Dataplane, labels: {app: b}}",
                                   "{type: Zipkin, zipkin: {url: 'http://z:9411/api/v2/spans'}}"));
  ASSERT_EQ(result.trace_backends.size(), 2U);
  EXPECT_EQ(result.trace_backends[result.trace_routes.at(Local("a").id)].name,
            "MeshOpenTelemetryBackend/c");
  EXPECT_EQ(result.trace_backends[result.trace_routes.at(Local("b").id)],
            (TelemetryBackend{.name = "http://z:9411/api/v2/spans",
                              .kind = BackendKind::kZipkin,
                              .url = "http://z:9411/api/v2/spans",
                              .short_trace_ids = true}));
}

TEST_F(PoliciesTest, AgentYamlOverridesTheCollector) {
  agent_.telemetry.otlp_endpoint = "http://127.0.0.1:4318/";
  const auto& result = Build(std::string(kCollector) + std::string(kTrace));
  ASSERT_EQ(result.trace_backends.size(), 1U);
  EXPECT_EQ(result.trace_backends[0].url, "http://127.0.0.1:4318");
  EXPECT_EQ(result.trace_fallback, 0U);
  EXPECT_TRUE(result.trace_routes.empty());
  agent_.telemetry.otlp_endpoint = "https://127.0.0.1:4317";
  agent_.telemetry.otlp_protocol = OtlpProtocol::kGrpc;
  EXPECT_EQ(Build("").trace_backends.at(0), (TelemetryBackend{.name = "agent.yaml",
                                                              .kind = BackendKind::kOtlpGrpc,
                                                              .url = "https://127.0.0.1:4317"}));
}

TEST_F(PoliciesTest, WarnsOfWhatItDoesNotActOn) {
  const auto& result = Build(
      "type: MeshTrace\nname: t\nspec:\n  default:\n    backends:\n"
      "    - {type: Datadog, datadog: {url: 'http://d:8126'}}\n"
      "    sampling: {client: 10}\n    tags: [{name: h, header: {name: x}}]\n");
  EXPECT_EQ(result.diagnostics.Warnings().size(), 1U) << ToText(result.diagnostics.all());
  EXPECT_TRUE(Local("a").trace.enabled);
}

TEST_F(PoliciesTest, WarnsOfWhatZipkinDoesNotGet) {
  const auto& result =
      Build(Trace("z", "{kind: Mesh}",
                  "{type: Zipkin, zipkin: {url: 'http://z:9411/api/v2/spans', traceId128bit: true, "
                  "apiVersion: httpProto, sharedSpanContext: true}}"));
  EXPECT_EQ(result.diagnostics.Warnings().size(), 2U) << ToText(result.diagnostics.all());
  EXPECT_FALSE(result.trace_backends.at(0).short_trace_ids);
}

struct BadPolicy {
  const char* says;
  const char* spec;  // of the kind in `type`
  const char* type;
};

class BadPolicyTest : public testing::TestWithParam<BadPolicy> {};

TEST_P(BadPolicyTest, IsRefusedWithItsReason) {
  Diagnostics diagnostics;
  (void)ParseText(
      std::string("type: ") + GetParam().type + "\nname: p\nspec: " + GetParam().spec + "\n",
      diagnostics);
  EXPECT_TRUE(Says(diagnostics, Severity::kError, 3, GetParam().says)) << ToText(diagnostics.all());
}

INSTANTIATE_TEST_SUITE_P(
    Policies, BadPolicyTest,
    testing::Values(
        BadPolicy{"needs \"rules\"", "{}", "MeshTLS"},
        BadPolicy{"has no \"url\"",
                  "{default: {backends: [{type: Zipkin, zipkin: {apiVersion: httpJson}}]}}",
                  "MeshTrace"},
        BadPolicy{"neither http nor https",
                  "{default: {backends: [{type: Zipkin, zipkin: {url: 'ftp://z/'}}]}}",
                  "MeshTrace"},
        BadPolicy{"httpJson or httpProto",
                  "{default: {backends: [{type: Zipkin, zipkin: {url: 'http://z/', apiVersion: "
                  "httpJsonV1}}]}}",
                  "MeshTrace"},
        BadPolicy{"Disabled, Optional or Required", "{env: {mode: Maybe}}",
                  "MeshOpenTelemetryBackend"},
        BadPolicy{"did you mean \"rules\"", "{rulse: []}", "MeshTLS"},
        BadPolicy{"beside \"rules\"", "{rules: [{default: {}}], from: []}", "MeshTLS"},
        BadPolicy{"must be Strict or Permissive", "{rules: [{default: {mode: Off}}]}", "MeshTLS"},
        BadPolicy{"has no \"default\"", "{rules: [{}]}", "MeshTLS"},
        BadPolicy{"only the kind Mesh",
                  "{from: [{targetRef: {kind: MeshService, name: x}, default: {}}]}", "MeshTLS"},
        BadPolicy{"did you mean \"Dataplane\"",
                  "{targetRef: {kind: DataPlane}, rules: [{default: {}}]}", "MeshTLS"},
        BadPolicy{"beside \"name\"",
                  "{targetRef: {kind: Dataplane, name: a, labels: {b: c}}, rules: [{default: {}}]}",
                  "MeshTLS"},
        BadPolicy{"has no \"name\"", "{targetRef: {kind: MeshService}, rules: [{default: {}}]}",
                  "MeshTLS"},
        BadPolicy{"has no \"default\"", "{}", "MeshTrace"},
        BadPolicy{"at most one backend", "{default: {backends: [{type: Zipkin}, {type: Datadog}]}}",
                  "MeshTrace"},
        BadPolicy{"did you mean \"OpenTelemetry\"",
                  "{default: {backends: [{type: Opentelemetry}]}}", "MeshTrace"},
        BadPolicy{"either \"backendRef\" or \"endpoint\"",
                  "{default: {backends: [{type: OpenTelemetry, openTelemetry: {}}]}}", "MeshTrace"},
        BadPolicy{
            "must be HOST or HOST:PORT",
            "{default: {backends: [{type: OpenTelemetry, openTelemetry: {endpoint: 'a:b'}}]}}",
            "MeshTrace"},
        BadPolicy{"from 0 to 100", "{default: {sampling: {overall: 101}}}", "MeshTrace"},
        BadPolicy{"from 0 to 100", "{default: {sampling: {random: nan}}}", "MeshTrace"},
        BadPolicy{"from 0 to 100", "{default: {sampling: {random: [1]}}}", "MeshTrace"},
        BadPolicy{"exactly one of", "{default: {tags: [{name: x}]}}", "MeshTrace"},
        BadPolicy{"writes itself", "{default: {tags: [{name: http.route, literal: x}]}}",
                  "MeshTrace"},
        BadPolicy{"stands there twice",
                  "{default: {tags: [{name: x, literal: a}, {name: x, header: {name: h}}]}}",
                  "MeshTrace"},
        BadPolicy{"has no \"name\"", "{default: {tags: [{name: x, header: {default: a}}]}}",
                  "MeshTrace"},
        BadPolicy{"name of a header", "{default: {tags: [{name: x, header: {name: 'a b'}}]}}",
                  "MeshTrace"},
        BadPolicy{"from 1 to 65535", "{endpoint: {port: 0}}", "MeshOpenTelemetryBackend"},
        BadPolicy{"grpc or http", "{protocol: tcp}", "MeshOpenTelemetryBackend"},
        BadPolicy{"no backend has the name", "{mtls: {enabledBackend: x}}", "Mesh"},
        BadPolicy{"STRICT or PERMISSIVE", "{mtls: {backends: [{name: a, mode: Strict}]}}", "Mesh"},
        BadPolicy{"certificates in PEM",
                  "{trustDomain: x, caBundles: [{type: Pem, pem: {value: no}}]}", "MeshTrust"},
        BadPolicy{"has no \"caBundles\"", "{trustDomain: x}", "MeshTrust"},
        BadPolicy{"1 to 255", "{trustDomain: X, caBundles: []}", "MeshTrust"}));

TEST(TargetTest, WeakerIsAStrictOrder) {
  Diagnostics diagnostics;
  std::string text;
  for (const char* target :
       {"{kind: Mesh}", "{kind: Dataplane, labels: {a: b}}", "{kind: Dataplane, name: x}",
        "{kind: Dataplane, name: x, sectionName: y}", "{kind: MeshSubset, tags: {a: b}}",
        "{kind: MeshService, name: x}"}) {
    text += "---\ntype: MeshTLS\nname: p" + std::to_string(text.size()) +
            "\nspec: {targetRef: " + target + ", rules: [{default: {}}]}\n";
  }
  const DocumentSet set = ParseText(text, diagnostics);
  ASSERT_TRUE(diagnostics.ok()) << ToText(diagnostics.all());
  ASSERT_EQ(set.tls_policies.size(), 6U);
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 6; ++j) {
      EXPECT_EQ(IsWeaker(set.tls_policies[i], set.tls_policies[j]), i < j) << i << " " << j;
    }
  }
}

}  // namespace
}  // namespace weir::config

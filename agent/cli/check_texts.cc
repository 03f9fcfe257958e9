#include "agent/cli/check_texts.h"

#include <array>

namespace weir::cli {
namespace {

constexpr std::array<CheckText, 29> kTexts = {{
    {"WK101", "kernel is new enough",
     "The running kernel against 6.1, the oldest that has what interception needs: the network "
     "namespace's cookie in every hook, and a sk_lookup program per namespace.",
     "The agent does not start: without the cookie it could not tell whose a connection is.",
     "Boot a kernel of 6.1 or later; on Debian 12 the standard one is."},
    {"WK102", "kernel describes its types (BTF)",
     "/sys/kernel/btf/vmlinux, by which the programs are fitted to this kernel when loaded.",
     "No program can be loaded.",
     "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y; every distribution's standard kernel is."},
    {"WK103", "every program, map and helper loads",
     "Each hook is loaded and each feature tried, because version numbers say little on patched "
     "kernels. The fact names the first one that the kernel refused, and its answer.",
     "A required hook: the agent does not start. An optional one: the fact says what is used "
     "instead or what is lost.",
     "See the kernel's answer in the fact; weir status lists all features."},
    {"WK104", "cgroup v2 is mounted",
     "Where the cgroup2 hierarchy is: the only one, or the unified part of a hybrid one.",
     "The connect hooks have nothing to be attached to.",
     "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with "
     "systemd.unified_cgroup_hierarchy=1; or name the mount in agent.yaml (cgroupRoot)."},
    {"WK105", "BPF file system is mounted and writable",
     "/sys/fs/bpf, where hooks are pinned that must refuse a closed workload's connections while "
     "no agent runs.",
     "Workloads that are closed when the agent is down cannot be enrolled.",
     "mount -t bpf bpf /sys/fs/bpf"},
    {"WK106", "capabilities and locked memory suffice",
     "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN of the agent. Locked memory is not "
     "limited for BPF on the kernels that weir runs on.",
     "What the missing capability is for cannot be done; the fact names it.",
     "Start the agent by its unit file, or with sudo."},
    {"WK107", "nothing forbids BPF on this machine",
     "Kernel lockdown and security modules that refuse to load programs even to root.",
     "No program can be loaded.",
     "Boot without lockdown=confidentiality; see the security module's log."},
    {"WK108", "system controls let source addresses be kept",
     "Whether net.ipv4.tcp_fwmark_accept can be written, by which replies are led back, and "
     "whether net.ipv4.ip_local_port_range leaves ports for connections that keep their client's "
     "address.",
     "Replies to a delivered connection are dropped, which looks like a hanging server.",
     "Mount /proc/sys read-write, or sysctl -w the control that the fact names."},
    {"WK109", "limits fit the number of workloads",
     "The agent's limit of open files against what its workloads may need.",
     "New connections are refused when the limit is reached.", "LimitNOFILE= in the unit file."},
    {"WK110", "kernel tells what a request was sent for",
     "The tracepoints sock_recv_length (since 6.3), tcp_sendmsg_locked (since 6.16) and "
     "inet_sock_set_state: the program on them is loaded and attached for a moment.",
     "Requests of applications that do not forward trace headers begin traces of their own.",
     "Boot a kernel of 6.16 or later, or let the applications forward traceparent."},
    {"WK201", "agent is alive and of the command's version",
     "The agent's answer, and its version against that of this command.",
     "A different version is a warning; another API version ends the command with exit code 5.",
     "Upgrade the older of the two."},
    {"WK202", "agent has logged no error lately",
     "The last error or warning that the agent logged.", "The line is shown with its time.",
     "journalctl -u weir-agent"},
    {"WK203", "hooks are attached and still ours", "Every link of the agent, asked of the kernel.",
     "A connection can pass by the agent; strict workloads are then not protected.",
     "See which program took the place (bpftool link), then restart the agent."},
    {"WK204", "no other tool intercepts the same connections",
     "Processes of other mesh proxies and agents on this node.",
     "Two proxies take the same connection; which one wins depends on the order.",
     "Exclude the workload from one of the two."},
    {"WK205", "nothing is left of an earlier run",
     "Links, pins, and rules, routes and sysctls of namespaces that weir made and nobody owns: "
     "no process holds the link, no agent the directory of the pins, and it is not the one of "
     "this node's agent.yaml.",
     "Leftovers of closed workloads go on refusing their connections, as they should until an "
     "agent is back or the node is uninstalled.",
     "weir check --clean-leftovers removes what has no owner; weir uninstall-node this node's own"},
    {"WK206", "hand-over from the network plug-in",
     "The file by which a network plug-in tells of new pods. Only on Kubernetes.",
     "Pods are enrolled late.", "See the plug-in's log."},
    {"WK207", "no flow or span was lost",
     "Losses between the workers and the store, and in the exporter's queue.",
     "Flows, traces and counts have holes; traffic is not affected.",
     "Raise telemetry.queueBytes in agent.yaml, or sample."},
    {"WK208", "state and socket have the right owner",
     "Mode and group of the admin socket, and room in the state directory.",
     "The group cannot read the agent, or somebody else can.",
     "Set admin.group in agent.yaml; groupadd --system weir."},
    {"WK301", "what should be enrolled is",
     "Every entry of `workloads` in agent.yaml against what was found and enrolled.",
     "The workload's connections pass by the agent; the fact has the reason for each.",
     "See the reason; weir workloads"},
    {"WK302", "no connection is older than its enrolment",
     "Connections that were open when their workload was enrolled.",
     "They stay as they were: neither encrypted nor seen.",
     "Restart the application, or wait until they end."},
    {"WK303", "self-probe: intercepted, by the right worker",
     "A connection made inside each workload's namespace or cgroup, through the real hooks.",
     "The workload's connections are not intercepted.",
     "weir status --workload NAME; restart the agent."},
    {"WK304", "no way around the hooks",
     "How many connections of enrolled workloads the hooks left alone because their socket is "
     "bound to a device.",
     "Such a connection is neither encrypted nor seen.",
     "Take CAP_NET_RAW away from the workload."},
    {"WK401", "issuer answers, the last issue succeeded",
     "The authority that signs the workloads' certificates and the last attempt at it, for each "
     "workload.",
     "Certificates are not renewed; connections fail when they expire.",
     "See the cause in the fact; with the embedded authority: weir ca node NAME"},
    {"WK402", "certificates are renewed in time",
     "The share of its lifetime that each certificate, and the node's intermediate above them, has "
     "used: more than 70 % is a warning, more than 90 % a failure.",
     "Connections fail when it expires.", "weir certs shows the last error of each."},
    {"WK403", "clock fits",
     "This node's clock against the start of its intermediate, and "
     "whether the kernel says that a time service keeps it right.",
     "Peers refuse certificates that are not valid yet, or not any more.",
     "timedatectl set-ntp true"},
    {"WK404", "trust bundle is whole",
     "How many roots this node trusts, and whether the first of them ends within 30 days.",
     "Peers signed by another root are refused.",
     "Copy the same root.pem to every node; roll roots by having both in it."},
    {"WK405", "certificates have the right form",
     "Chain, key type, SPIFFE ID and key usage of what the agent issues, by the X509-SVID rules.",
     "Peers refuse it.", "weir ca node NAME --force"},
    {"WK501", "documents parse",
     "Every document of the watched directory. A set with an error is refused whole, and the "
     "last good one stays.",
     "Changes have no effect until it is mended.", "weir config check /etc/weir/mesh.d"},
    {"WK701", "exporter's collector answers",
     "Whether the collector takes what it is sent: reachable, queue, drops, last error.",
     "Spans wait in a bounded queue and are dropped and counted when it is full.",
     "Check the endpoint; without a collector leave it empty and use weir traces."},
}};

}  // namespace

std::span<const CheckText> CheckTexts() {
  return kTexts;
}

}  // namespace weir::cli

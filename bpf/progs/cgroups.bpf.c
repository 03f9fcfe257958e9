// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0
// A workload's unit starts: its new cgroup is closed from its birth, so that nothing leaves
// before the agent has enrolled it, and also while no agent runs.
#include "bpf/lib/kernel.h"
#include "bpf/lib/maps.h"

char LICENSE[] SEC("license") = "GPL";

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 4096);
} weir_arrived SEC(".maps");

static __always_inline __u64 weir_cgroup_id(struct cgroup* cgroup) {
  return BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline int weir_is_expected(struct cgroup* cgroup, int level) {
  struct weir_cgroup_name key = {};
  const char* name = BPF_CORE_READ(cgroup, kn, name);
  // A longer name is cut and so matches nothing: none is expected without its end.
  if (bpf_probe_read_kernel_str(key.name, sizeof(key.name), name) < 0) {
    return 0;
  }
  if (bpf_map_lookup_elem(&weir_expected, &key)) {
    return 1;
  }
  struct cgroup* parent = 0;
  bpf_core_read(&parent, sizeof(parent), &cgroup->ancestors[level - 1]);
  key.parent_id = weir_cgroup_id(parent);
  return bpf_map_lookup_elem(&weir_expected, &key) != 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(weir_cgroup_mkdir, struct cgroup* cgroup) {
  int level = BPF_CORE_READ(cgroup, level);
  // The default hierarchy is number 0; cgroup v1 trees have the event as well. Who is not
  // root makes cgroups in a delegated tree only: those are not the workload's.
  if (BPF_CORE_READ(cgroup, root, hierarchy_id) != 0 || level < 1 ||
      level >= WEIR_MAX_CGROUP_LEVELS || (__u32)bpf_get_current_uid_gid() != 0 ||
      !weir_is_expected(cgroup, level)) {
    return 0;
  }
  __u32 zero = 0;
  __u32* levels = bpf_map_lookup_elem(&weir_arrivals, &zero);
  if (!levels) {
    return 0;
  }
  __sync_fetch_and_or(levels, 1U << level);
  __u64 id = weir_cgroup_id(cgroup);
  struct weir_workload closed = {.flags = WEIR_WORKLOAD_CLOSED};
  if (bpf_map_update_elem(&weir_cgroups, &id, &closed, BPF_NOEXIST)) {
    weir_count(WEIR_ARRIVAL_FULL);
  }
  // Only wakes the agent; when nobody reads it is full, and that is fine.
  bpf_ringbuf_output(&weir_arrived, &id, sizeof(id), 0);
  return 0;
}

// One that nobody enrolled goes with its cgroup.
SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(weir_cgroup_rmdir, struct cgroup* cgroup) {
  __u64 id = weir_cgroup_id(cgroup);
  struct weir_workload* workload = bpf_map_lookup_elem(&weir_cgroups, &id);
  if (!workload) {
    return 0;
  }
  if (!workload->local_id) {
    bpf_map_delete_elem(&weir_cgroups, &id);
  }
  bpf_ringbuf_output(&weir_arrived, &id, sizeof(id), 0);
  return 0;
}

"""Memory budgets that the kernel or the CUDA allocator enforces.

cgroup.py          A memory cgroup of our own around one worker
heap_headroom.py   Makes a threshold depend on the workload alone
machine_memory.py  Memory available on this machine, and the refusal of larger requests
own_pages.py       The memory of forked processes, page by page
probe.py           Builds and steps a workload within a budget
rlimit.py          Budgets that the system itself enforces on one process
"""

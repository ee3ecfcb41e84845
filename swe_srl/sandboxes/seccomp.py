"""The system calls that a sandbox may make: an allow-list, in the OCI runtime's form.

It follows Docker's default profile for a container without capabilities (what ordinary programs need, and no
more) and is stricter where a coding task needs nothing: no ptrace and no reading of another process's memory,
no io_uring, no key rings, no user namespaces, sockets of the Unix and internet families alone (netlink, vsock,
packet, alg and the rest are kernel code to attack). What is not named fails with EPERM; `clone3`, whose flags
a filter cannot see, answers ENOSYS, and libc then takes `clone`. Runtimes skip names that their libseccomp does
not know.
"""

from __future__ import annotations

import platform
from typing import Any

_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fadvise64
    fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat fcntl fdatasync fgetxattr flistxattr flock
    fremovexattr fsetxattr fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr
    inotify_add_watch inotify_init inotify_init1 inotify_rm_watch ioctl lchown lgetxattr link linkat listxattr
    llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat name_to_handle_at newfstatat open
    openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
    removexattr rename renameat renameat2 rmdir sendfile setxattr splice stat statfs statx symlink symlinkat sync
    sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes vmsplice write writev
"""
_WAITING = """
    epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 futex futex_requeue
    futex_wait futex_waitv futex_wake io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit pipe pipe2
    poll ppoll pselect6 select signalfd signalfd4
"""
_MEMORY = """
    brk cachestat madvise map_shadow_stack membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect
    mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
"""
_PROCESSES = """
    arch_prctl capget capset execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getegid
    geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage
    getsid gettid getuid ioprio_get ioprio_set kill landlock_add_rule landlock_create_ruleset
    landlock_restrict_self pause pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease restart_syscall
    riscv_flush_icache rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
    rt_sigtimedwait rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setattr sched_setparam
    sched_setscheduler sched_yield seccomp set_robust_list set_thread_area set_tid_address setfsgid setfsuid
    setgid setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid
    sigaltstack sysinfo tgkill tkill uname vfork wait4 waitid
"""
_TALKING = """
    accept accept4 bind connect getpeername getsockname getsockopt listen mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd recvfrom recvmmsg recvmsg semctl semget
    semop semtimedop sendmmsg sendmsg sendto setsockopt shmat shmctl shmdt shmget shutdown socketpair
"""
_CLOCKS = """
    adjtimex alarm clock_adjtime clock_getres clock_gettime clock_nanosleep getitimer getrandom gettimeofday
    nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime
    timerfd_create timerfd_gettime timerfd_settime times
"""
_NEW_NAMESPACES = 0x7E020000  # every CLONE_NEW* flag of clone(2)
_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6
_PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)  # plain, 32-bit uname, old uname, both, "which is it?"
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64"}


def profile(*, affinity: bool) -> dict[str, Any]:
    """`linux.seccomp` of an OCI config; `affinity`: whether a process may choose its processors.

    It may not where the affinity it starts with is its limit.
    """
    names = " ".join((_FILES, _WAITING, _MEMORY, _PROCESSES, _TALKING, _CLOCKS)).split()
    rules = [
        _allow(names + ["sched_setaffinity"] * affinity),
        *(_allow(["socket"], 0, "SCMP_CMP_EQ", family) for family in _FAMILIES),
        # As on a kernel without them, so that libraries fall back: netlink (16), vsock (40) and the like.
        {**_allow(["socket"], 0, "SCMP_CMP_GT", max(_FAMILIES)), "action": "SCMP_ACT_ERRNO", "errnoRet": _EAFNOSUPPORT},
        *(_allow(["personality"], 0, "SCMP_CMP_EQ", value) for value in _PERSONALITIES),
        # clone(flags): allowed where all the flags that make a namespace are unset.
        _allow(["clone"], 0, "SCMP_CMP_MASKED_EQ", _NEW_NAMESPACES),
        {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS},
    ]
    found: dict[str, Any] = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": _EPERM, "syscalls": rules}
    if machine := _ARCHITECTURES.get(platform.machine()):
        found["architectures"] = [machine]  # and no other: 32-bit calls would be a second, untested list
    return found


def _allow(names: list[str], index: int = 0, op: str = "", value: int = 0) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": "SCMP_ACT_ALLOW"}
    if op:
        rule["args"] = [{"index": index, "value": value, "valueTwo": 0, "op": op}]
    return rule

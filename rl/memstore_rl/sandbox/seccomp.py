"""The system call filter of a program: an allowlist, compiled by libseccomp.

The list holds what a Python program needs to compute, including threads and event loops. Everything else fails with
EPERM: starting processes, signalling others, sockets other than a local pair, any change of a file system, other
processes' memory, namespaces, mounts, keys, risky kernel interfaces (io_uring, bpf, userfaultfd, perf), shared memory
and in-memory files. Calls with a dangerous argument are allowed for harmless values only: `fcntl` cannot redirect
signals, `prlimit64` applies to the caller only, `clone` is for threads only.

Each child loads the filter before it reads its program. The filter cannot be removed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
import tempfile
from functools import cache

from memstore.errors import SandboxError

_ALLOWED = """
    read readv write writev pread64 preadv pwrite64 lseek close close_range dup dup2 dup3 pipe pipe2 fstat stat lstat
    newfstatat statx access faccessat faccessat2 open openat readlink readlinkat getdents64 getcwd chdir fchdir statfs
    fstatfs fadvise64 mmap munmap mprotect mremap madvise brk membarrier
    poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd2
    sendto recvfrom shutdown getsockopt getsockname getpeername
    futex set_robust_list rseq set_tid_address sched_yield sched_getaffinity
    rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigsuspend sigaltstack restart_syscall
    getitimer setitimer alarm pause clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times
    getpid gettid getppid getuid geteuid getgid getegid getresuid getresgid getgroups getpgrp getpgid getsid
    getrusage getrlimit setrlimit getrandom getcpu sysinfo uname umask wait4 exit exit_group
"""
_AF_UNIX = 1
_CLONE_THREAD = 0x10000
_FCNTL = (0, 1, 2, 3, 4, 5, 1030)
"""F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_DUPFD_CLOEXEC."""
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX."""
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7


class _Comparison(ctypes.Structure):
    """scmp_arg_cmp: argument `argument` compared by `operation` with one or two values."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operation", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@cache
def program_filter() -> bytes:
    """Return the filter as BPF instructions for this processor.

    Raises:
        SandboxError: libseccomp is not installed, or does not support this processor.
    """
    library = _library()
    context = library.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM))
    if not context:
        raise SandboxError("libseccomp does not support this processor; programs run on x86_64 and aarch64")
    try:
        for name in _ALLOWED.split():
            _rule(library, context, _ALLOW, name)
        for command in _FCNTL:
            _rule(library, context, _ALLOW, "fcntl", _Comparison(1, _MASKED_EQUAL, 0xFFFFFFFF, command))
        for command in _IOCTL:
            _rule(library, context, _ALLOW, "ioctl", _Comparison(1, _MASKED_EQUAL, 0xFFFFFFFF, command))
        _rule(library, context, _ALLOW, "socketpair", _Comparison(0, _EQUAL, _AF_UNIX, 0))
        _rule(library, context, _ALLOW, "prlimit64", _Comparison(0, _EQUAL, 0, 0))
        _rule(library, context, _ALLOW, "clone", _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, _CLONE_THREAD))
        # A filter cannot read its flags, which are in memory; on ENOSYS glibc falls back to clone.
        _rule(library, context, _ERRNO | errno.ENOSYS, "clone3")
        return _exported(library, context)
    finally:
        library.seccomp_release(context)


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError:
        raise SandboxError(
            "programs cannot be run: libseccomp, which makes the filter of system calls, is not installed; "
            "run `apt-get install libseccomp2` (dnf, pacman: libseccomp)"
        ) from None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison),
    ]  # fmt: skip
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


def _rule(library: ctypes.CDLL, context: int, action: int, name: str, *comparisons: _Comparison) -> None:
    """Add a rule, unless this processor lacks the system call."""
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:
        return
    array = (_Comparison * len(comparisons))(*comparisons)
    failed = library.seccomp_rule_add_array(context, action, number, len(comparisons), array)
    if failed:
        raise SandboxError(f"libseccomp rejects the rule for {name}: {os.strerror(-failed)}")


def _exported(library: ctypes.CDLL, context: int) -> bytes:
    with tempfile.TemporaryFile() as file:
        failed = library.seccomp_export_bpf(context, file.fileno())
        if failed:
            raise SandboxError(f"libseccomp cannot write its filter: {os.strerror(-failed)}")
        file.seek(0)
        return file.read()

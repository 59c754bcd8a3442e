"""A program can reach nothing on its host except the interpreter and its libraries."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

Report = Callable[[str], str]

_EPERM = "Operation not permitted"

NO_SUCH_FILES = ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/root", "/sys/class", "/root", "/home",
                 "/tmp", "/var", "/run", "/bin/sh", "/usr/bin", "/dev/shm", "/dev/tty", "/dev/mem"]  # fmt: skip

DENIED = {
    "open a connection": "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
    "resolve a name": "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
    "reach a socket in a file": "import socket; socket.socket(socket.AF_UNIX).connect('/run/dbus/system_bus_socket')",
    "ask the kernel for its network": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "fork": "import os; os.fork()",
    "start a program": "import subprocess; subprocess.run(['/python/bin/python3', '-c', '1'])",
    "become a program": "import os; os.execv('/python/bin/python3', ['python3', '-c', 'print(1)'])",
    "kill its parent": "import os; os.kill(os.getppid(), 9)",
    "kill all it may": "import os; os.kill(-1, 9)",
    "kill process 1": "import os; os.kill(1, 9)",
    "hold a handle on its parent": "import os; os.pidfd_open(os.getppid())",
    "become root": "import os; os.setuid(0)",
    "leave its groups": "import os; os.setgroups([0])",
    "change its root": "import os; os.chroot('/python')",
    "lower its parent's limits": "import resource, os; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "choose its parent's processors": "import os; os.sched_setaffinity(os.getppid(), {0})",
    "be nicer": "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "make a file in memory": "import os; os.memfd_create('x')",
    "lead a session": "import os; os.setsid()",
    "put a signal on its parent by a file": (
        "import fcntl, os, socket; a, b = socket.socketpair(); fcntl.fcntl(a, 10, 9); fcntl.fcntl(a, 8, os.getppid())"
    ),
    "own a file's signals by ioctl": "import fcntl, os, socket; fcntl.ioctl(socket.socketpair()[0], 0x8901, b'0000')",
    "blow up a pipe": "import fcntl, os; fcntl.fcntl(os.pipe()[0], 1031, 1 << 20)",
}

RAW_CALLS = {
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312, "mount": 165, "pivot_root": 155,
    "unshare": 272, "setns": 308, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425,
    "add_key": 248, "keyctl": 250, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240, "memfd_create": 319,
    "memfd_secret": 447, "personality": 135, "quotactl": 179, "swapon": 167, "reboot": 169, "init_module": 175,
    "kexec_load": 246, "open_by_handle_at": 304, "name_to_handle_at": 303, "fanotify_init": 300, "seccomp": 317,
    "prctl": 157, "tgkill": 234, "tkill": 200, "rt_sigqueueinfo": 129, "pidfd_send_signal": 424, "pidfd_getfd": 438,
    "process_madvise": 440, "sendmsg": 46, "recvmsg": 47, "execve": 59, "execveat": 322, "vfork": 58, "fork": 57,
    "symlink": 88, "link": 86, "mkdir": 83, "mknod": 133, "rename": 82, "unlink": 87, "chmod": 90, "truncate": 76,
}  # fmt: skip
"""System call numbers of x86_64."""


def program_with(statement: str) -> str:
    return f"def f(x):\n    {statement}\n    return 'DONE'\n"


@pytest.mark.parametrize("path", NO_SUCH_FILES)
def test_host_files_are_absent(report: Report, path: str) -> None:
    assert "FileNotFoundError" in report(program_with(f"import os; os.stat({path!r})"))


def test_checkout_and_home_are_absent(report: Report, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("TOPSECRET")
    for path in (secret, Path(__file__), Path.home()):
        assert "FileNotFoundError" in report(program_with(f"open({str(path)!r})"))
    assert report("import os\ndef f(x): return sorted(os.listdir('/dev'))") == "['null', 'urandom']"


@pytest.mark.parametrize("attack", DENIED.values(), ids=DENIED.keys())
def test_system_access_is_denied(report: Report, attack: str) -> None:
    result = report(program_with(attack))
    assert _EPERM in result or "PermissionError" in result


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers are those of x86_64")
def test_raw_system_calls_are_denied(report: Report) -> None:
    numbers = list(RAW_CALLS.values())
    result = report(f"""
        import ctypes
        def f(x):
            libc = ctypes.CDLL(None, use_errno=True)
            found = []
            for number in {numbers}:
                ctypes.set_errno(0)
                value = libc.syscall(number, 0, 0, 0, 0, 0, 0)
                if value != -1 or ctypes.get_errno() != 1:
                    found.append((number, value, ctypes.get_errno()))
            return found
    """)
    assert result == "[]"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="only x86_64 has a second set of system calls")
def test_32_bit_system_calls_do_not_bypass_the_filter(judge: Callable[..., object]) -> None:
    """The filter kills or denies system calls through the 32-bit gate, which has other numbers."""
    result = judge("""
        import ctypes, mmap
        def f(x):
            # mov eax, 20 (getpid of i386); int 0x80; ret
            code = b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"
            area = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            area.write(code)
            address = ctypes.addressof(ctypes.c_char.from_buffer(area))
            pid = ctypes.CFUNCTYPE(ctypes.c_int)(address)()
            return 7919 if pid > 0 else pid
    """)
    assert result.kind in {"crashed", "failed"}  # type: ignore[attr-defined]
    assert "second" not in result.detail  # type: ignore[attr-defined]


def test_host_listener_gets_no_connection(report: Report) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        report(program_with(f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"))
        listener.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_environment_is_not_inherited(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_API_KEY", "ENVSECRET-42")
    result = report("import os\ndef f(x): return sorted(os.environ)")
    assert result == "['LANG', 'LD_LIBRARY_PATH', 'MALLOC_ARENA_MAX', 'OPENBLAS_NUM_THREADS', 'PWD', 'PYTHONHASHSEED']"


def test_program_runs_as_an_unprivileged_user(report: Report) -> None:
    result = report("""
        import os
        def f(x):
            users, groups = os.getresuid(), os.getresgid()
            return min(users) >= 60000, min(groups) >= 60000, set(os.getgroups()) <= {65534}
    """)
    assert result == "(True, True, True)"


def test_only_the_channel_is_open(report: Report) -> None:
    result = report("""
        import os
        def f(x):
            found = []
            for number in range(1024):
                try:
                    found.append((number, os.fstat(number).st_mode >> 12))
                except OSError:
                    pass
            return found
    """)
    assert result == "[(0, 2), (1, 2), (2, 2), (4, 12)]", "three null devices and a socket"


@pytest.mark.parametrize("folder", ["/", "/dev", "/box/inside", "/python/lib", "/packages", "/usr/lib"])
def test_nothing_can_be_written(report: Report, folder: str) -> None:
    result = report(program_with(f"open({folder!r} + '/planted', 'w')"))
    assert "Read-only file system" in result or "Permission denied" in result


def test_links_do_not_escape(report: Report) -> None:
    for attack in (
        "import os; os.symlink('/etc', '/here')",
        "import os; os.link('/box/inside/judge.py', '/here')",
        "import os; os.mkdir('/here')",
        "open('/lib/../../../../etc/passwd')",
        "open('/dev/fd/4')",
        "import os; os.chdir('/lib64'); open('../../etc/passwd')",
    ):
        result = report(program_with(attack))
        assert "Error" in result, attack
        assert "DONE" not in result


def test_box_holds_only_public_source(report: Report) -> None:
    """The mounted files are memstore's source; tests and expected values are passed in memory only."""
    inside = Path(__file__).parents[3] / "rl" / "memstore_rl" / "sandbox" / "inside"
    names = sorted(path.name for path in inside.glob("*.py"))
    listed = "sorted(name for name in os.listdir('/box/inside') if name.endswith('.py'))"
    assert report(f"import os\ndef f(x): return {listed}") == repr(names)

"""The bubblewrap command of a box, and the reasons why a box cannot be built.

A box has its own process ids, network (without devices), host name, message queues and, if an ordinary user builds it,
user ids. Its file system is empty and read-only except for the interpreter, its standard library, numpy, the system's
shared libraries, /dev/null, /dev/urandom and `inside/`. There is no /proc, no /tmp and no shell. The environment is not
inherited.

The kernel's limit on the number of processes does not apply to root, so the user id of the box outside matters.
`identity` chooses it by the user that builds the box:

    root that may mount                  no user namespace; the zygote switches to an unused user id
    root that may not, as in containers  an unused user id from the start, with a user namespace
    anyone else                          with a user namespace
    root that may not change its user    refused
"""

from __future__ import annotations

import importlib.util
import os
import random
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from memstore.errors import SandboxError

_INSIDE = Path(__file__).parent / "inside"
_NOBODY = 65534
_DYNAMIC_USERS = range(61184, 65520)
"""User ids that systemd assigns to transient services; no account has one."""
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 1 << 6, 1 << 7, 1 << 21
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "LD_LIBRARY_PATH": "/python/lib",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}
_START = (
    "import sys; sys.path += ['/packages']; sys.path.insert(0, '/box'); from inside import zygote; "
    "del sys.path[0]; {preload}zygote.main(*map(int, sys.argv[1:]))"
)


class Identity(NamedTuple):
    """User ids that a box is built and run with."""

    namespace: bool
    """Whether the box has a user namespace."""
    start_as: int | None
    """User id to start bubblewrap with; None: that of this process."""
    become: int
    """User id that the zygote switches to; 0: it keeps its own."""


def identity() -> Identity:
    """Return the user ids with which this process can build a box.

    Raises:
        SandboxError: it cannot build one in which the number of processes is limited.
    """
    if not sys.platform.startswith("linux"):
        raise SandboxError(f"programs run on Linux only, with bubblewrap; this is {sys.platform}")
    first_user, users = _root_outside()
    if os.geteuid() != 0 or first_user != 0:
        return Identity(namespace=True, start_as=None, become=0)
    rights = _capabilities()
    if not rights & _CAP_SETUID or not rights & _CAP_SETGID or users < _DYNAMIC_USERS.stop:
        raise SandboxError(
            "programs cannot be run: this is root without the right to change its user, and no limit applies to the "
            "number of its processes; run as an ordinary user, or with the capabilities SETUID and SETGID"
        )
    unused = random.choice(_DYNAMIC_USERS)
    if rights & _CAP_SYS_ADMIN:
        return Identity(namespace=False, start_as=None, become=unused)
    return Identity(namespace=True, start_as=unused, become=0)


def _root_outside() -> tuple[int, int]:
    """Return the host's user id of user 0, and the number of user ids in this namespace."""
    _, outside, count = Path("/proc/self/uid_map").read_text().split("\n")[0].split()
    return int(outside), int(count)


def box_command(who: Identity, control: int, bpf: int, info: int, *, preload: Sequence[str]) -> list[str]:
    """Return the command that starts a box.

    Args:
        who: user ids of the box.
        control, bpf: file descriptors that the zygote inherits.
        info: file descriptor to which bubblewrap writes the process id of its child.
        preload: modules that the zygote imports once for all its children.

    Raises:
        SandboxError: bubblewrap is not installed.
    """
    users = (
        ["--unshare-user", "--uid", str(_NOBODY), "--gid", str(_NOBODY), "--cap-drop", "ALL"]
        if who.namespace
        else ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    )
    imports = "".join(f"import {module}; " for module in preload if importlib.util.find_spec(module))
    start = _START.format(preload=imports)
    return [
        _bwrap_path(), *users, "--info-fd", str(info),
        "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--hostname", "box", "--new-session", "--clearenv",
        *(word for name, value in _ENVIRONMENT.items() for word in ("--setenv", name, value)),
        *_file_system(),
        "--", "/python/bin/python3", "-I", "-S", "-B", "-c", start, str(control), str(bpf), str(who.become),
    ]  # fmt: skip


def _bwrap_path() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError(
            "programs cannot be run: bubblewrap, which builds their sandbox, is not installed; "
            "run `apt-get install bubblewrap` (dnf, pacman: the same name)"
        )
    return found


@cache
def _file_system() -> list[str]:
    """Return the mounts, with every folder: only the owner can enter folders that bubblewrap creates implicitly."""
    interpreter = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    stdlib = Path(sysconfig.get_path("stdlib"))
    inner = f"/python/lib/{stdlib.name}"
    words = ["--dir", "/python", "--dir", "/python/bin", "--ro-bind", str(interpreter.resolve()), "/python/bin/python3"]
    if stdlib.parent == Path("/usr/lib"):
        words += ["--dir", "/python/lib", "--ro-bind", str(stdlib), inner]
    else:
        words += ["--ro-bind", str(stdlib.parent), "/python/lib"]
    for name in ("site-packages", "dist-packages"):
        if (stdlib / name).is_dir():
            words += ["--tmpfs", f"{inner}/{name}"]
    words += [*_libraries(), "--dir", "/packages", *_numpy()]
    words += ["--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null", "--dev-bind", "/dev/urandom", "/dev/urandom"]
    words += ["--dir", "/box", "--ro-bind", str(_INSIDE), "/box/inside", "--chdir", "/"]
    return [*words, "--remount-ro", "/"]


def _libraries() -> list[str]:
    """Mount the system's shared libraries: Debian's folder of this architecture, else all of /usr/lib."""
    architecture = sysconfig.get_config_var("MULTIARCH")
    if architecture and Path("/usr/lib", architecture).is_dir():
        folders = [f"/usr/lib/{architecture}"]
    else:
        folders = ["/usr/lib"]
    folders += ["/usr/lib64"] if Path("/usr/lib64").is_dir() else []
    words = ["--dir", "/usr", *(["--dir", "/usr/lib"] if folders[0] != "/usr/lib" else [])]
    for folder in folders:
        words += ["--ro-bind", folder, folder]
    for short in ("/lib", "/lib64"):
        if Path(short).is_symlink():
            words += ["--symlink", f"usr{short}", short]
        elif Path(short).is_dir():
            words += ["--ro-bind", short, short]
    return words


def _numpy() -> list[str]:
    """Mount numpy, which tests (EvalPlus) and programs use, if this interpreter has it."""
    found = importlib.util.find_spec("numpy")
    if found is None or found.origin is None:
        return []
    folder = Path(found.origin).parent
    shared = folder.parent / "numpy.libs"
    words = ["--ro-bind", str(folder), "/packages/numpy"]
    return words + (["--ro-bind", str(shared), "/packages/numpy.libs"] if shared.is_dir() else [])


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def build_error_message(stderr: str) -> str:
    """Return one sentence with the reason why bubblewrap could not build a box, and the fix.

    Args:
        stderr: error output of bubblewrap.
    """
    reason = " ".join(stderr.split())[-300:] or "no error output"
    return f"programs cannot be run: bubblewrap cannot build a sandbox here ({reason}); {_fix()}"


def _fix() -> str:
    if _kernel_setting("kernel/unprivileged_userns_clone") == "0":
        return "run `sysctl -w kernel.unprivileged_userns_clone=1` as root"
    if _kernel_setting("user/max_user_namespaces") == "0":
        return "run `sysctl -w user.max_user_namespaces=15000` as root"
    if _kernel_setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "run `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root, or give bwrap an AppArmor profile"
        )
    return (
        "in a container, start it with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, "
        "and `--cap-add SYS_ADMIN` if it runs as root"
    )


def _kernel_setting(setting: str) -> str | None:
    file = Path("/proc/sys", setting)
    return file.read_text().strip() if file.exists() else None

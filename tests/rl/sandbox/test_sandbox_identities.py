"""Root, root in a container and an ordinary user all get the same sandbox.

The tests start real processes with these privileges. They run the system's interpreter on a copy of the sandbox, which
needs only the standard library and a few small modules, because other users may not be able to read the checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import SandboxError
from memstore_rl.sandbox import Sandbox, bubblewrap

ROOT = Path(__file__).parents[3]
PYTHON = Path("/usr/bin/python3")

_RUN = """
import json, sys
from memstore_rl.sandbox import CallTests, Limits, Sandbox
with Sandbox(pairs=1, limits=Limits(cpu_seconds=1, wall_seconds=20)) as sandbox:
    for program, tests in json.load(sys.stdin):
        print(json.dumps(sandbox.run(program, CallTests(("f",), tests))[:2]))
"""
_TESTS = "assert f(3) == 7919, repr(f(3))\nassert f(4) == 104729"
_REPORT = "assert False, repr(f(3))"
_THREADS = """
import _thread, time
_thread.stack_size(32768)
def f(x):
    begun = 0
    try:
        while begun < 5000:
            _thread.start_new_thread(time.sleep, (9,))
            begun += 1
    except RuntimeError:
        pass
    return begun < 200
"""
_KILL = "import os\ndef f(x):\n    try: os.kill(os.getppid(), 9)\n    except OSError as e: return e.errno\n"
_REDIRECT_SIGNALS = (
    "import fcntl, os\ndef f(x):\n    try: fcntl.fcntl(0, 8, os.getppid())\n    except OSError as e: return e.errno\n"
)
_READ = "def f(x):\n    try: return open('/etc/passwd').read()\n    except OSError as e: return e.errno\n"
_IDS = "import os\ndef f(x): return min(os.getresuid() + os.getresgid()) > 60000\n"
_RIGHTS = "import os\ndef f(x):\n    try: os.setuid(0)\n    except OSError as e: return e.errno\n"

JOBS = {
    ("def f(x): return {3: 7919, 4: 104729}[x]", _TESTS): ["passed", ""],
    ("def f(x): return 0", _TESTS): ["failed", "assertion: 0"],
    ("import os\nos._exit(0)", _TESTS): ["exited", "it exited with code 0 before its tests ended"],
    ("def f(x):\n    while True: pass", _TESTS): ["timeout", "more than 1 s of processor time"],
    (_READ, _REPORT): ["failed", "assertion: 2"],
    (_KILL, _REPORT): ["failed", "assertion: 1"],
    (_REDIRECT_SIGNALS, _REPORT): ["failed", "assertion: 1"],
    (_RIGHTS, _REPORT): ["failed", "assertion: 1"],
    (_THREADS, _REPORT): ["failed", "assertion: True"],
    (_IDS, _REPORT): ["failed", "assertion: True"],
}

USERS = {
    "root": [],
    "root that may not mount, as in a container": ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
    "an ordinary user": ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    "an ordinary user who is root in a namespace": [
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "--user", "--map-root-user",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def copied() -> Iterator[Path]:
    """A copy of the sandbox that every user can read."""
    if os.geteuid() != 0:
        pytest.skip("needs root to switch users")
    has = (
        subprocess.run([PYTHON, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"], check=False).returncode == 0
    )
    if not PYTHON.exists() or not has:
        pytest.skip(f"{PYTHON} is not a Python that memstore runs on")
    folder = Path(tempfile.mkdtemp(prefix="memstore-sandbox-"))
    folder.chmod(0o755)
    for name in (
        "errors.py",
        "runtime/fair_queue.py",
        "runtime/processes.py",
        "text/fences.py",
        "text/listing.py",
        "text/parsing.py",
    ):
        name = f"memstore/{name}"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in ("memstore", "memstore/runtime", "memstore/text", "memstore_rl"):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "__init__.py").touch()
    shutil.copytree(ROOT / "rl" / "memstore_rl" / "sandbox", folder / "memstore_rl" / "sandbox")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("user", USERS.values(), ids=USERS.keys())
def test_every_user_gets_the_same_sandbox(sandbox: Sandbox, copied: Path, user: list[str]) -> None:
    done = run_as(user, copied)
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert dict(zip(JOBS, outcomes, strict=True)) == JOBS


def test_root_that_cannot_change_its_user_is_refused(sandbox: Sandbox, copied: Path) -> None:
    """No process limit applies to root, so there must be no sandbox."""
    done = run_as(["setpriv", "--bounding-set=-all", "--inh-caps=-all"], copied)
    assert done.returncode != 0
    assert "SandboxError: programs cannot be run: this is root without the right to change its user" in done.stderr


def test_kernel_without_namespaces_is_refused(sandbox: Sandbox, copied: Path) -> None:
    """Runs the real bubblewrap where the kernel refuses it, as in many containers."""
    limit = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    user = [*USERS["an ordinary user who is root in a namespace"], "sh", "-c", limit, "sh"]
    done = run_as(user, copied)
    assert done.returncode != 0
    assert "SandboxError: programs cannot be run: bubblewrap cannot build a sandbox here (bwrap: " in done.stderr
    assert "run `sysctl -w user.max_user_namespaces=15000` as root" in done.stderr


def run_as(user: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(folder)}
    return subprocess.run(
        [*user, str(PYTHON), "-B", "-c", _RUN], input=json.dumps(list(JOBS)), text=True, capture_output=True,
        env=environment, cwd="/", check=False, timeout=280,
    )  # fmt: skip


def test_a_root_whose_namespace_has_no_other_user_builds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.os, "geteuid", lambda: 0)
    monkeypatch.setattr(bubblewrap, "_root_outside", lambda: (0, 1))
    with pytest.raises(SandboxError, match="without the right to change its user"):
        bubblewrap.identity()

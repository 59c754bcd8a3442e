"""Where no sandbox can be built nothing runs: the error says why, and which command helps."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from memstore.errors import SandboxError
from memstore_rl.sandbox import Sandbox, box, bubblewrap, seccomp
from memstore_rl.verifiers.code import CodeVerifier


@pytest.fixture
def no_filter_kept() -> Iterator[None]:
    """The filter is made once a process: here, anew."""
    seccomp.program_filter.cache_clear()
    yield
    seccomp.program_filter.cache_clear()


def test_without_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="bubblewrap.*is not installed; run `apt-get install bubblewrap`"):
        Sandbox()
    with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
        CodeVerifier()


def test_without_libseccomp(monkeypatch: pytest.MonkeyPatch, no_filter_kept: None) -> None:
    def absent(name: str, **_: object) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(seccomp.ctypes, "CDLL", absent)
    with pytest.raises(SandboxError, match="libseccomp.*run `apt-get install libseccomp2`"):
        Sandbox()


def test_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="on Linux only"):
        Sandbox()


def test_where_bubblewrap_may_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What bubblewrap says in a container with Docker's own seccomp profile."""
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"No permissions to create new namespace\); .*(sysctl|--security-opt)"):
        Sandbox()


@pytest.mark.parametrize(
    ("setting", "value", "helps"),
    [
        ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces"),
        (
            "kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("kernel/hostname", "x", "--security-opt seccomp=unconfined"),
    ],
)
def test_the_kernel_setting_that_stands_in_the_way_is_named(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, helps: str
) -> None:
    monkeypatch.setattr(bubblewrap, "_kernel", lambda name: value if name == setting else None)
    assert helps in bubblewrap.build_error_message("bwrap: setting up uid map: Permission denied")


def test_where_the_kernel_takes_no_filter(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "program_filter", lambda: b"\xff" * 8)
    with pytest.raises(SandboxError, match="the kernel does not take the filter of system calls"):
        Sandbox()

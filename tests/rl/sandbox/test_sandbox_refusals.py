"""If no sandbox can be built nothing runs, and the error gives the reason and the fix."""

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
def fresh_filter() -> Iterator[None]:
    """Clear the cached filter."""
    seccomp.program_filter.cache_clear()
    yield
    seccomp.program_filter.cache_clear()


def test_without_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="bubblewrap.*is not installed; run `apt-get install bubblewrap`"):
        Sandbox()
    with pytest.raises(SandboxError, match="apt-get install bubblewrap"):
        CodeVerifier()


def test_without_libseccomp(monkeypatch: pytest.MonkeyPatch, fresh_filter: None) -> None:
    def absent(name: str, **_: object) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(seccomp.ctypes, "CDLL", absent)
    with pytest.raises(SandboxError, match="libseccomp.*run `apt-get install libseccomp2`"):
        Sandbox()


def test_on_another_operating_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="on Linux only"):
        Sandbox()


def test_with_a_bubblewrap_that_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Uses the message of bubblewrap in a container with Docker's default seccomp profile."""
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(SandboxError, match=r"No permissions to create new namespace\); .*(sysctl|--security-opt)"):
        Sandbox()


@pytest.mark.parametrize(
    ("setting", "value", "fix"),
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
def test_error_names_the_kernel_setting(monkeypatch: pytest.MonkeyPatch, setting: str, value: str, fix: str) -> None:
    monkeypatch.setattr(bubblewrap, "_kernel_setting", lambda name: value if name == setting else None)
    assert fix in bubblewrap.build_error_message("bwrap: setting up uid map: Permission denied")


def test_kernel_that_rejects_the_filter(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "program_filter", lambda: b"\xff" * 8)
    with pytest.raises(SandboxError, match="the kernel does not accept the system call filter"):
        Sandbox()

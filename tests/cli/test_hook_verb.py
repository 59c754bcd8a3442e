"""`memstore hook check`: what it prints, its exit codes, and the service that it uses."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from memstore_cli.main import run
from memstore_rl.trainers.conformance.checks import CHECKS
from memstore_rl.trainers.conformance.driver import GroupCase, Outcome
from memstore_rl.trainers.conformance.drivers import DRIVERS, generic
from memstore_rl.trainers.conformance.service import NotingService
from memstore_rl.trainers.hook_settings import HookSettings


def test_findings_are_printed_with_what_drove_the_hook(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hook", "check", "generic"]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == "generic: driven with memstore_rl.group_reward itself"
    assert [line.startswith("ok ") for line in lines] == [True] * len(CHECKS)


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    with NotingService() as service:
        assert run(["hook", "check", "generic", "--endpoint", service.address, "--json"]) == 0
        assert service.noted
        assert not any(one.record for one in service.noted)
    document = json.loads(capsys.readouterr().out)
    assert (document["trainer"], document["ok"]) == ("generic", True)
    assert {finding["what"] for finding in document["findings"]} == set(CHECKS)


def test_failed_check_is_first_and_the_exit_code_is_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: object, groups: Sequence[GroupCase], settings: HookSettings) -> Outcome:
        return generic._score(groups, settings, evaluation=False)._replace(metrics={})

    monkeypatch.setattr(generic.Driver, "train", silent)
    assert run(["hook", "check", "generic"]) == 1
    assert capsys.readouterr().out.splitlines()[1].startswith("NOT OK  sources")
    assert run(["hook", "check", "generic", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_unknown_trainer_and_missing_service_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["hook", "check", "nobody"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: there is no hook for 'nobody'; the trainers are ")
    assert all(name.replace("_", "-") in error for name in DRIVERS)
    assert run(["hook", "check", "generic", "--endpoint", "nowhere"]) == 1
    assert "is not an address of a reward service" in capsys.readouterr().err

"""The plan of an installation, and the format of the receipt."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mosaic_gateway.config import Config, Secret
from mosaic_gateway.fs.record_fields import RecordError
from mosaic_gateway.installation.engine_name import EngineName
from mosaic_gateway.installation.layout import Home
from mosaic_gateway.installation.receipt import Receipt, ReceiptState, read_receipt, write_receipt
from mosaic_gateway_installer.install.plan import install_steps, pending_steps
from mosaic_gateway_installer.install.steps.settings import wanted_settings
from mosaic_gateway_installer.step import StepId

ALL = install_steps(EngineName.POSTGRES, start=True)


def test_the_steps_of_a_full_installation_are_in_this_order() -> None:
    """The settings are written before a step reads them."""
    assert ALL == (
        "home", "program", "link", "stop", "backup", "launch", "config", "secret", "runtime", "major-upgrade",
        "cluster", "service", "start",
    )  # fmt: skip


@settings(database=None, deadline=None)
@given(st.sampled_from(EngineName), st.booleans())
def test_steps_that_do_not_apply_are_omitted(engine: EngineName, start: bool) -> None:
    """Every plan is a part of the full one, in the same order."""
    steps = install_steps(engine, start=start)
    assert [step for step in ALL if step in steps] == [step for step in steps if step != "schema"]
    assert ("cluster" in steps) is (engine is not EngineName.SERVER)
    assert steps[-1] == ("start" if start else "schema")
    assert {"stop", "launch"} <= set(steps) or not start


@settings(database=None, deadline=None)
@given(st.sets(st.sampled_from(ALL)))
def test_pending_steps_include_restarts(done: set[StepId]) -> None:
    """A change under a running gateway restarts it; without a start nothing is stopped or launched."""
    pending = pending_steps(ALL, done)
    assert list(pending) == [step for step in ALL if step in pending]
    changed = set(ALL) - done - {"stop", "launch", "start"}
    assert changed <= set(pending)
    assert ("launch" in pending) is ("start" in pending)
    if changed - {"home"}:
        assert "start" in pending
    if "start" not in pending:
        assert "stop" not in pending
    assert ("stop" in pending) is ("start" in pending and "stop" not in done)


def test_a_service_manager_loads_the_gateway_itself() -> None:
    """With a service no ``launch`` step runs, and a change of the unit restarts the gateway."""
    steps = install_steps(EngineName.POSTGRES, start=True, service=True)
    assert "launch" not in steps
    assert pending_steps(steps, set(steps) - {"service", "stop"}) == ("stop", "service", "start")


def test_nothing_is_pending_when_all_is_done() -> None:
    """A second run has an empty plan, although a gateway is running."""
    assert pending_steps(ALL, set(ALL) - {"stop"}) == ()


def test_a_database_url_of_another_program_is_not_stored(tmp_path: Path) -> None:
    """The database URL is only stored for the engine ``server``."""
    config = Config(home=Home(tmp_path), database_url=Secret("postgresql://x"))
    assert "database_url" not in wanted_settings(config)
    assert wanted_settings(replace(config, engine=EngineName.SERVER))["database_url"] == "postgresql://x"


@pytest.fixture
def receipt() -> Receipt:
    """Return a receipt with every field set."""
    return Receipt(
        instance_id="0123456789abcdef", state=ReceiptState.RETAINED, version="1.2.3", engine="postgres",
        created_at="2026-01-02T03:04:05+00:00", home_created=True, parents_created=("/a", "/a/b"),
        schema="ab" * 32,
    )  # fmt: skip


def test_a_receipt_is_read_as_it_was_written(receipt: Receipt, tmp_path: Path) -> None:
    """A written and read receipt is equal to the original; without a file there is no receipt."""
    home = Home(tmp_path)
    assert read_receipt(home) is None
    write_receipt(home, receipt)
    assert read_receipt(home) == receipt
    assert home.receipt.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", [{"receipt": 2}, {"state": "odd"}, {"instance_id": None, "_drop": 1}], ids=str)
def test_an_invalid_receipt_is_refused(receipt: Receipt, tmp_path: Path, change: dict[str, object]) -> None:
    """A later schema number, an unknown state and a missing field are errors."""
    home = Home(tmp_path)
    write_receipt(home, receipt)
    value = {**json.loads(home.receipt.read_text()), **change}
    if value.pop("_drop", None):
        del value["instance_id"]
    home.receipt.write_text(json.dumps(value))
    with pytest.raises(RecordError) as caught:
        read_receipt(home)
    assert caught.value.exit_code == 7


def test_an_unknown_field_is_ignored(receipt: Receipt, tmp_path: Path) -> None:
    """A receipt with a field of another version is read."""
    home = Home(tmp_path)
    write_receipt(home, receipt)
    home.receipt.write_text(json.dumps({**json.loads(home.receipt.read_text()), "account": "x"}))
    assert read_receipt(home) == receipt

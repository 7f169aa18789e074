"""The verbs ``config set`` and ``config unset``."""

from __future__ import annotations

import json
import stat
from typing import Any

import pytest
from tests.support.cli_home import MakePlace, Place


def _ask(place: Place, *words: str, code: int = 0) -> Any:
    """Run ``config`` *words*; return the result, or the error if *code* is not 0."""
    done = place.run("config", *words, "--json")
    assert done.code == code, done
    return json.loads(done.out)["result" if code == 0 else "error"]


def test_set_and_unset_change_one_setting(make_place: MakePlace) -> None:
    """Comments and other settings stay, the file stays private, and the effective value is the new one."""
    place = make_place()
    file = place.home.config_file
    file.write_text(f"# my comment\n{file.read_text()}")
    before = file.read_text()
    changed = _ask(place, "set", "base_url", "https://gateway.example.com")
    assert changed == {"name": "base_url", "value": "https://gateway.example.com", "changed": True}
    assert file.read_text() == before + 'base_url = "https://gateway.example.com"\n'
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = _ask(place, "show")["settings"]["base_url"]
    assert shown == {"value": "https://gateway.example.com", "source": str(file)}
    assert _ask(place, "set", "base_url", "https://gateway.example.com")["changed"] is False
    assert _ask(place, "unset", "base_url")["changed"] is True
    assert file.read_text() == before


def test_several_values_make_a_list(make_place: MakePlace) -> None:
    """A list setting takes one value or several."""
    place = make_place()
    _ask(place, "set", "trusted_proxies", "127.0.0.1", "10.0.0.0/8")
    assert 'trusted_proxies = ["127.0.0.1", "10.0.0.0/8"]\n' in place.home.config_file.read_text()
    _ask(place, "set", "trusted_proxies", "127.0.0.1")
    assert _ask(place, "show")["settings"]["trusted_proxies"]["value"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("port", "70000"), "CONFIG_INVALID"),
        (("base_url", "gateway.example.com"), "CONFIG_INVALID"),
        (("host", "a", "b"), "CONFIG_INVALID"),
        (("cookie_domain", "com"), "CONFIG_INVALID"),
        (("cookie_domain", "example.com"), "CONFIG_INVALID"),
        (("engine", "server"), ""),
        (("forward", "x"), ""),
        (("database_url", "postgres://u:secret@h/d"), ""),
        (("prot", "1"), ""),
    ],
)
def test_what_is_refused_changes_nothing(make_place: MakePlace, words: tuple[str, ...], code: str) -> None:
    """Invalid values, also beside other settings; what belongs to ``install`` or is a table; secrets in arguments."""
    place = make_place()
    before = place.home.config_file.read_bytes()
    done = place.run("config", "set", *words, "--json")
    assert done.code == 2
    assert f'"code": "{code}"' in done.out or not code
    assert place.home.config_file.read_bytes() == before


def test_a_variable_that_overrides_it_is_named(make_place: MakePlace) -> None:
    """The person is not left wondering why nothing changes."""
    place = make_place()
    done = place.run("config", "set", "host", "127.0.0.2", env={"MOSAIC_GATEWAY_HOST": "127.0.0.1"})
    assert done.code == 0
    assert "warning: MOSAIC_GATEWAY_HOST overrides it." in done.err


def test_a_broken_file_stays_as_it_is(make_place: MakePlace) -> None:
    """A file that is not TOML is named, and not replaced."""
    place = make_place()
    place.home.config_file.write_text("port = = 1\n")
    error = _ask(place, "set", "host", "127.0.0.1", code=2)
    assert error["code"] == "CONFIG_INVALID"
    assert str(place.home.config_file) in error["message"]
    assert place.home.config_file.read_text() == "port = = 1\n"
    assert not list(place.home.path.glob("config.toml.*"))

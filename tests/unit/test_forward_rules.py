"""The rules of forward authentication: parsing, the order in which they count, and ambiguous paths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mosaic_gateway.config import Config, ConfigError, load_config
from mosaic_gateway.forward_rules import AmbiguousPathError, ForwardRule, find_rule, parse_forward
from mosaic_gateway.gateway.path_readings import MalformedPathError, path_readings
from mosaic_gateway.installation.layout import Home

RULES = (
    ForwardRule(host="wiki.example.com", path="/assets/*", allow="public"),
    ForwardRule(host="wiki.example.com", path="/straße/a b/*", allow="public"),
    ForwardRule(host="wiki.example.com", path="/admin", allow="role:admin"),
    ForwardRule(host="wiki.example.com", path="/api/*", allow="token"),
    ForwardRule(host="*.lab.example.com", path="/*", allow="role:lab", name=None),
)


def decision(host: str, path: str) -> str:
    """Return what is needed to open *path* (encoded) on *host*, ``malformed`` or ``ambiguous``."""
    try:
        return find_rule(RULES, host, path_readings(path)).allow
    except MalformedPathError:
        return "malformed"
    except AmbiguousPathError:
        return "ambiguous"


@pytest.mark.parametrize(
    ("host", "path", "allow"),
    [
        ("wiki.example.com", "/assets/app.js", "public"),
        ("wiki.example.com", "/assets", "public"),
        ("wiki.example.com", "/assets/", "public"),
        ("wiki.example.com", "/assets//app.js", "public"),
        ("wiki.example.com", "/assets/app.js;v=1", "public"),
        ("wiki.example.com", "/assets/a%20b%2Fc", "public"),
        ("wiki.example.com", "/assetsx", "signed-in"),
        ("wiki.example.com", "/stra%C3%9Fe/a%20b/c", "public"),
        ("wiki.example.com", "/admin", "role:admin"),
        ("wiki.example.com", "/admin/", "role:admin"),
        ("wiki.example.com", "/%61dmin", "role:admin"),
        ("wiki.example.com", "/admin/users", "signed-in"),
        ("wiki.example.com", "/api/v1", "token"),
        ("wiki.example.com", "/api/group%2Fproject", "token"),
        ("wiki.example.com", "/", "signed-in"),
        ("wiki.example.com", "/page/%2e%2e/other", "signed-in"),
        ("a.lab.example.com", "/", "role:lab"),
        ("a.b.lab.example.com", "/", "role:lab"),
        ("lab.example.com", "/", "signed-in"),
        ("evillab.example.com", "/", "signed-in"),
        ("other.example.com", "/assets/", "signed-in"),
    ],
)
def test_first_match(host: str, path: str, allow: str) -> None:
    """The first rule that matches host and decoded path decides; without one a signed-in user is needed."""
    assert decision(host, path) == allow


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../admin", "/assets/%2e%2e/admin", "/assets/%2E%2e/admin", "/assets/.%2e/admin", "/assets/..%2fadmin",
        "/assets/%2e%2e%2fadmin", "/assets/..%5cadmin", "/assets/..\\admin", "/assets/..;/admin",
        "/assets/..;x=1/admin",
        "/assets/%252e%252e/admin", "/assets/%252e%252e%252fadmin", "/assets/./../admin", "/assets//../admin",
        "//admin", "/./admin", "/x/../admin", "/admin;x=1", "/admin%3bx", "/admin%2f", "/admin%5c", "/ADMIN", "/Admin/",
        "/%2561dmin", "/api%2fx", "/api%5cx", "/API/v1", "/assets%2f..%2fadmin", "/assets;/../admin", "/;/admin",
        "/assets/x/../../admin", "/Assets/app.js",
    ],
)  # fmt: skip
def test_ambiguous_paths(path: str) -> None:
    """A path that some server reads as one that has another rule is refused, however it is written."""
    assert decision("wiki.example.com", path) in {"ambiguous", "role:admin"}
    if "admin" not in path.lower():
        assert decision("wiki.example.com", path) == "ambiguous"


def test_an_ambiguous_path_of_one_rule_is_permitted_by_it() -> None:
    """Readings that lead to the same permission are no reason to refuse."""
    assert decision("a.lab.example.com", "/a//b;c/%2e%2e/%2f/../d") == "role:lab"


@pytest.mark.parametrize(
    "path",
    [
        "", "assets/x", "@evil", "*", "/a b", "/a\tb", "/a#/../admin", "/%", "/%4", "/%zz", "/%00", "/a%0d%0ab",
        "/%2500",
        "/%c0%af", "/%ff", "/ä", "/\x7f", "/" + "a" * 8192, "http://x/assets/", "/a\r\nb", "/%7f",
    ],
)  # fmt: skip
def test_malformed_paths(path: str) -> None:
    """Control characters, fragments, invalid escapes, bytes that are no UTF-8, and anything without a slash first."""
    assert decision("wiki.example.com", path) == "malformed"


def load(tmp_path: Path, text: str) -> Config:
    """Load the settings *text*."""
    home = Home(tmp_path)
    home.config_file.write_text(text, encoding="utf-8")
    return load_config(home, flags={}, environ={})


def test_rules_of_the_settings_file(tmp_path: Path) -> None:
    """The rules are loaded in their order; a host is compared without case, and ``/*`` is the default path."""
    config = load(
        tmp_path,
        '[forward]\nuser = "email"\n[[forward.rules]]\nhost = "Wiki.Example.com"\nallow = "public"\npath = "/a/*"\n'
        '[[forward.rules]]\nhost = "*.example.com"\nallow = "role:ops"\n'
        '[[forward.rules]]\nhost = "x.test"\nallow = "signed-in"\npath = "/app/*"\nname = "Wörter"\n',
    )
    assert config.forward.user == "email"
    assert [str(rule) for rule in config.forward.rules] == [
        "wiki.example.com/a/* public",
        "*.example.com/* role:ops",
        "x.test/app/* signed-in (Wörter)",
    ]
    assert config.forward.rules[2].url("https") == "https://x.test/app/"
    assert config.forward.rules[1].permits(["user", "ops"])
    assert not config.forward.rules[1].permits(["admin"])


GOOD: dict[str, Any] = {"host": "a.example.com", "allow": "public"}


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"host": "a.example.com"}, "allow is missing"),
        ({"allow": "public"}, "host is missing"),
        ({**GOOD, "user": "x"}, "unknown: user"),
        ({**GOOD, "allow": "everyone"}, "allow must be"),
        ({**GOOD, "allow": "role:"}, "allow must be"),
        ({**GOOD, "allow": "role:a,b"}, "allow must be"),
        ({**GOOD, "allow": True}, "allow must be a text"),
        ({**GOOD, "host": "https://a.example.com"}, "host must be"),
        ({**GOOD, "host": "a.example.com:8443"}, "host must be"),
        ({**GOOD, "host": "*"}, "host must be"),
        ({**GOOD, "host": "a.*.com"}, "host must be"),
        ({**GOOD, "host": "müller.example"}, "host must be"),
        ({**GOOD, "host": ""}, "host must be"),
        ({**GOOD, "path": "api"}, "path must"),
        ({**GOOD, "path": "/api*"}, "path must"),
        ({**GOOD, "path": "/*/x"}, "path must"),
        ({**GOOD, "path": "/a%20b"}, "path must"),
        ({**GOOD, "path": "/a?b"}, "path must"),
        ({**GOOD, "path": "/a/../b"}, "path must"),
        ({**GOOD, "path": "/a//b"}, "path must"),
        ({**GOOD, "name": ""}, "name must"),
        ({**GOOD, "host": "*.example.com", "name": "All"}, "name must"),
        ("a.example.com", "must be a table"),
        ({"host": "fine.example.com", "allow": "role:admin"}, "rule 1 decides"),
        ({"host": "fine.example.com", "path": "/x", "allow": "role:admin"}, "rule 1 decides"),
    ],
)
def test_a_wrong_rule_is_named_by_its_position(rule: Any, problem: str) -> None:
    """The error of the third rule says that it is the third, and what is wrong; so for a rule that is never reached."""
    rules = [{"host": "fine.example.com", "allow": "public"}, {"host": "b.example.com", "allow": "token"}, rule]
    with pytest.raises(ValueError, match=rf"rule 3 of \[\[forward.rules\]\]: .*{problem}"):
        parse_forward({"rules": rules})


@pytest.mark.parametrize(
    "text", ["forward = 1", "[forward]\nrules = 1", "[forward]\nrule = []", '[forward]\nuser = "x"']
)
def test_a_wrong_table_is_refused(tmp_path: Path, text: str) -> None:
    """The error names the setting and its source."""
    with pytest.raises(ConfigError, match=r"invalid value for forward from .*config\.toml") as caught:
        load(tmp_path, text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("base_url", "domain", "stored"),
    [
        ("https://auth.example.com", "example.com", "example.com"),
        ("https://auth.example.com", ".Example.com", "example.com"),
        ("https://auth.example.com", "auth.example.com", "auth.example.com"),
        ("https://auth.example.com", "com", None),
        ("https://auth.example.com", "", None),
        ("https://auth.example.com", "ample.com", None),
        ("https://auth.example.com", "b.auth.example.com", None),
        ("https://auth.example.com", "other.com", None),
        ("https://auth.example.com", "example.com; Path=/x", None),
        ("https://192.0.2.1", "192.0.2.1", None),
        ("https://10.0.2.1", "0.2.1", None),
        ("http://localhost:14242", "localhost", None),
    ],
)
def test_cookie_domain(tmp_path: Path, base_url: str, domain: str, stored: str | None) -> None:
    """The domain contains the host of base_url, has two labels, and is no address; else the setting is refused."""
    text = f'base_url = "{base_url}"\ncookie_domain = "{domain}"\n'
    if stored is None:
        with pytest.raises(ConfigError, match="invalid value for cookie_domain") as caught:
            load(tmp_path, text)
        assert caught.value.hint
    else:
        assert load(tmp_path, text).cookie_domain == stored

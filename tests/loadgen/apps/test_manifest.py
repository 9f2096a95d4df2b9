"""The manifest of a client app, and the values of its parameters."""

from __future__ import annotations

from typing import Any

import pytest

from loadgen.apps.errors import AppInvalid
from loadgen.apps.manifest import declared_parameters, read_manifest
from loadgen.apps.parameters import filled
from loadgen.protocol.enums import CookieMode
from routing.errors import Code


def errors_of(text: str) -> list[tuple[str, str]]:
    """Path and code of each error."""
    with pytest.raises(AppInvalid) as caught:
        read_manifest(text.encode(errors="surrogatepass"))
    return [(error.path, error.code) for error in caught.value.errors]


def test_unknown_keys_of_a_manifest_are_kept() -> None:
    manifest = read_manifest(b"name: shop\nversion: 1.5\ndescription: buys\nshared: true\nkind: [a, 1]\n")
    assert (manifest.name, manifest.version, manifest.description, manifest.shared) == ("shop", "1.5", "buys", True)
    assert manifest.parameters is None
    assert manifest.content["kind"] == ["a", 1]


@pytest.mark.parametrize("mode", [None, *CookieMode])
def test_manifest_may_set_the_cookie_mode(mode: CookieMode | None) -> None:
    assert read_manifest(b"name: shop" if mode is None else f"name: shop\ncookies: {mode}".encode()).cookies == mode


def test_misspelt_cookie_mode_is_refused_with_the_accepted_ones() -> None:
    with pytest.raises(AppInvalid, match=r"manifest\.yml: cookies: must be 'ignore' or 'keep', got 'kept'"):
        read_manifest(b"name: shop\ncookies: kept")


def test_local_app_without_a_name_has_that_of_its_folder() -> None:
    assert read_manifest(b"", "folder").name == "folder"
    assert read_manifest(b"name: other", "folder").name == "other"


@pytest.mark.parametrize(
    ("text", "place", "code"),
    [
        ("", ": name", Code.REQUIRED),
        ("version: 1", ": name", Code.REQUIRED),
        ("name: ../shop", ": name", Code.FORMAT),
        ("name: 5", ": name", Code.FORMAT),
        (f"name: {'n' * 64}", ": name", Code.FORMAT),
        ("- name: shop", "", Code.TYPE),
        ("name: [", "", Code.UNREADABLE),
        ("name: a\nname: b", "", Code.UNREADABLE),
        ("name: &a shop\nx: *a", "", Code.UNREADABLE),
        ("name: shop\nx: !!python/name:os.system ''", "", Code.UNREADABLE),
        (f"name: shop\nx: {'y' * 70_000}", "", Code.UNREADABLE),
        ("name: shop\nshared: yes", ": shared", Code.TYPE),
        ("name: shop\ncookies: kept", ": cookies", Code.CHOICE),
        ("name: shop\ncookies: {sid: 1}", ": cookies", Code.CHOICE),
        ("name: shop\nversion: [1]", ": version", Code.FORMAT),
        (f"name: shop\ndescription: {'y' * 4001}", ": description", Code.FORMAT),
        ("name: shop\nparameters: [size]", ": parameters", Code.TYPE),
        ("name: shop\nparameters: {size: {typ: integer}}", ": parameters.size.typ", Code.UNKNOWN),
        ("name: shop\nparameters: {size: {type: int}}", ": parameters.size.type", Code.CHOICE),
        ("name: shop\nparameters: {size: {minimum: 1}}", ": parameters.size.minimum", Code.CONFLICT),
        ("name: shop\nparameters: {size: {type: integer, maximum: big}}", ": parameters.size.maximum", Code.TYPE),
        ("name: shop\nparameters: {size: {type: integer, default: 1.5}}", ": parameters.size.default", Code.TYPE),
        ("name: shop\nparameters: {size: {enum: 5}}", ": parameters.size.enum", Code.TYPE),
        ('name: shop\nx: "\\0"', "", Code.FORMAT),
        ("name: shop\nx: .nan", "", Code.RANGE),
        (f"name: shop\nx: {'9' * 30}", "", Code.RANGE),
    ],
)
def test_bad_manifest_is_refused_with_path_and_code(text: str, place: str, code: Code) -> None:
    assert errors_of(text) == [(f"manifest.yml{place}", code)]


def test_all_errors_of_a_manifest_are_reported_at_once() -> None:
    assert len(errors_of("name: a/b\nshared: 1\nversion: {}\nparameters: {a: {type: x}, b: {kind: y}}")) == 5


DECLARED = {
    "size": {"type": "integer", "default": 32, "minimum": 1, "maximum": 512},
    "rate": {"type": "number", "default": 0.5},
    "colour": {"type": "string", "enum": ["red", "green"], "default": "red"},
    "user": {"type": "string"},
    "proxy": {"type": "string", "default": None},
    "tags": {"type": "array", "default": []},
    "short": 10,
    "flag": False,
    "any": {},
}


def fill(**given: Any) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    values, errors = filled(declared_parameters({"parameters": DECLARED}), {"user": "u", "any": 1, **given}, "p")
    return values, [(error.path, error.code) for error in errors]


def test_missing_parameters_have_their_defaults() -> None:
    values, errors = fill(size=8, rate=1)
    assert errors == []
    assert values == {
        "size": 8, "rate": 1, "colour": "red", "user": "u", "proxy": None, "tags": [], "short": 10, "flag": False,
        "any": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"size": "big"}, Code.TYPE),
        ({"size": True}, Code.TYPE),
        ({"size": 1.5}, Code.TYPE),
        ({"size": 0}, Code.RANGE),
        ({"size": 513}, Code.RANGE),
        ({"rate": float("nan")}, Code.RANGE),
        ({"colour": "blue"}, Code.CHOICE),
        ({"user": None}, Code.TYPE),
        ({"tags": {}}, Code.TYPE),
        ({"short": "ten"}, Code.TYPE),
        ({"flag": 1}, Code.TYPE),
        ({"sise": 3}, Code.UNKNOWN),
    ],
)
def test_wrong_value_is_refused_with_path_and_code(given: dict[str, Any], code: Code) -> None:
    assert fill(**given)[1] == [(f"p.{next(iter(given))}", code)]


def test_unknown_parameter_is_refused_with_the_nearest_name() -> None:
    _, (error,) = filled(declared_parameters({"parameters": DECLARED}), {"user": "u", "any": 1, "sise": 3}, "p")
    assert "'size'" in error.message


def test_parameter_without_a_default_is_required() -> None:
    _, (error,) = filled(declared_parameters({"parameters": {"user": {"type": "string"}}}), {}, "p")
    assert (error.path, error.code) == ("p.user", Code.REQUIRED)


def test_app_without_declared_parameters_accepts_any() -> None:
    assert filled(declared_parameters({"name": "shop"}), {"anything": [1]}, "p") == ({"anything": [1]}, [])

"""What an app's manifest may say, and which values its parameters take."""

from __future__ import annotations

from typing import Any

import pytest

from loadgen.apps.errors import AppInvalid
from loadgen.apps.manifest import declared_parameters, read_manifest
from loadgen.apps.parameters import filled


def faults_of(text: str) -> list[str]:
    with pytest.raises(AppInvalid) as caught:
        read_manifest(text.encode(errors="surrogatepass"))
    return list(map(str, caught.value.faults))


def test_a_manifest_is_read_and_its_unknown_keys_are_kept() -> None:
    manifest = read_manifest(b"name: shop\nversion: 1.5\ndescription: buys\nshared: true\nkind: [a, 1]\n")
    assert (manifest.name, manifest.version, manifest.description, manifest.shared) == ("shop", "1.5", "buys", True)
    assert manifest.parameters is None
    assert manifest.content["kind"] == ["a", 1]


def test_a_local_app_is_named_by_its_folder_when_its_manifest_does_not() -> None:
    assert read_manifest(b"", "folder").name == "folder"
    assert read_manifest(b"name: other", "folder").name == "other"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "manifest.yml: name: is missing"),
        ("version: 1", "manifest.yml: name: is missing"),
        ("name: ../shop", "manifest.yml: name: letters, digits"),
        ("name: 5", "manifest.yml: name: letters, digits"),
        (f"name: {'n' * 64}", "at most 63"),
        ("- name: shop", "manifest.yml: must hold a mapping, not a list"),
        ("name: [", "this is no YAML"),
        ("name: a\nname: b", "the key 'name' is there twice"),
        ("name: &a shop\nx: *a", "anchors and aliases"),
        ("name: shop\nx: !!python/name:os.system ''", "the tag"),
        (f"name: shop\nx: {'y' * 70_000}", "at most 65536 are accepted"),
        ("name: shop\nshared: yes", "manifest.yml: shared: true or false is needed, not 'yes'"),
        ("name: shop\nversion: [1]", "manifest.yml: version: a text of at most 100 characters"),
        (f"name: shop\ndescription: {'y' * 4001}", "manifest.yml: description: a text of at most 4000 characters"),
        ("name: shop\nparameters: [size]", "manifest.yml: parameters: a mapping of names is needed"),
        ("name: shop\nparameters: {size: {typ: integer}}", "parameters.size.typ: unknown key; known here: type"),
        ("name: shop\nparameters: {size: {type: int}}", "parameters.size.type: one of string, integer"),
        ("name: shop\nparameters: {size: {minimum: 1}}", "parameters.size.minimum: needs type: integer"),
        (
            "name: shop\nparameters: {size: {type: integer, maximum: big}}",
            "parameters.size.maximum: a number is needed",
        ),
        (
            "name: shop\nparameters: {size: {type: integer, default: 1.5}}",
            "parameters.size.default: an integer is needed",
        ),
        ("name: shop\nparameters: {size: {enum: 5}}", "parameters.size.enum: a list of values"),
        ('name: shop\nx: "\\0"', "has a NUL or half a character in it"),
        ("name: shop\nx: .nan", "no finite number"),
        (f"name: shop\nx: {'9' * 30}", "more than 64 bits"),
    ],
)
def test_a_bad_manifest_is_refused_with_the_field_and_the_reason(text: str, fault: str) -> None:
    assert any(fault in found for found in faults_of(text)), faults_of(text)


def test_every_fault_is_named_at_once() -> None:
    assert len(faults_of("name: a/b\nshared: 1\nversion: {}\nparameters: {a: {type: x}, b: {kind: y}}")) == 5


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


def fill(**given: Any) -> tuple[dict[str, Any], list[str]]:
    values, faults = filled(declared_parameters({"parameters": DECLARED}), {"user": "u", "any": 1, **given}, "p")
    return values, list(map(str, faults))


def test_defaults_stand_for_what_is_not_given() -> None:
    values, faults = fill(size=8, rate=1)
    assert faults == []
    assert values == {
        "size": 8, "rate": 1, "colour": "red", "user": "u", "proxy": None, "tags": [], "short": 10, "flag": False,
        "any": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"size": "big"}, "p.size: an integer is needed, not 'big'"),
        ({"size": True}, "p.size: an integer is needed, not true"),
        ({"size": 1.5}, "p.size: an integer is needed, not 1.5"),
        ({"size": 0}, "p.size: must be at least 1, not 0"),
        ({"size": 513}, "p.size: must be at most 512, not 513"),
        ({"rate": float("nan")}, "p.rate: a finite number is needed, not nan"),
        ({"colour": "blue"}, "p.colour: one of 'red', 'green' is needed, not 'blue'"),
        ({"user": None}, "p.user: a string is needed, not nothing"),
        ({"tags": {}}, "p.tags: an array is needed, not an object"),
        ({"short": "ten"}, "p.short: a number is needed, not 'ten'"),
        ({"flag": 1}, "p.flag: a boolean is needed, not 1"),
        ({"sise": 3}, "p.sise: the client app has no such parameter; did you mean 'size'?"),
    ],
)
def test_a_wrong_value_is_named(given: dict[str, Any], fault: str) -> None:
    assert fill(**given)[1] == [fault]


def test_a_parameter_without_a_default_has_to_be_given() -> None:
    _, faults = filled(declared_parameters({"parameters": {"user": {"type": "string"}}}), {}, "p")
    assert list(map(str, faults)) == ["p.user: is missing, and the client app has no default for it"]


def test_an_app_that_declares_no_parameters_takes_any() -> None:
    assert filled(declared_parameters({"name": "shop"}), {"anything": [1]}, "p") == ({"anything": [1]}, [])

"""A routing record has the original's text, and its rules find every error at once."""

import dataclasses
import math
import subprocess
import sys
from fractions import Fraction

import pytest

from routing.errors import InvalidInput
from routing.table import RoutingRecord, find_errors, format_weight


def validate(service, hosts, weights):
    return [(error.path, error.code) for error in find_errors(service, hosts, weights)]


def test_the_repr_of_a_record_is_the_originals():
    record = RoutingRecord("myservice", ["host1:8080", "host2:8080"], [1, 2], 7)
    assert repr(record) == "RoutingRecord(service='myservice', hosts=['host1:8080', 'host2:8080'], weights=[1, 2])"


def test_whole_weights_are_written_without_a_point():
    assert repr(RoutingRecord("s", ["a", "b"], [2.0, 0.25])).endswith("weights=[2, 0.25])")
    assert [format_weight(weight) for weight in (1, 2.0, 0.1, 1.5, Fraction(1, 4))] == ["1", "2", "0.1", "1.5", "0.25"]


def test_a_record_is_immutable():
    hosts = ["a"]
    record = RoutingRecord("s", hosts, [1])
    hosts.append("b")
    assert record.hosts == ("a",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.version = 2


def test_a_record_gives_the_balancer_its_weights():
    assert RoutingRecord("s", ["a", "b"], [1, 2]).weight_by_host() == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "host",
    [
        "host",
        "host1:8080",
        "my_host.example.org:1",
        "example.org.",
        "10.0.0.1",
        "127.0.0.1:65535",
        "[::1]",
        "[2001:db8::1]:8080",
        "xn--bcher-kva.example:80",
    ],
)
def test_a_host_with_or_without_a_port_is_valid(host):
    assert validate("s", [host], [1]) == []


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("", "required"),
        (None, "type"),
        (8080, "type"),
        ("host:0", "format"),
        ("host:65536", "format"),
        ("host:", "format"),
        ("host:http", "format"),
        ("host:+80", "format"),
        ("host:٨٠", "format"),
        (":80", "format"),
        ("ho st:80", "format"),
        ("host/path", "format"),
        ("user@host", "format"),
        ("-host", "format"),
        ("a..b", "format"),
        ("host\n", "format"),
        ("10.0.0.256", "format"),
        ("10.0.0", "format"),
        ("http://host:80", "format"),
        ("::1", "format"),
        ("2001:db8::1:8080", "format"),
        ("[::1", "format"),
        ("[10.0.0.1]:80", "format"),
        ("[fe80::1%eth0]:80", "format"),
        ("[::1]80", "format"),
        ("[::1]:99999", "format"),
        ("h" * 192, "range"),
    ],
)
def test_an_invalid_host_is_named_by_its_index(host, code):
    assert validate("s", ["fine:80", host], [1, 1]) == [("hosts[1]", code)]


@pytest.mark.parametrize(
    ("weight", "code"),
    [
        (-1, "range"),
        (-0.5, "range"),
        (-(10**400), "range"),
        (math.nan, "range"),
        (math.inf, "range"),
        ("1", "type"),
        (None, "type"),
        (True, "type"),
        (10**400, "range"),
        (Fraction(10**400, 3), "range"),
        (2**53 + 1, "range"),
    ],
)
def test_an_invalid_weight_is_named_by_its_index(weight, code):
    assert validate("s", ["a", "b"], [1, weight]) == [("weights[1]", code)]


@pytest.mark.parametrize(
    ("service", "hosts", "weights", "error"),
    [
        ("", ["a"], [1], ("service", "required")),
        (None, ["a"], [1], ("service", "required")),
        (3, ["a"], [1], ("service", "type")),
        ("a b", ["a"], [1], ("service", "format")),
        ("a/b", ["a"], [1], ("service", "format")),
        ("é", ["a"], [1], ("service", "format")),
        ("s" * 192, ["a"], [1], ("service", "range")),
        ("s", "host", [1], ("hosts", "type")),
        ("s", None, [1], ("hosts", "type")),
        ("s", ["a"], 1, ("weights", "type")),
        ("s", ["a"], [1, 2], ("weights", "conflict")),
        ("s", ["a", "b"], [0, 0.0], ("weights", "range")),
        ("s", ["a:80", "b:80", "A:80"], [1, 1, 1], ("hosts[2]", "duplicate")),
    ],
)
def test_an_error_of_a_whole_field_names_the_field(service, hosts, weights, error):
    assert validate(service, hosts, weights) == [error]


def test_an_empty_record_needs_hosts_and_weights():
    assert validate("s", [], []) == [("hosts", "required"), ("weights", "required")]


def test_all_errors_are_found_at_once():
    assert validate("", ["a:0", "b", "b"], [-1, math.nan]) == [
        ("service", "required"),
        ("hosts[0]", "format"),
        ("hosts[2]", "duplicate"),
        ("weights[0]", "range"),
        ("weights[1]", "range"),
        ("weights", "conflict"),
    ]


def test_the_text_of_invalid_input_has_a_line_for_each_error():
    invalid = InvalidInput(find_errors("s", ["a:0"], ["x"]))
    assert [line.split(": ")[0] for line in invalid.text.splitlines()] == ["hosts[0]", "weights[0]"]
    assert str(invalid) == "; ".join(invalid.text.splitlines())


def test_the_workers_modules_import_without_django():
    code = (
        "import sys, routing.routers, routing.table, routing.redis.table\n"
        "sys.exit(any(name.split('.')[0] == 'django' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

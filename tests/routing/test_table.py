"""A routing record reads as the original's did, and its rules name every error at once."""

import dataclasses
import math
import subprocess
import sys
from fractions import Fraction

import pytest

from routing.table import RoutingInvalid, RoutingRecord, find_errors, format_weight


def validate(service, hosts, weights):
    return [str(error) for error in find_errors(service, hosts, weights)]


def test_the_text_of_a_record_is_the_originals():
    record = RoutingRecord("myservice", ["host1:8080", "host2:8080"], [1, 2], 7)
    assert repr(record) == "RoutingRecord(service='myservice', hosts=['host1:8080', 'host2:8080'], weights=[1, 2])"


def test_whole_numbers_lose_their_point_and_others_keep_their_decimals():
    assert repr(RoutingRecord("s", ["a", "b"], [2.0, 0.25])).endswith("weights=[2, 0.25])")
    assert [format_weight(weight) for weight in (1, 2.0, 0.1, 1.5, Fraction(1, 4))] == ["1", "2", "0.1", "1.5", "0.25"]


def test_a_record_cannot_change():
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
    ("host", "reason"),
    [
        ("", "must be a text"),
        (None, "must be a text"),
        (8080, "must be a text"),
        ("host:0", "port from 1 to 65535"),
        ("host:65536", "port from 1 to 65535"),
        ("host:", "port from 1 to 65535"),
        ("host:http", "port from 1 to 65535"),
        ("host:+80", "port from 1 to 65535"),
        ("host:٨٠", "port from 1 to 65535"),
        (":80", "host name or an IP address"),
        ("ho st:80", "host name or an IP address"),
        ("host/path", "host name or an IP address"),
        ("user@host", "host name or an IP address"),
        ("-host", "host name or an IP address"),
        ("a..b", "host name or an IP address"),
        ("host\n", "host name or an IP address"),
        ("10.0.0.256", "host name or an IP address"),
        ("10.0.0", "host name or an IP address"),
        ("http://host:80", "without http://"),
        ("::1", "needs brackets"),
        ("2001:db8::1:8080", "needs brackets"),
        ("[::1", "IPv6 address in its brackets"),
        ("[10.0.0.1]:80", "IPv6 address in its brackets"),
        ("[fe80::1%eth0]:80", "IPv6 address in its brackets"),
        ("[::1]80", "nothing but :port"),
        ("[::1]:99999", "port from 1 to 65535"),
        ("h" * 192, "at most 191 characters"),
    ],
)
def test_a_host_that_makes_no_sense_is_named_with_its_index_and_reason(host, reason):
    (error,) = validate("s", ["fine:80", host], [1, 1])
    assert error.startswith("hosts[1]: ")
    assert reason in error


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (-1, "negative"),
        (-0.5, "negative"),
        (math.nan, "finite"),
        (math.inf, "finite"),
        ("1", "number"),
        (None, "number"),
        (True, "number"),
        (10**400, "64-bit float"),
        (2**53 + 1, "at most"),
    ],
)
def test_a_weight_that_makes_no_sense_is_named_with_its_index_and_reason(weight, reason):
    (error,) = validate("s", ["a", "b"], [1, weight])
    assert error.startswith("weights[1]: ")
    assert reason in error


@pytest.mark.parametrize(
    ("service", "hosts", "weights", "field"),
    [
        ("", ["a"], [1], "service: "),
        (None, ["a"], [1], "service: "),
        ("a b", ["a"], [1], "service: "),
        ("a/b", ["a"], [1], "service: "),
        ("é", ["a"], [1], "service: "),
        ("s" * 192, ["a"], [1], "service: "),
        ("s", "host", [1], "hosts: "),
        ("s", None, [1], "hosts: "),
        ("s", ["a"], 1, "weights: "),
        ("s", ["a"], [1, 2], "weights: "),
        ("s", ["a", "b"], [0, 0.0], "weights: "),
        ("s", ["a:80", "b:80", "A:80"], [1, 1, 1], "hosts[2]: "),
    ],
)
def test_a_rule_that_concerns_a_whole_field_names_it(service, hosts, weights, field):
    (error,) = validate(service, hosts, weights)
    assert error.startswith(field)


def test_an_empty_record_lacks_hosts_and_weights():
    assert [error.split(":")[0] for error in validate("s", [], [])] == ["hosts", "weights"]


def test_all_errors_are_named_at_once():
    errors = validate("", ["a:0", "b", "b"], [-1, math.nan])
    assert [error.split(":")[0] for error in errors] == [
        "service",
        "hosts[0]",
        "hosts[2]",
        "weights[0]",
        "weights[1]",
        "weights",
    ]


def test_a_refusal_names_each_place_and_reads_as_all_reasons():
    invalid = RoutingInvalid(find_errors("s", ["a:0"], ["x"]))
    assert [error.place for error in invalid.field_errors] == ["hosts[0]", "weights[0]"]
    assert str(invalid) == "; ".join(invalid.errors)
    assert len(invalid.errors) == 2


def test_the_workers_modules_import_without_django():
    code = (
        "import sys, routing.routers, routing.table, routing.redis.table\n"
        "sys.exit(any(name.split('.')[0] == 'django' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0

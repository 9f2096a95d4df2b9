"""Routers by our names and the original's, and the target of a static router."""

import pytest

from routing.routers import ROUTER_NAMES, ROUTERS, StaticHost, parse_static_host, reads_table, router_of


@pytest.mark.parametrize(
    ("name", "router"),
    [
        ("SymmetryHostRouter", "host"),
        ("CachingSymmetryHostRouter", "host"),
        ("SymmetryServiceRouter", "service"),
        ("CachingSymmetryServiceRouter", "service"),
        ("StaticRouter", "static"),
        ("DebugRouter", "debug"),
        ("host", "host"),
        ("debug", "debug"),
    ],
)
def test_each_name_of_the_original_stands_for_a_router(name, router):
    assert name in ROUTER_NAMES
    assert router_of(name) == router
    assert router in ROUTERS


def test_only_the_routers_of_hosts_and_services_read_the_table():
    assert [router for router in ROUTERS if reads_table(router)] == ["host", "service"]


@pytest.mark.parametrize(
    ("text", "root", "host"),
    [
        ("http://localhost", "http://localhost", "localhost"),
        ("pi:8080", "http://pi:8080", "pi:8080"),
        ("https://pi/", "https://pi", "pi"),
        ("http://pi:8080/a/b/", "http://pi:8080/a/b", "pi:8080"),
        ("[::1]:80", "http://[::1]:80", "[::1]:80"),
    ],
)
def test_a_static_host_is_a_host_or_a_url(text, root, host):
    assert parse_static_host(text) == StaticHost(root, host)


def test_the_scheme_of_a_url_wins_over_the_workloads():
    assert parse_static_host("pi:8080", "https").root == "https://pi:8080"
    assert parse_static_host("http://pi:8080", "https").root == "http://pi:8080"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be host"),
        ("ftp://pi", "must be host"),
        ("http://", "must be host"),
        ("http://pi?x=1", "must be host"),
        ("http://user@pi", "must be host"),
        ("http://pi:0", "port from 1 to 65535"),
        ("http://pi/a b", "without spaces"),
        ("http://[::1", "must be a URL"),
        ("::1", "needs brackets"),
        ("two words", "host name"),
    ],
)
def test_an_invalid_static_host_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_static_host(text)

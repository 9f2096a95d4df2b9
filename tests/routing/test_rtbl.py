"""`rtbl`, as a user of the shell types it."""

import inspect

import pytest

from experiments.shell.rtbl import ServiceRoutingTable
from routing import selectors
from routing.errors import InvalidInput, NotFound
from routing.table import RoutingRecord

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("client")]

EMPTY = """\
+---------------------------+----------------------+-----------+
| Service                   |                Hosts |   Weights |
+---------------------------+----------------------+-----------+"""
ONE = f"""\
{EMPTY}
| myservice                 |           host1:8080 |       1.0 |
|                           |           host2:8080 |       2.0 |
+---------------------------+----------------------+-----------+"""


@pytest.fixture
def rtbl():
    return ServiceRoutingTable()


def test_a_record_that_was_set_is_shown_as_the_original_shows_it(rtbl, redis_table):
    record = rtbl.set("myservice", ["host1:8080", "host2:8080"], [1, 2])
    assert repr(record) == "RoutingRecord(service='myservice', hosts=['host1:8080', 'host2:8080'], weights=[1, 2])"
    assert repr(rtbl) == ONE
    assert redis_table.read("myservice") == record
    assert [revision.changed_by for revision in selectors.revisions(["myservice"])] == ["shell"]


def test_an_empty_table_is_its_titles(rtbl):
    assert repr(rtbl) == EMPTY


def test_columns_grow_with_their_content(rtbl, capsys):
    rtbl.set("a", ["x"], [0.25])
    rtbl.set("a-service-with-a-name-of-35-letters", ["a-host.of-some-domain.example:8080"], [1234567.125])
    rtbl.print()
    assert (
        capsys.readouterr().out
        == """\
+-------------------------------------+------------------------------------+-------------+
| Service                             |                              Hosts |     Weights |
+-------------------------------------+------------------------------------+-------------+
| a                                   |                                  x |        0.25 |
+-------------------------------------+------------------------------------+-------------+
| a-service-with-a-name-of-35-letters | a-host.of-some-domain.example:8080 | 1234567.125 |
+-------------------------------------+------------------------------------+-------------+
"""
    )


def test_records_are_read_one_by_one_or_all_together(rtbl):
    assert rtbl.record("s") is None
    assert rtbl.records() == []
    second, first = rtbl.set("t", ["a"]), rtbl.set("s", ["a", "b"])
    assert first == RoutingRecord("s", ["a", "b"], [1, 1], 1)
    assert rtbl.record("s") == first
    assert rtbl.records() == [first, second]


def test_changes_can_be_chained(rtbl):
    assert rtbl.append("s", "a").append("s", "b", 0.5).update_weights("s", [3, 4]) is rtbl
    assert rtbl.record("s") == RoutingRecord("s", ["a", "b"], [3, 4], 3)
    assert rtbl.remove("s") is rtbl
    assert rtbl.remove("s").records() == []
    rtbl.append("s", "a").append("t", "a")
    assert rtbl.clear().records() == []


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        (lambda rtbl: rtbl.set("s", ["a"], [1, 2]), "weights"),
        (lambda rtbl: rtbl.set("s", "host:80"), "hosts"),
        (lambda rtbl: rtbl.set("s", ["http://a"]), "hosts[0]"),
        (lambda rtbl: rtbl.set("s", ["a"], [float("nan")]), "weights[0]"),
        (lambda rtbl: rtbl.set("s", ["a"], [-1]), "weights[0]"),
        (lambda rtbl: rtbl.set("s", ["a"], [0]), "weights"),
        (lambda rtbl: rtbl.set("my service", ["a"]), "service"),
        (lambda rtbl: rtbl.append("there", "a:80"), "hosts[1]"),
        (lambda rtbl: rtbl.update_weights("there", [1, 2]), "weights"),
    ],
)
def test_an_invalid_record_is_refused_and_changes_nothing(rtbl, wrong, path):
    before = rtbl.set("there", ["a:80"])
    with pytest.raises(InvalidInput) as refused:
        wrong(rtbl)
    assert [error.path for error in refused.value.errors] == [path]
    assert rtbl.records() == [before]


def test_weights_without_a_record_are_a_value_error(rtbl):
    with pytest.raises(ValueError, match="'s'") as refused:
        rtbl.update_weights("s", [1])
    assert isinstance(refused.value, NotFound)


def test_each_method_has_a_docstring():
    methods = [name for name in vars(ServiceRoutingTable) if not name.startswith("_")]
    assert methods == ["record", "records", "set", "update_weights", "append", "remove", "clear", "print"]
    assert all(inspect.getdoc(getattr(ServiceRoutingTable, name)) for name in methods)

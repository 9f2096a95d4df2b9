"""Invalid calls in the shell raise an exception that names the argument, and change nothing."""

from __future__ import annotations

import pydoc
from collections.abc import Callable
from typing import Any

import pytest
import redis

from experiments.models import ClientGroup as Row
from experiments.models import Experiment
from experiments.plans import PlanInvalid, parse_group
from experiments.services import groups
from experiments.services.placement import NoFreeSlot
from experiments.services.workers import NoMatchingWorkers
from experiments.shell import exp, g, rtbl, show, telemd, usage
from experiments.shell.client_group import ClientGroup
from experiments.shell.errors import WITHOUT_TRACEBACK, NoExperiment, ShellError
from loadgen.protocol.enums import ShardState
from routing.errors import InvalidInput, NotFound
from tests.support.fleet import Fleet

pytestmark = pytest.mark.django_db(transaction=True)

NAN, ENDLESS = float("nan"), float("inf")
# Word for word.
USAGE = """\
the galileo shell is an interactive python shell that provides the following commands

Commands:
  usage         show this message
  env           show environment variables
  pwd           show the current working directory

Functions:
  sleep         time.sleep wrapper

Objects:
  g             Galileo object that allows you to interact with the system
  show          Prints runtime information about the system to system out
  exp           Galileo experiment
  rtbl          Service routing table
  telemd        Telemd object to pause, unpause and list registered telemd daemons

Type help(<function>) or help(<object>) to learn how to use the functions.
"""


@pytest.fixture
def c(fleet: Fleet) -> ClientGroup:
    fleet.join("pi-1")
    group = groups.spawn(parse_group({"service": "s", "num": 2}), "tester")
    fleet.say(ShardState.READY)
    groups.follow(group.id)
    return ClientGroup([group.id])


OF_A_GROUP: dict[str, tuple[Callable[[ClientGroup], Any], str]] = {
    "rps('x')": (lambda c: c.rps("x"), "rps"),
    "rps(None)": (lambda c: c.rps(None), "rps"),
    "rps(True)": (lambda c: c.rps(True), "rps"),
    "rps(nan)": (lambda c: c.rps(NAN), "rps"),
    "rps(inf)": (lambda c: c.rps(ENDLESS), "rps"),
    "rps(-1)": (lambda c: c.rps(-1), "rps"),
    "rps(1e9)": (lambda c: c.rps(1e9), "rps"),
    "rps([1])": (lambda c: c.rps([1]), "rps"),
    "request()": (lambda c: c.request(), "n"),
    "request('x')": (lambda c: c.request("x"), "n"),
    "request(0)": (lambda c: c.request(0), "n"),
    "request(1.5)": (lambda c: c.request(1.5), "n"),
    "ia nan": (lambda c: c.request(1, NAN), "ia"),
    "ia -1": (lambda c: c.request(1, -1), "ia"),
    "ia True": (lambda c: c.request(1, True), "ia"),
    "ia ()": (lambda c: c.request(1, ()), "ia"),
    "ia object": (lambda c: c.request(1, object()), "ia"),
    "ia words": (lambda c: c.request(1, ("uniform", "a", 2)), "ia[1]"),
    "ia many": (lambda c: c.request(1, ("expovariate", 1, 2)), "ia"),
    "ia file": (lambda c: c.request(1, ("prerecorded", "nowhere.csv")), "ia"),
    "ia list": (lambda c: c.request(1, ("prerecorded",)), "ia"),
    "add(0)": (lambda c: c.add(0), "add"),
    "add('x')": (lambda c: c.add("x"), "add"),
    "add(None)": (lambda c: c.add(None), "add"),
    "add(1.0)": (lambda c: c.add(1.0), "add"),
    "close(-1)": (lambda c: c.close(-1), "close"),
    "close(0)": (lambda c: c.close(0), "close"),
    "close('x')": (lambda c: c.close("x"), "close"),
    "ready nan": (lambda c: c.wait_until_ready(NAN), "timeout"),
    "ready 'x'": (lambda c: c.wait_until_ready("x"), "timeout"),
}  # fmt: skip


@pytest.mark.parametrize("what", OF_A_GROUP)
def test_an_invalid_command_changes_nothing(c: ClientGroup, what: str) -> None:
    do, path = OF_A_GROUP[what]
    before = list(Row.objects.values())
    with pytest.raises((InvalidInput, PlanInvalid)) as refused:
        do(c)
    assert [error.path for error in refused.value.errors] == [path]
    assert "\n" not in str(refused.value)
    assert list(Row.objects.values()) == before


def test_an_error_in_one_of_two_groups_commands_neither(c: ClientGroup, fleet: Fleet, broker: redis.Redis) -> None:
    other = groups.spawn(parse_group({"service": "s"}), "tester")
    fleet.say(ShardState.READY)
    groups.follow(other.id)
    for index in range(2):
        broker.lpush(f"{c.ids[0]}.{index}", "1")
    before = list(Row.objects.values())
    with pytest.raises((InvalidInput, PlanInvalid), match=rf"^ia: .*'{other.id}\.0'"):
        (c + ClientGroup([other.id])).request(ia=("prerecorded",))
    assert list(Row.objects.values()) == before


OF_G: dict[str, tuple[Callable[[], Any], str]] = {
    "spawn('')": (lambda: g.spawn(""), "service"),
    "spawn(None)": (lambda: g.spawn(None), "service"),
    "spawn(3)": (lambda: g.spawn(3), "service"),
    "num 0": (lambda: g.spawn("s", 0), "num"),
    "num 'x'": (lambda: g.spawn("s", "x"), "num"),
    "num 1.5": (lambda: g.spawn("s", 1.5), "num"),
    "client ''": (lambda: g.spawn("s", client=""), "client"),
    "client 3": (lambda: g.spawn("s", client=3), "client"),
    "parameters 3": (lambda: g.spawn("s", parameters=3), "client_parameters"),
    "labels": (lambda: g.spawn("s", worker_labels="zone=A"), "worker_labels"),
    "workload": (lambda: g.spawn("s", ticks=[1]), "ticks"),
    "ping": (lambda: g.ping("soon"), "timeout"),
    "telemd": (lambda: telemd.stop_telemd(3), "hosts"),
    "telemd list": (lambda: telemd.start_telemd(["pi-1", None]), "hosts"),
    "start": (lambda: exp.start(3), "name"),
    "creator": (lambda: exp.start("x", creator=3), "creator"),
    "metadata": (lambda: exp.start("x", metadata="y"), "metadata"),
    "event": (lambda: exp.event(""), "name"),
    "event None": (lambda: exp.event(None), "name"),
    "value": (lambda: exp.event("mark", 0), "value"),
}  # fmt: skip


@pytest.mark.parametrize("what", OF_G)
def test_an_invalid_argument_is_named(fleet: Fleet, what: str) -> None:
    fleet.join("pi-1")
    do, path = OF_G[what]
    with pytest.raises((InvalidInput, PlanInvalid)) as refused:
        do()
    assert [error.path for error in refused.value.errors] == [path]
    assert not Row.objects.exists()
    assert not Experiment.objects.exists()


@pytest.mark.parametrize(
    "do",
    [
        lambda: rtbl.set("s", "host:80"),
        lambda: rtbl.set("s", None),
        lambda: rtbl.set("s", ["a", "b"], [1]),
        lambda: rtbl.set("s", ["a"], [NAN]),
        lambda: rtbl.set("s", ["a"], [0]),
        lambda: rtbl.set("s", ["a"], 3),
        lambda: rtbl.set("s", ["a b"]),
        lambda: rtbl.set("", ["a"]),
        lambda: rtbl.set(None, ["a"]),
        lambda: rtbl.append("s", None),
        lambda: rtbl.append("s", "a", "much"),
        lambda: rtbl.update_weights("nothere", [1]),
    ],
)
def test_an_invalid_routing_record_is_refused(broker: redis.Redis, do: Callable[[], Any]) -> None:
    with pytest.raises((InvalidInput, NotFound)) as refused:
        do()
    assert len(str(refused.value)) > 20
    assert rtbl.records() == []


def test_a_missing_worker_or_slot_leaves_no_group(fleet: Fleet) -> None:
    with pytest.raises(NoMatchingWorkers):
        g.spawn("s")
    fleet.join("pi-1", slots=1)
    with pytest.raises(NoMatchingWorkers, match="galileo_zone=Z"):
        g.spawn("s", worker_labels={"zone": "Z"})
    groups.spawn(parse_group({"service": "s"}), "tester")
    with pytest.raises(NoFreeSlot):
        g.spawn("s")
    assert Row.objects.count() == 1


def test_a_missing_group_or_experiment_is_named(fleet: Fleet) -> None:
    for wrong in ("g-nothere", 3, None, ["g-nothere"]):
        with pytest.raises(ShellError, match=r"client group .* does not exist"):
            g.clients(wrong)
    with pytest.raises(NoExperiment):
        exp.stop()
    with pytest.raises(NoExperiment):
        exp.event("mark")
    assert issubclass(NoExperiment, WITHOUT_TRACEBACK)


def test_usage_tables_and_help_show_the_shell(c: ClientGroup, capsys: pytest.CaptureFixture[str]) -> None:
    assert repr(usage) == USAGE.rstrip("\n")
    usage()
    assert capsys.readouterr().out == USAGE
    assert repr(c) == f"ClientGroup({c.ids[0]}: s, 2 clients sending nothing)"
    c.rps(2.5)
    assert repr(c) == f"ClientGroup({c.ids[0]}: s, 2 clients sending 2.5 requests/s each)"
    for print_table, expected in {
        show.workers: "pi-1", show.clients: f"{c.ids[0]}.1", show.info: "2.5 requests/s each",
    }.items():  # fmt: skip
        print_table()
        assert expected in capsys.readouterr().out
    show.info(parameters=True)
    assert "GET /" in capsys.readouterr().out
    c.close()
    assert repr(c) == f"ClientGroup({c.ids[0]}: s, closed)"
    assert (len(c), len(c.info())) == (0, 2)
    text = pydoc.plain(pydoc.render_doc(g.spawn))
    for word in ("service", "num", "client", "parameters", "worker_labels", "c.rps(10)", "Raises"):
        assert word in text

"""What is wrong in the shell is an exception with a sentence that names the argument, and changes nothing."""

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
from experiments.services.placement import NoFreeSlot, NoMatchingWorkers
from experiments.shell import exp, g, rtbl, show, telemd, usage
from experiments.shell.client_group import ClientGroup
from experiments.shell.errors import SENTENCES, NoExperiment, ShellError
from loadgen.protocol import messages
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
    fleet.say(messages.READY)
    groups.follow(group.id)
    return ClientGroup([group.id])


OF_A_GROUP: dict[str, tuple[Callable[[ClientGroup], Any], str]] = {
    "rps('x')": (lambda c: c.rps("x"), "rps: a number is needed, not 'x'"),
    "rps(None)": (lambda c: c.rps(None), "rps: a number is needed, not nothing"),
    "rps(True)": (lambda c: c.rps(True), "rps: a number is needed, not true"),
    "rps(nan)": (lambda c: c.rps(NAN), "rps: a finite number is needed, not nan"),
    "rps(inf)": (lambda c: c.rps(ENDLESS), "rps: a finite number is needed, not inf"),
    "rps(-1)": (lambda c: c.rps(-1), "rps: must not be negative: -1"),
    "rps(1e9)": (lambda c: c.rps(1e9), "rps: must be at most 1,000,000"),
    "rps([1])": (lambda c: c.rps([1]), "rps: a number is needed, not a list"),
    "request()": (lambda c: c.request(), "n: one of n"),
    "request('x')": (lambda c: c.request("x"), "n: a whole number from 1 to 100000000 is needed, not 'x'"),
    "request(0)": (lambda c: c.request(0), "n: must be from 1 to"),
    "request(1.5)": (lambda c: c.request(1.5), "n: a whole number from 1"),
    "ia nan": (lambda c: c.request(1, NAN), "ia: one of constant"),
    "ia -1": (lambda c: c.request(1, -1), "ia: must not be negative"),
    "ia True": (lambda c: c.request(1, True), "ia: one of constant"),
    "ia ()": (lambda c: c.request(1, ()), "ia: one of constant"),
    "ia object": (lambda c: c.request(1, object()), "ia: one of constant"),
    "ia words": (lambda c: c.request(1, ("uniform", "a", 2)), "ia[1]: a number is needed, not 'a'"),
    "ia many": (lambda c: c.request(1, ("expovariate", 1, 2)), "ia: expovariate takes lambd, not 2 parameters"),
    "ia file": (lambda c: c.request(1, ("prerecorded", "nowhere.csv")), "ia: /"),
    "ia list": (lambda c: c.request(1, ("prerecorded",)), "ia: there is no list "),
    "add(0)": (lambda c: c.add(0), "add: must be from 1 to"),
    "add('x')": (lambda c: c.add("x"), "add: a whole number from 1 to"),
    "add(None)": (lambda c: c.add(None), "add: "),
    "add(1.0)": (lambda c: c.add(1.0), "add: a whole number from 1 to"),
    "close(-1)": (lambda c: c.close(-1), "close: must be from 1 to"),
    "close(0)": (lambda c: c.close(0), "close: must be from 1 to"),
    "close('x')": (lambda c: c.close("x"), "close: a whole number from 1 to"),
    "ready nan": (lambda c: c.wait_until_ready(NAN), "timeout: a finite number is needed, not nan"),
    "ready 'x'": (lambda c: c.wait_until_ready("x"), "timeout: a number is needed, not 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("what", OF_A_GROUP)
def test_a_wrong_command_changes_nothing(c: ClientGroup, what: str) -> None:
    do, message = OF_A_GROUP[what]
    before = list(Row.objects.values())
    with pytest.raises(PlanInvalid) as refused:
        do(c)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert list(Row.objects.values()) == before


def test_what_is_wrong_for_one_of_two_groups_is_commanded_to_neither(
    c: ClientGroup, fleet: Fleet, broker: redis.Redis
) -> None:
    other = groups.spawn(parse_group({"service": "s"}), "tester")
    fleet.say(messages.READY)
    groups.follow(other.id)
    for index in range(2):
        broker.lpush(f"{c.ids[0]}.{index}", "1")
    before = list(Row.objects.values())
    with pytest.raises(PlanInvalid, match=rf"ia: there is no list '{other.id}\.0' in Redis, or it is empty"):
        (c + ClientGroup([other.id])).request(ia=("prerecorded",))
    assert list(Row.objects.values()) == before


OF_G: dict[str, tuple[Callable[[], Any], str]] = {
    "spawn('')": (lambda: g.spawn(""), "service: "),
    "spawn(None)": (lambda: g.spawn(None), "service: is missing"),
    "spawn(3)": (lambda: g.spawn(3), "service: "),
    "num 0": (lambda: g.spawn("s", 0), "num: must be from 1 to"),
    "num 'x'": (lambda: g.spawn("s", "x"), "num: a whole number"),
    "num 1.5": (lambda: g.spawn("s", 1.5), "num: a whole number"),
    "client ''": (lambda: g.spawn("s", client=""), "client: the name of a client app"),
    "client 3": (lambda: g.spawn("s", client=3), "client: the name of a client app"),
    "parameters 3": (lambda: g.spawn("s", parameters=3), "client_parameters: a mapping is needed, not 3"),
    "labels": (lambda: g.spawn("s", worker_labels="zone=A"), "worker_labels: a mapping of labels is needed"),
    "workload": (lambda: g.spawn("s", ticks=[1]), "ticks: unknown key"),
    "ping": (lambda: g.ping("soon"), "timeout: a number is needed, not 'soon'"),
    "telemd": (lambda: telemd.stop_telemd(3), "hosts: a list of names is needed, not 3"),
    "telemd list": (lambda: telemd.start_telemd(["pi-1", None]), "hosts: a list of names is needed, not nothing"),
    "start": (lambda: exp.start(3), "name: a text is needed, not 3"),
    "creator": (lambda: exp.start("x", creator=3), "creator: a text is needed, not 3"),
    "metadata": (lambda: exp.start("x", metadata="y"), "metadata: a mapping is needed, not 'y'"),
    "event": (lambda: exp.event(""), "name: must not be empty"),
    "event None": (lambda: exp.event(None), "name: is missing"),
    "value": (lambda: exp.event("mark", 0), "value: a text is needed, not 0"),
}  # fmt: skip


@pytest.mark.parametrize("what", OF_G)
def test_a_wrong_argument_of_the_others_is_named(fleet: Fleet, what: str) -> None:
    fleet.join("pi-1")
    do, message = OF_G[what]
    with pytest.raises(PlanInvalid) as refused:
        do()
    assert str(refused.value).startswith(message)
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
def test_a_wrong_record_is_refused_with_a_sentence(broker: redis.Redis, do: Callable[[], Any]) -> None:
    with pytest.raises((InvalidInput, NotFound)) as refused:
        do()
    assert len(str(refused.value)) > 20
    assert rtbl.records() == []


def test_nobody_to_run_clients_is_an_exception_that_leaves_no_group(fleet: Fleet) -> None:
    with pytest.raises(NoMatchingWorkers, match="no worker is running"):
        g.spawn("s")
    fleet.join("pi-1", slots=1)
    with pytest.raises(NoMatchingWorkers, match="no live worker carries the label galileo_zone=Z"):
        g.spawn("s", worker_labels={"zone": "Z"})
    groups.spawn(parse_group({"service": "s"}), "tester")
    with pytest.raises(NoFreeSlot):
        g.spawn("s")
    assert Row.objects.count() == 1


def test_what_is_not_there_is_named(fleet: Fleet) -> None:
    for wrong in ("g-nothere", 3, None, ["g-nothere"]):
        with pytest.raises(ShellError, match=r"there is no client group .*; open are none"):
            g.clients(wrong)
    with pytest.raises(NoExperiment, match=r"no experiment was started here; exp.start\(\) does"):
        exp.stop()
    with pytest.raises(NoExperiment):
        exp.event("mark")
    assert issubclass(NoExperiment, SENTENCES)


def test_the_shell_tells_what_it_offers(c: ClientGroup, capsys: pytest.CaptureFixture[str]) -> None:
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

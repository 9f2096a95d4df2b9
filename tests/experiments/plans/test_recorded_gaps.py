"""Recorded gaps that an interactive group's clients are commanded to go through: a list, a file, Redis lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from experiments.plans import PlanInvalid
from experiments.plans.commands import Readers, files_of, lists_of, parse_command
from loadgen.protocol.enums import CommandKind

FILES = {
    "gaps.csv": "gap,host\n0.5,a\n0.25,b\n\n1,c\n",
    "times.csv": "time\n1.75\n0.5\n0.75\n",
    "gaps.json": '{"gaps": [0.5, 0.25, 1]}',
    "times.json": '{"times": [0.5, 0.75, 1.75]}',
    "words.csv": "gap\n1\nsoon\n",
    "negative.json": '{"gaps": [1, -2]}',
    "endless.json": '{"gaps": [1, Infinity]}',
    "none.json": '{"gaps": []}',
    "long.json": json.dumps({"gaps": [0] * 50_001}),
    "other.csv": "seconds\n1\n",
}


@pytest.fixture
def readers(tmp_path: Path) -> Readers:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return Readers(files_of(tmp_path))


def recorded(*behind: Any, n: int | None = None) -> dict[str, Any]:
    return {"n": n, "ia": ("prerecorded", *behind)}


@pytest.mark.parametrize("name", ["gaps.csv", "times.csv", "gaps.json", "times.json"])
def test_file_of_gaps_or_times_serves_every_client(readers: Readers, tmp_path: Path, name: str) -> None:
    expected = {"kind": CommandKind.GAPS, "requests": 2, "distribution": "prerecorded", "recorded": {}}
    for path in (name, Path(name), str(tmp_path / name)):
        command = parse_command(recorded(path, n=2), readers)
        assert command == {**expected, "parameters": [0.5, 0.25, 1.0]}
    assert parse_command(recorded([0.5, 0.25, 1], n=2), readers) == {**expected, "parameters": [0.5, 0.25, 1.0]}


@pytest.mark.parametrize(
    ("behind", "message"),
    [
        ("nowhere.csv", "nowhere.csv cannot be read: No such file"),
        ("../", "cannot be read"),
        ("a\0b.csv", "cannot be read"),
        ("words.csv", "line 3: must be a number, got 'soon'"),
        ("negative.json", "ia.gaps[1]: must be at least 0, got -2"),
        ("endless.json", "ia.gaps[1]: must be a finite number, got inf"),
        ("none.json", "ia.gaps: must have from 1 to 50,000 numbers, got 0"),
        ("long.json", "ia.gaps: must have from 1 to 50,000 numbers, got 50,001"),
        ("other.csv", "the first line must name one column `time`"),
        (["0.1"], "ia.gaps[0]: must be a number, got '0.1'"),
    ],
)
def test_a_recording_that_is_none_is_refused_with_what_is_wrong(readers: Readers, behind: Any, message: str) -> None:
    with pytest.raises(PlanInvalid) as refused:
        parse_command(recorded(behind), readers)
    assert str(refused.value).count("ia") >= 1
    assert message in str(refused.value)


def test_each_client_reads_the_list_of_its_id(broker: redis.Redis) -> None:
    for key, gaps in {"g-1.0": ["0.5", "1"], "g-1.1": ["0"], "g-1.4": ["2.5", "1e-1", "3"]}.items():
        for gap in gaps:
            broker.lpush(key, gap)
    for ia in ("prerecorded", ("prerecorded",), ["prerecorded", "any word"], ("prerecorded", "monday")):
        command = parse_command({"ia": ia}, Readers(own_lists=lists_of(broker, "g-1", [0, 1, 4])))
        assert command["recorded"] == {"0": [0.5, 1.0], "1": [0.0], "4": [2.5, 0.1, 3.0]}
        assert command["parameters"] == []
    assert broker.lrange("g-1.0", 0, -1) == [b"1", b"0.5"]


@pytest.mark.parametrize(
    ("indexes", "message"),
    [
        ([0, 1], "ia: the list 'g-1.1' is missing in Redis, or empty"),
        ([2], "ia: the list 'g-1.2' has an item that is not a number"),
        ([3], "ia: the list 'g-1.3' has an item that is not a gap in seconds"),
        ([4], "ia: 'g-1.4' is not a list in Redis"),
        ([0, 5], "ia: the lists hold more than 50,000 gaps"),
        ([], "ia: client group g-1 has no clients yet"),
        (list(range(1001)), "ia: must have from 1 to 1,000 keys of Redis lists"),
    ],
)
def test_invalid_list_is_refused_with_the_clients_id(broker: redis.Redis, indexes: list[int], message: str) -> None:
    broker.set("g-1.4", "text")
    for key, gaps in {"g-1.0": ["1"], "g-1.2": ["1", "soon"], "g-1.3": ["nan"], "g-1.5": ["1"] * 50_000}.items():
        broker.lpush(key, *gaps)
    with pytest.raises(PlanInvalid) as refused:
        parse_command(recorded(), Readers(own_lists=lists_of(broker, "g-1", indexes)))
    assert str(refused.value).startswith(message)


def test_word_of_an_invalid_list_is_named_with_the_remedy(broker: redis.Redis) -> None:
    with pytest.raises(PlanInvalid) as refused:
        parse_command(recorded("monday"), Readers(own_lists=lists_of(broker, "g-1", [0])))
    assert str(refused.value) == (
        "ia: the list 'g-1.0' is missing in Redis, or empty (the word 'monday' is ignored; the name of a file must "
        "have a / or end in .csv or .json)"
    )


@pytest.mark.parametrize("name", ["monday.csv", "Monday.JSON", "./monday", "data/monday", Path("monday")])
def test_name_of_a_file_is_never_a_word(broker: redis.Redis, tmp_path: Path, name: Any) -> None:
    broker.lpush("g-1.0", "1")
    readers = Readers(files_of(tmp_path), lists_of(broker, "g-1", [0]))
    with pytest.raises(PlanInvalid, match=r"monday cannot be read|cannot be read: No such file"):
        parse_command(recorded(name), readers)
    with pytest.raises(PlanInvalid, match="a file cannot be read here"):
        parse_command(recorded(name), Readers(own_lists=readers.own_lists))


@pytest.mark.parametrize("behind", [("a", "b"), (5,), (None,), ({},)])
def test_anything_else_behind_prerecorded_is_refused(broker: redis.Redis, behind: tuple[Any, ...]) -> None:
    with pytest.raises(PlanInvalid, match="ia: prerecorded must be followed by"):
        parse_command(recorded(*behind), Readers(own_lists=lists_of(broker, "g-1", [0])))

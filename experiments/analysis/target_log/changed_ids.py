"""ChangedIds: why a log lacks the ids of an experiment: they were changed, replaced, or not logged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from experiments.analysis.target_log.logged_ids import IdFinder, lines_of
from loadgen.protocol.request_ids import TRACEPARENT, IdForm, id_begin

# A mark, a character that is neither letter nor digit, as logs may have it: itself, its code as in URLs, or nothing.
_MARK = r"(?:%[0-9A-F]{2}|[^0-9A-Za-z\s]{0,2})"
_SOME_MARK = r"(?:%[0-9A-F]{2}|[^0-9A-Za-z\s]{1,2})"
_NO_PART_BEFORE, _NO_PART_AFTER = r"(?<![\w.%-])", r"(?![\w.%-])"
# With fewer letters and digits, a name without its marks may be a part of any other text.
_DISTINCT = 8
# The least beginning of an id that is recognised. The first 12 characters, a minute, may also be the time of a line.
_LEAST_BEGIN = 14
# Ids that targets make: UUIDs, 32 hexadecimal digits, and other texts that the line calls an id.
_OWN_ID = re.compile(
    rb"(?<![\w-])(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32})(?![\w-])"
    rb"|(?:request|correlation|trace)[_-]?id\W{1,4}([\w+/=-]{16,})",
    re.IGNORECASE,
)
# The ids that Galileo draws for experiments, in the ids of their requests.
_FOREIGN_ID = re.compile(rb"(?<![\w.-])\d{12}-[0-9a-z]{4}(?:(?:\.\d+){3,4}|-\d+-\d{10,}-\d{10,}(?:-\d+)?)(?![\w-])")
_OWN_HEADER = "a header of its own, such as X-Galileo-Id, and make the target log that one"


class Change(StrEnum):
    """The ways in which ids change on their way into a log."""

    RESPELLED = "respelled"  # characters are missing, or were replaced
    CUT = "cut"  # only the beginning is there
    CONTINUED = "continued"  # the trace ids are there, with other span ids or none
    FOREIGN = "foreign"  # there are ids of other experiments
    REPLACED = "replaced"  # there are ids that the target makes
    ABSENT = "absent"  # there are none


@dataclass(frozen=True)
class ChangedIds:
    """The change that most lines show of one group's ids.

    Attributes:
        lines: those that show it; of ABSENT, all lines.
        found: an example from the log; "" of ABSENT.
        sent: the id of a request that is missing in the log.
        header: the one that carried it.
        form: of the ids that were sent.
    """

    change: Change
    lines: int
    found: str
    sent: str
    header: str
    form: IdForm

    @property
    def shows_the_group(self) -> bool:
        """Whether the lines hold ids of this very group, so that it is certain that they were changed."""
        return self.change in (Change.RESPELLED, Change.CUT, Change.CONTINUED)

    def sentence(self, service: str) -> str:
        if self.change == Change.ABSENT:
            return f"no id of service {service!r} is in the logs ({self.lines:,} lines): {self._advice()}"
        others = {Change.FOREIGN: "ids of other experiments", Change.REPLACED: "other ids"}
        if self.change in others:
            begin = f"no id of service {service!r} is in the logs, but {self.lines:,} lines hold {others[self.change]}"
        else:
            kind = {
                Change.RESPELLED: "in another spelling",
                Change.CUT: "without their end",
                Change.CONTINUED: "only as trace ids, with other span ids or without any",
            }[self.change]
            begin = f"ids of service {service!r} were changed: {self.lines:,} lines of the logs hold them {kind}"
        return f"{begin}, such as {self.found} (sent: {self.sent}): {self._advice()}"

    def to_dict(self, service: str) -> dict[str, Any]:
        return {
            "service": service,
            "change": self.change.value,
            "lines": self.lines,
            "found": self.found,
            "sent": self.sent,
            "sentence": self.sentence(service),
        }

    def _advice(self) -> str:
        """The targets that change ids in this way, and the remedy."""
        if self.change == Change.RESPELLED:
            remedy = f"set request_id_header of the plan to {self._other_headers()}"
            if self.form != IdForm.DOTTED:
                return f"the target removes or replaces characters: {remedy}"
            return (
                "the target removes or replaces characters, as Ruby on Rails does, which keeps letters, digits, _, - "
                f"and @ of its request ids: run the plan again, as the ids of new experiments have no dots, or {remedy}"
            )
        if self.change == Change.CUT:
            return (
                "the target cuts ids (Ruby on Rails after 255 characters, some log formats sooner): make it log the "
                "whole header"
            )
        if self.change == Change.CONTINUED:
            return (
                "a proxy or a tracing library of the target continued the traces: make it log the header as received, "
                f"or set request_id_header of the plan to {_OWN_HEADER}"
            )
        if self.change == Change.FOREIGN:
            return "give the logs of this experiment's time"
        if self.change == Change.REPLACED:
            others = (
                "; Phoenix (Plug.RequestId) and Heroku do so for ids of fewer than 20 or more than 200 characters, and "
                "Heroku for ids with other characters than letters, digits, +, /, = and -"
            )
            return (
                "the target makes ids itself. Envoy and Istio do so for external requests unless "
                f"preserve_external_request_id is true{others if self.form == IdForm.DOTTED else ''}. Change the "
                f"target's setting, or set request_id_header of the plan to {self._other_headers()}"
            )
        variable = self.header.lower().replace("-", "_")
        return (
            f"no request arrived, or the target does not log the header {self.header}: add it to the format of its log "
            f"(in nginx, $http_{variable})"
        )

    def _other_headers(self) -> str:
        if self.header.lower() == TRACEPARENT:
            return _OWN_HEADER
        return f"{TRACEPARENT}, whose ids have only hexadecimal digits and -, or to {_OWN_HEADER}"


def find_changes(
    paths: Sequence[Path],
    headers: Mapping[str, str],
    forms: Mapping[str, IdForm],
    sent: Mapping[str, str],
    match: re.Pattern[bytes] | None = None,
) -> dict[str, ChangedIds]:
    """Group id → what the logs have instead of its ids.

    Lines with ids as they were sent are left out. The cost grows with the size of the logs times the number of groups.

    Args:
        headers: group id → the header in which its requests carry their ids; of all groups.
        forms: group id → the form of its ids; of all groups.
        sent: group id → the id of a request that is missing; of the groups in question.
        match: only lines in which it is found count; None: all.
    """
    finder = IdFinder(forms)
    changes = {group_id: _changes(group_id, forms[group_id]) for group_id in sent}
    seen: dict[str, _Seen] = {group_id: {} for group_id in sent}
    others: _Seen = {}
    lines = 0
    for path in paths:
        for line in lines_of(path):
            if (match is not None and not match.search(line)) or finder.find(line):
                continue
            lines += 1
            found = {group_id: _first_found(line, changes[group_id]) for group_id in sent}
            # The groups of an experiment have their ids' beginning in common: a whole id proves that it is not cut.
            is_whole = any(change not in (None, Change.CUT) for change, _ in found.values())
            for group_id, (change, text) in found.items():
                if change is not None and not (is_whole and change == Change.CUT):
                    _count(seen[group_id], change, text)
            if not any(change for change, _ in found.values()):
                if foreign := _FOREIGN_ID.search(line):
                    _count(others, Change.FOREIGN, _text(foreign[0]))
                elif own := _OWN_ID.search(line):
                    _count(others, Change.REPLACED, _text(own[1] or own[0]))
    changed = {}
    for group_id, example in sent.items():
        shown = seen[group_id] or others or {Change.ABSENT: (lines, "")}
        kind, (count, text) = max(shown.items(), key=lambda item: item[1][0])
        changed[group_id] = ChangedIds(kind, count, text, example, headers[group_id], forms[group_id])
    return changed


_Change = tuple[Change, re.Pattern[bytes]]
# Change → the number of lines that show it, and an example.
_Seen = dict[Change, tuple[int, str]]


def _count(seen: _Seen, change: Change, text: str) -> None:
    count, example = seen.get(change, (0, text))
    seen[change] = count + 1, example


def _first_found(line: bytes, changes: Sequence[_Change]) -> tuple[Change | None, str]:
    for change, pattern in changes:
        if found := pattern.search(line):
            return change, _text(found[0])
    return None, ""


def _text(found: bytes) -> str:
    return found.decode("utf-8", "replace")[:100]


def _changes(group_id: str, form: IdForm) -> list[_Change]:
    """The changed ids of a group, the most complete ones first."""
    begin = id_begin(form, group_id)
    if form == IdForm.TRACEPARENT:
        digest, digits = begin.removeprefix("00-"), r"[0-9a-f]"
        trace = rf"{digest}{digits}{{8}}({digits}{{8}})"
        # In the ids that were sent, the span id repeats the sequence, with which the trace id ends.
        whole = rf"(?:00{_MARK})?{trace}{_MARK}\1{digits}{{8}}(?:{_MARK}{digits}{{2}})?"
        changes = [(Change.RESPELLED, whole), (Change.CONTINUED, trace)]
    else:
        pieces = [piece for piece in re.split(r"[^0-9A-Za-z]+", begin) if piece]
        mark = _MARK if len("".join(pieces)) >= _DISTINCT else _SOME_MARK
        digits = r"\d"
        changes = [(Change.RESPELLED, rf"{mark.join(pieces)}{mark}\d+(?:{_SOME_MARK}\d+){{0,2}}")]
    found = [(change, rf"(?<![0-9A-Za-z]){text}(?![0-9A-Za-z])") for change, text in changes]
    if len(begin) > _LEAST_BEGIN:
        # Before the other forms, which a cut id with its client resembles, and behind them.
        cut = rf"(?:{digits}*|\d{{10,}}-\d{{0,9}})" if form == IdForm.DASHED else rf"{digits}*"
        found.insert(0, (Change.CUT, rf"{_NO_PART_BEFORE}{re.escape(begin)}{cut}{_NO_PART_AFTER}"))
        shorter = "|".join(re.escape(begin[:length]) for length in range(len(begin) - 1, _LEAST_BEGIN - 1, -1))
        found.append((Change.CUT, rf"{_NO_PART_BEFORE}(?:{shorter}){_NO_PART_AFTER}"))
    return [(change, re.compile(text.encode(), re.IGNORECASE)) for change, text in found]

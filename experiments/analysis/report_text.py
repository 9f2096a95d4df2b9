"""The report as plain text: aligned tables with units, at most 100 columns wide.

Longer than other modules: it has a function for each section of the report.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.analysis.limits import Level
from loadgen.protocol.enums import LoadModel

WIDTH = 100
QUANTILES = ("p50_s", "p90_s", "p99_s", "p99.9_s", "max_s")
_TIMES = ("response_time", "service_time", "connection_wait", "lateness")


def render(report: dict[str, Any]) -> str:
    """The text of a report that report.build made."""
    sections = (
        _head(report),
        _account(report["summary"], report["target"]),
        _target(report["target"]),
        _intervals(report["summary"]["intervals"], report["target"]),
        _times(report["summary"]),
        _outcomes(report["summary"]),
        _hosts(report["summary"]["hosts"]),
        _workers(report["summary"]["workers"], report["summary"]["shards"]),
        _telemetry(report["telemetry"]),
        _events(report["summary"]["events"]),
        _verdict(report),
    )
    return "\n".join("\n".join(lines) + "\n" for lines in map(list, sections) if lines)


def table(rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Rows (the first is the heading) as indented lines; the first `left` columns are left-aligned, others right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    spare = WIDTH - 2 - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = min(widths[0], max(12, spare))
    lines = []
    for row in rows:
        cells = [
            _shortened(cell, width).ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return lines


def milliseconds(value_s: float | None) -> str:
    """A time in ms with three or four digits; – for None."""
    if value_s is None:
        return "–"
    value = value_s * 1000
    decimals = 3 if value < 10 else 2 if value < 100 else 1 if value < 1000 else 0
    return f"{value:,.{decimals}f}"


def percent(share: float | None, decimals: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{decimals}f} %"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _wrapped(text: str, first: str = "  ", rest: str = "    ") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=True)


def _head(report: dict[str, Any]) -> Iterator[str]:
    yield from _wrapped(f"Experiment {report['id']}  {report['name']}  (by {report['creator']})", "", "  ")
    yield from _wrapped(f"{report['status']}: {report['reason']}" if report["reason"] else report["status"])
    yield from _wrapped(f"start {report['start'] or '–'}   end {report['end'] or '–'}   seed {report['seed']}")
    yield from _wrapped(f"VERDICT {report['summary']['verdict']['status']}")
    yield f"  {'The account closes.' if report['sound'] else 'THE ACCOUNT DOES NOT CLOSE:'}"
    for problem in report["problems"]:
        yield from _wrapped(f"- {problem}", "  ", "    ")


def _account(summary: dict[str, Any], target: dict[str, Any] | None) -> Iterator[str]:
    yield "Account (arrivals)"
    account = summary["account"]
    is_dependent = summary["total"]["response_times_depend_on_completions"]
    rows = [
        ("planned (closed model: started)" if is_dependent else "planned", account["planned"]),
        ("  sent", account["sent"]),
        ("    completed", account["completed"]),
        ("    errors", sum(account["errors"].values())),
        *((f"      {kind.replace('_', ' ')}", count) for kind, count in account["errors"].items()),
        ("  not sent", account["not_sent"]),
        ("    dropped (max_in_flight reached)", account["dropped"]),
        ("    late (reached too late to send)", account["late"]),
        ("    connect failed", sum(account["connect_failed"].values())),
        *((f"      {kind.replace('_', ' ')}", count) for kind, count in account["connect_failed"].items()),
        ("    cut (stopped before it was sent)", account["cut"]),
        ("      of these without a row", account["cut_without_row"]),
        ("  lost (with a shard that broke off)", account["lost"]),
        *([("  shards whose losses are unknown", account["losses_unknown"])] if account["losses_unknown"] else []),
        ("rows in the database", account["rows"]),
        *([("not traced (no row is stored)", account["untraced"])] if account["untraced"] else []),
        ("rows missing from the database", account["missing"]),
    ]
    if target:
        rows += [
            ("ids sent", target["sent"]),
            *([("sent, but not traced", target["untraced"])] if target["untraced"] else []),
            *([("  not compared: the log lacks their ids", target["not_compared"])] if target["not_compared"] else []),
            ("ids in the target's log", target["logged"]),
            ("  completed, but not in the log", target["missing"]),
            ("  in the log, but not sent", target["unknown"]),
            ("  in the log more than once", target["duplicate"]),
            ("  sent without a response, not in the log", target["errors_not_logged"]),
        ]
    yield from table([(name, f"{count:,}") for name, count in rows])


def _target(target: dict[str, Any] | None) -> Iterator[str]:
    if not target:
        return
    yield "Target's log"
    rows = [("file", "lines", "requests of this experiment", "clock difference ms")]
    for file in target["files"]:
        rows.append(
            (file["path"], f"{file['lines']:,}", f"{file['requests']:,}", milliseconds(file["clock_difference_s"]))
        )
    # The end of a long path is more informative than its beginning.
    room = WIDTH - 2 - sum(max(len(row[column]) + 2 for row in rows) for column in (1, 2, 3))
    yield from table([(path if len(path) <= room else "…" + path[1 - room :], *rest) for path, *rest in rows])
    if target["without_ids"]:
        yield from _wrapped(f"not compared, because the requests carry no ids: {', '.join(target['without_ids'])}")
    for each in target["several_lines"]:
        many = "each id of {service} is in exactly {lines}" if each["all"] else "most ids of {service} are in {lines}"
        text = f"{many.format_map(each)} lines, which count as one request (--target-log-match)"
        if each["logs"] > 1:
            text += (
                f"; {each['logs']} logs have the same lines, as those of servers in a row, or of instances each of "
                "which received every request"
            )
        yield from _wrapped(text)
    for name, examples in target["examples"].items():
        if examples:
            yield from _wrapped(f"{name}: {', '.join(examples)}")


def _intervals(workloads: list[dict[str, Any]], target: dict[str, Any] | None) -> Iterator[str]:
    for workload in workloads:
        yield from (
            _planned_and_achieved(workload) if workload["model"] == LoadModel.OPEN else _clients_and_rates(workload)
        )
        if workload["sent_after"]:
            yield f"  sent after the end: {workload['sent_after']:,}"
    if target and target["intervals"] and workloads:
        logged = ", ".join(f"{count:,}" for count in target["intervals"])
        yield from _wrapped(f"received by the targets in each interval: {logged}")


def _planned_and_achieved(workload: dict[str, Any]) -> Iterator[str]:
    yield f"Planned and achieved: {workload['service']} ({workload['arrival_process']} arrivals)"
    rows: list[Sequence[str]] = [
        ("interval s", "by schedule", "arrivals", "sent", "planned req/s", "achieved req/s", "sent/arrivals")
    ]
    for interval in workload["intervals"]:
        counts = (f"{interval['planned']:,.1f}", f"{interval['arrivals']:,}", f"{interval['sent']:,}")
        rates = (f"{interval[name]:,.2f}" for name in ("planned_rps", "achieved_rps"))
        share = interval["sent"] / interval["arrivals"] if interval["arrivals"] else None
        rows.append((_bounds(interval), *counts, *rates, percent(share)))
    yield from table(rows)
    yield from _deviation(workload)


def _deviation(workload: dict[str, Any]) -> Iterator[str]:
    """How the number of the plan's arrivals differs from the schedule's, if that is more than rounding.

    Arrivals that were planned count, whatever became of them: the account tells of those that were lost or cut.
    """
    names = ("schedule_total", "arrivals_total", "uncounted_total", "explained_deviation")
    by_schedule, arrivals, uncounted, explained = (workload[name] for name in names)
    deviation = arrivals + uncounted - by_schedule
    if abs(deviation) <= 1:
        return
    text = f"{arrivals:,} arrivals"
    if uncounted:
        text += f" and {uncounted:,} in no interval (lost, missing or cut)"
    text += f", {by_schedule:,.1f} by the schedule ({deviation:+,.1f})"
    process = workload["arrival_process"]
    if abs(deviation) > explained:
        yield from _wrapped(f"{text}: a LARGER deviation than {process} arrivals explain, {explained:,.1f}")
    else:
        yield from _wrapped(f"{text}; {process} arrivals explain up to {explained:,.1f}")


def _clients_and_rates(workload: dict[str, Any]) -> Iterator[str]:
    yield f"Clients and rates: {workload['service']} (closed model, think time {workload['think_time']} s)"
    rows: list[Sequence[str]] = [("interval s", "clients", "started", "sent", "req/s")]
    for interval in workload["intervals"]:
        counts = (f"{interval[name]:,}" for name in ("clients", "arrivals", "sent"))
        rows.append((_bounds(interval), *counts, f"{interval['achieved_rps']:,.2f}"))
    yield from table(rows)


def _bounds(interval: dict[str, Any]) -> str:
    return f"{interval['start_s']:g} to {interval['start_s'] + interval['duration_s']:g}"


def _times(summary: dict[str, Any]) -> Iterator[str]:
    yield "Times (ms; response time counts from the intended time, service time from the sending)"
    rows: list[Sequence[str]] = [("", "count", "mean", "p50", "p90", "p99", "p99.9", "max")]
    several = len(summary["workloads"]) > 1
    parts = [("", summary["total"])]
    parts += [(f" {part['service']}", part) for part in summary["workloads"]] if several else []
    without_limits: list[str] = []
    for suffix, part in parts:
        for name in _TIMES:
            times = part["times"][name]
            figures = [milliseconds(times[quantile]) for quantile in ("mean_s", *QUANTILES)]
            rows.append((name.replace("_", " ") + suffix, f"{times['count']:,}", *figures))
        if any(part["outcomes"].get(outcome) for outcome in ("timeout", "connect_timeout")):
            times = part["times"]["response_time_with_timeouts"]
            if times is None:
                without_limits.append(part.get("service", "the total"))
                continue
            figures = [milliseconds(times[quantile]) for quantile in ("mean_s", *QUANTILES)]
            rows.append((f"  time-outs as their limit{suffix}", f"{times['count']:,}", *figures))
    yield from table(rows)
    if without_limits:
        yield from _wrapped(
            f"No times with time-outs as their limit ({', '.join(without_limits)}): requests of a client app timed "
            "out, which may set limits of its own."
        )
    closed = [part["service"] for part in summary["workloads"] if part["response_times_depend_on_completions"]]
    if closed:
        yield from _wrapped(
            f"Closed model ({', '.join(closed)}): a client waits for its response before it sends its next request, so "
            "that a slow target gets fewer requests. Response times depend on completions, and differ from those of "
            "users who arrive at a given rate."
        )


def _outcomes(summary: dict[str, Any]) -> Iterator[str]:
    total = summary["total"]
    yield "Outcomes"
    rows = [("", "count", "share of arrivals")]
    arrivals = total["arrivals"]
    for name, count in total["outcomes"].items():
        rows.append((name.replace("_", " "), f"{count:,}", percent(count / arrivals, 3)))
    for name, count in total["malformed"].items():
        rows.append((f"malformed because of: {name.replace('_', ' ')}", f"{count:,}", percent(count / arrivals, 3)))
    if total["resent"]:
        rows.append(("sent a second time", f"{total['resent']:,}", percent(total["resent"] / arrivals, 3)))
    for status, count in total["statuses"].items():
        rows.append((f"HTTP status {status}", f"{count:,}", percent(count / arrivals, 3)))
    rows.append(("bytes received", f"{total['bytes_received']:,}", ""))
    yield from table(rows)


def _hosts(services: list[dict[str, Any]]) -> Iterator[str]:
    for service in services:
        versions = ", ".join(map(str, service["routing_versions"]))
        yield f"Hosts: {service['service']} (routing version {versions})"
        rows = [("host", "sent", "share", "share of weight")]
        for host in service["hosts"]:
            shares = (percent(host[name], 3) for name in ("share", "weight_share"))
            rows.append((host["host"], f"{host['sent']:,}", *shares))
            for address, sent in host["addresses"].items():
                rows.append((f"  {address}", f"{sent:,}", percent(sent / max(1, host["sent"]), 3), ""))
        yield from table(rows)
        rows = [("shard", "version", "routed", "largest deviation from the exact share (requests)")]
        for shard in service["shards"]:
            deviation = "–" if shard["max_deviation"] is None else f"{shard['max_deviation']:.2f}"
            rows.append((shard["shard"], str(shard["routing_version"]), f"{shard['routed']:,}", deviation))
        yield from table(rows)


def _workers(workers: list[dict[str, Any]], shards: list[dict[str, Any]]) -> Iterator[str]:
    if not workers:
        return
    yield "Workers (their worst shards; clock: uncertainty; CPU, wait, others, stolen: peak over 5 s)"
    rows = [("worker", "shards", "clock ms", "drift ms", "CPU", "wait", "others", "stolen", "stall ms", "open files")]
    for worker in workers:
        clock = (milliseconds(worker[name]) for name in ("clock_uncertainty_s", "clock_drift_s"))
        names = ("cpu_peak_share", "wait_peak_share", "others_share", "stolen_share")
        shares = (percent(worker[name]) for name in names)
        files = "–" if worker["descriptor_limit"] is None else f"{worker['descriptor_limit']:,}"
        stall = milliseconds(worker["max_stall_s"])
        rows.append((worker["worker"], str(worker["shards"]), *clock, *shares, stall, files))
    yield from table(rows)
    for worker in workers:
        if quota := worker.get("quota_cores"):  # summaries of earlier versions have none
            part = percent(worker["throttled_share"])
            yield from _wrapped(f"{worker['worker']}: CPU quota of {quota:.4g} cores, used up in {part} of its periods")
    for shard in shards:
        if shard["status"] != "FINISHED" or shard["reason"] or shard["attempt"] > 1:
            reason = f": {shard['reason']}" if shard["reason"] else ""
            place = f" on {shard['worker']}" if shard["worker"] else ""
            yield from _wrapped(f"shard {shard['shard']}{place}: {shard['status']}, attempt {shard['attempt']}{reason}")


def _telemetry(telemetry: dict[str, Any] | None) -> Iterator[str]:
    if not telemetry:
        return
    yield "Telemetry (while the load ran; CPU: of all cores)"
    rows = [("node", "samples", "CPU mean", "CPU max", "RAM mean MiB", "RAM max MiB", "of MiB")]
    for node in telemetry["nodes"]:
        shares = (percent(node[name]) for name in ("cpu_mean_share", "cpu_max_share"))
        sizes = (_mebibytes(node[name]) for name in ("ram_mean_bytes", "ram_max_bytes", "ram_bytes"))
        rows.append((node["node"], f"{node['samples']:,}", *shares, *sizes))
    if telemetry["nodes"]:
        yield from table(rows)
    if telemetry["unparsable"]:
        yield from _wrapped(f"malformed messages: {telemetry['unparsable']:,}, such as {telemetry['example']}")
    if telemetry["dropped"]:
        yield from _wrapped(f"samples and events dropped because the buffer was full: {telemetry['dropped']:,}")


def _mebibytes(size: int | None) -> str:
    return "–" if size is None else f"{size / 2**20:,.0f}"


def _events(events: list[dict[str, Any]]) -> Iterator[str]:
    if not events:
        return
    yield "Events (s from the start)"
    for event in events:
        offset = "–" if event["offset_s"] is None else f"{event['offset_s']:.3f}"
        yield from _wrapped(f"{offset:>9}  {event['name']} {event['value']}".rstrip(), "  ", " " * 13)


def _verdict(report: dict[str, Any]) -> Iterator[str]:
    verdict = report["summary"]["verdict"]
    yield f"Verdict: {verdict['status']}"
    for reason in verdict["reasons"]:
        yield from _wrapped(f"{reason['level']}: {reason['sentence']}")
    if verdict["status"] == Level.VALID:
        yield "  no figure is above its limit"
    yield "Limits"
    rows = [("a figure above", "DEGRADED", "INVALID")]
    for limit in report["limits"]:
        rows.append((limit["name"], *(_bound(limit, level) for level in ("degraded", "invalid"))))
    yield from table(rows)
    for rule in report["rules"]:
        yield from _wrapped(f"{rule['level']}: {rule['rule']}")


def _bound(limit: dict[str, Any], level: str) -> str:
    if (value := limit[level]) is None:
        return "–"
    return f"{100 * value:g} %" if limit["unit"] == "%" else f"{1000 * value:g} ms"

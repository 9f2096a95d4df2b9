"""The admin: every page renders, nothing that services own can be changed, and an experiment can be cancelled."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from rest_framework.authtoken.models import Token

from experiments.admin.base import BoundedPaginator
from experiments.analysis.summary import summarise
from experiments.ingest.ingest import ingest
from experiments.models import (
    Batch,
    Capture,
    ClientApp,
    Event,
    Experiment,
    NodeInfo,
    Recording,
    SecondStats,
    Shard,
    TelemetrySample,
    Trace,
    Workload,
)
from experiments.services import experiments
from loadgen.protocol.outcomes import Outcome
from routing.models import RoutingRecord, RoutingRevision
from tests.databases.rows import app_version
from tests.support import batches
from tests.support.plans import plan

pytestmark = [pytest.mark.costly, pytest.mark.django_db]

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)
OURS = [model for model in MODELS if model._meta.app_label == "experiments"]


@pytest.fixture
def browser(client: Client, db: None) -> Client:
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def experiment(broker: redis.Redis) -> Experiment:
    """A finished experiment with a row of everything that is its own; every fourth request was dropped. And an app."""
    app_version(ClientApp.objects.create(name="shop", created_at=batches.START))
    made = batches.make_experiment(status="FINISHED")
    shard = Shard.objects.get()
    Event.objects.create(experiment=made, timestamp=batches.START, name="running", key="running")
    TelemetrySample.objects.create(
        experiment=made, node="pi1", metric="cpu", subsystem="0", timestamp_ns=batches.START_NS, value=50.0
    )
    NodeInfo.objects.create(experiment=made, node="pi1", info={"arch": "arm64"})
    Recording.objects.create(experiment=made, began_at=batches.START, dropped=3)
    rows = batches.rows_of(
        shard, lambda number, row: batches.row(row.client, row.sequence, row.intended_ns, Outcome.DROPPED)
        if number % 4 == 0 else row
    )  # fmt: skip
    for payload in batches.run_payloads(shard, rows):
        ingest(payload)
    made.refresh_from_db()
    made.summary = summarise(made)
    made.save()
    return made


@pytest.fixture
def one_of_each(experiment: Experiment) -> None:
    """A row of every other model that has a page."""
    record = RoutingRecord.objects.create(service="web")
    record.hosts.create(position=0, host="a:1", weight=1)
    RoutingRevision.objects.create(service="web", version=1, hosts=["a:1"], weights=[1])
    user = User.objects.create_user("somebody")
    Token.objects.create(user=user)
    user.groups.create(name="staff")
    interval = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="task", task="galileo.reconcile", interval=interval)
    CrontabSchedule.objects.create()
    ClockedSchedule.objects.create(clocked_time=batches.START)
    SolarSchedule.objects.create(event="sunset", latitude=48.2, longitude=16.4)


def address(model: type[models.Model], page: str, *arguments: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=arguments)


def test_every_model_of_ours_has_a_page() -> None:
    with_pages = {model.__name__ for model in OURS}
    assert with_pages >= {
        "Experiment", "Workload", "ClientGroup", "Shard", "Worker", "Trace", "SecondStats", "Batch", "Event",
        "TelemetrySample", "NodeInfo",
        "ClientApp", "ClientAppVersion",
    }  # fmt: skip
    assert {RoutingRecord, RoutingRevision, PeriodicTask} <= set(MODELS)


def test_the_login_page_and_the_index_carry_our_name(client: Client, browser: Client) -> None:
    assert "Galileo" in Client().get("/admin/login/").content.decode()
    index = browser.get("/admin/").content.decode()
    assert "Galileo" in index
    assert "Experiments" in index


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_list_and_page_of_every_model_render(browser: Client, one_of_each: None, model: type[models.Model]) -> None:
    listed = browser.get(address(model, "changelist"))
    assert listed.status_code == 200
    rows = list(model._default_manager.all()[:1])
    assert rows, f"the fixture makes no {model.__name__}"
    assert browser.get(address(model, "change", rows[0].pk)).status_code == 200


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_what_services_own_can_be_read_only(browser: Client, experiment: Experiment, model: type[models.Model]) -> None:
    row = model._default_manager.all()[0]
    assert browser.get(address(model, "add")).status_code == 403
    assert browser.get(address(model, "delete", row.pk)).status_code == 403
    page = address(model, "change", row.pk)
    assert 'name="_save"' not in browser.get(page).content.decode()
    assert browser.post(page, {"name": "changed"}).status_code == 403


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.__name__)
def test_an_empty_list_renders(browser: Client, model: type[models.Model]) -> None:
    assert browser.get(address(model, "changelist")).status_code == 200


def test_a_user_without_permissions_sees_nothing(client: Client, experiment: Experiment) -> None:
    client.force_login(User.objects.create_user("reader", is_staff=True))
    assert client.get(address(Experiment, "changelist")).status_code == 403


# --- experiments ------------------------------------------------------------------------------------------------------


def test_experiment_page_has_report_plan_and_links(browser: Client, experiment: Experiment) -> None:
    page = browser.get(address(Experiment, "change", experiment.id)).content.decode()
    assert "response time" in page
    assert "&quot;configuration&quot;" in page
    links = re.findall(r'href="(/admin/experiments/\w+/\?experiment=[^"]+)"', page)
    assert len(links) == 9
    for link in links:
        assert browser.get(link).status_code == 200


def test_times_of_a_closed_workload_are_labelled(browser: Client, broker: redis.Redis) -> None:
    made = batches.make_experiment([[2.0, 4.0]], status="FINISHED", model="closed")
    made.summary = summarise(made)
    made.save()
    label = "response times depend on completions"
    for page in (
        address(Experiment, "change", made.id),
        address(Workload, "changelist"),
        address(Workload, "change", made.workloads.get().id),
    ):
        assert label in browser.get(page).content.decode().lower().replace("\n", " ")


def test_an_experiment_without_a_summary_has_no_report_yet(browser: Client) -> None:
    running = batches.make_experiment(status="RUNNING")
    assert (
        "available when the experiment has ended"
        in browser.get(address(Experiment, "change", running.id)).content.decode()
    )


def test_experiments_are_searched_and_filtered(browser: Client, experiment: Experiment) -> None:
    other = batches.make_experiment(status="RUNNING")
    page = browser.get(address(Experiment, "changelist") + "?status__exact=RUNNING").content.decode()
    assert other.id in page
    assert experiment.id not in page
    assert experiment.id in browser.get(address(Experiment, "changelist") + f"?q={experiment.id}").content.decode()


def test_lists_of_parts_are_filtered_by_experiment(browser: Client, experiment: Experiment) -> None:
    for model in (Trace, Event, Batch, SecondStats, Shard, TelemetrySample, NodeInfo):
        page = address(model, "changelist")
        assert browser.get(page + f"?experiment={experiment.id}").context["cl"].result_count > 0
        assert browser.get(page + "?experiment=another").context["cl"].result_count == 0


def test_telemetry_is_counted_and_filtered(browser: Client, experiment: Experiment) -> None:
    page = browser.get(address(Experiment, "change", experiment.id)).content.decode()
    assert "1 samples of 1 nodes; 0 messages could not be parsed, 3 were dropped" in page
    listed = address(TelemetrySample, "changelist") + f"?experiment={experiment.id}"
    assert "2023-11-14 22:13:20.000000 UTC" in browser.get(listed).content.decode()
    for query, count in (("&node=pi1&metric=cpu", 1), ("&metric=ram", 0), ("&node=pi2", 0)):
        assert browser.get(listed + query).context["cl"].result_count == count


def test_the_page_of_a_trace_shows_what_was_captured(browser: Client, experiment: Experiment) -> None:
    seen, bare = Trace.objects.order_by("id")[:2]
    request, response = b"GET /<b> HTTP/1.1\r\nHost: pi\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n\xff"
    Capture.objects.create(id=seen.id, experiment=experiment, request=request, response=response)
    page = browser.get(address(Trace, "change", seen.pk)).content.decode()
    assert "GET /&lt;b&gt; HTTP/1.1\nHost: pi" in page
    assert "HTTP/1.1 200 OK\n\n\\xff" in page
    assert "HTTP/1.1" not in browser.get(address(Trace, "change", bare.pk)).content.decode()


# --- cancelling -------------------------------------------------------------------------------------------------------


def cancel(browser: Client, *chosen: Experiment, **fields: str) -> Any:
    data = {"action": "cancel", "_selected_action": [each.id for each in chosen], **fields}
    return browser.post(address(Experiment, "changelist"), data, follow=True)


def test_cancelling_asks_first(browser: Client, broker: redis.Redis) -> None:
    queued = experiments.create(plan(), "tester")
    asked = cancel(browser, queued)
    assert "Cancel experiments?" in asked.content.decode()
    assert queued.id in asked.content.decode()
    assert Experiment.objects.get().status == "QUEUED"


def test_a_confirmed_cancellation_goes_through_the_service(browser: Client, broker: redis.Redis) -> None:
    queued = experiments.create(plan(), "tester")
    done = cancel(browser, queued, confirmed="yes")
    assert [str(message) for message in done.context["messages"]] == [f"{queued.id} small is cancelled."]
    queued.refresh_from_db()
    assert (queued.status, queued.reason) == ("CANCELLED", "cancelled by admin")


@pytest.mark.parametrize("page", ["changelist", "change"])
def test_an_experiment_that_is_being_deleted_says_so(browser: Client, page: str) -> None:
    going, staying = (batches.make_experiment(status="FINALIZING") for _ in range(2))
    Experiment.objects.filter(id=going.id).update(deletion_requested=True)
    shown = browser.get(address(Experiment, page, *([] if page == "changelist" else [going.id]))).content.decode()
    assert shown.count("FINALIZING, being deleted") == 1
    assert "being deleted" not in browser.get(address(Experiment, "change", staying.id)).content.decode()


def test_an_ended_experiment_is_not_cancelled(browser: Client, experiment: Experiment) -> None:
    done = cancel(browser, experiment, confirmed="yes")
    assert "None of the selected experiments" in done.content.decode()
    assert Experiment.objects.get().status == "FINISHED"


def test_who_may_only_read_cannot_cancel(client: Client) -> None:
    running = batches.make_experiment(status="RUNNING")
    reader = User.objects.create_user("reader", is_staff=True)
    reader.user_permissions.add(Permission.objects.get(codename="view_experiment"))
    client.force_login(reader)
    cancel(client, running, confirmed="yes")
    assert Experiment.objects.get().status == "RUNNING"


# --- large tables -----------------------------------------------------------------------------------------------------


def test_trace_list_never_counts_or_sorts_the_whole_table(browser: Client, experiment: Experiment) -> None:
    with CaptureQueriesContext(connection) as queries:
        browser.get(address(Trace, "changelist") + f"?experiment={experiment.id}&o=3")
    about_traces = [query["sql"] for query in queries if "experiments_trace" in query["sql"]]
    counts = [sql for sql in about_traces if "COUNT" in sql]
    assert len(counts) == 1
    assert "LIMIT 10000" in counts[0]
    (rows,) = [sql for sql in about_traces if "COUNT" not in sql]
    key = ".".join(connection.ops.quote_name(name) for name in ("experiments_trace", "id"))
    assert rows.endswith(f"ORDER BY {key} DESC")
    assert "JOIN" not in rows


def test_the_paginator_counts_no_further_than_its_bound(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.admin.base.MAX_LISTED", 1)
    assert BoundedPaginator(Trace.objects.all(), 100).count == 1


# --- times ------------------------------------------------------------------------------------------------------------

# A time of day in the text of a page, and what follows it.
TIME_OF_DAY = re.compile(r"(?<![\d.:+])\d{1,2}:[0-5]\d(?::[0-5]\d(?:\.\d+)?)?(?!\d)(?=(.{0,6}))| [ap]\.m\.", re.DOTALL)


def times_without_zone(page: str) -> list[str]:
    """The times in a page's text that do not end with their zone; attributes of its elements are left out."""
    text = re.sub(r"<script.*?</script>|<[^>]*>", "", page, flags=re.DOTALL)
    found = [(match[0], match[1] or "") for match in TIME_OF_DAY.finditer(text)]
    return [time for time, rest in found if not rest.startswith((" UTC", "+00:00", "Z"))]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_each_time_of_a_list_and_a_page_is_labelled(
    browser: Client, one_of_each: None, model: type[models.Model]
) -> None:
    row = model._default_manager.all()[0]
    for page in (address(model, "changelist"), address(model, "change", row.pk), address(model, "history", row.pk)):
        shown = browser.get(page).content.decode()
        assert times_without_zone(shown) == []
        assert "All times are in UTC." in shown


def test_experiment_times_are_shown_with_their_zone(browser: Client, experiment: Experiment) -> None:
    for page in (address(Experiment, "changelist"), address(Experiment, "change", experiment.pk)):
        assert "2023-11-14 22:13:20 UTC" in browser.get(page).content.decode()


def test_filters_and_dates_of_a_list_are_labelled(browser: Client, experiment: Experiment) -> None:
    batches.make_experiment()
    Experiment.objects.exclude(id=experiment.id).update(created_at=batches.START.replace(year=2024))
    listed = browser.get(address(Experiment, "changelist")).content.decode()
    assert "By created at (UTC)" in " ".join(listed.split())
    dates = listed.partition('<nav class="toplinks">')[2].partition("</nav>")[0]
    assert "UTC:" in dates and "2023" in dates and "2024" in dates


def test_a_time_without_a_zone_is_found() -> None:
    assert times_without_zone("<p>22 Nov 2026, 10:31 a.m.</p>") == ["10:31", " a.m."]
    assert times_without_zone("<b>10:31:05</b>") == ["10:31:05"]
    assert times_without_zone('<input value="10:31:05"> 10:31:05 UTC, 10:31:05.123Z, 10:31:05+00:00') == []

"""The admin sets and removes records through the services, and shows each error at its field."""

import pytest
from django.urls import reverse

from routing import models, selectors, services
from routing.table import RoutingRecord

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("client")]

LIST = "admin:routing_routingrecord_changelist"
ADD = "admin:routing_routingrecord_add"
CHANGE = "admin:routing_routingrecord_change"
DELETE = "admin:routing_routingrecord_delete"


def rows(*targets, initial=0, **fields):
    """The form's fields for (host, weight) rows, of which the first `initial` are there already."""
    posted = {"hosts-TOTAL_FORMS": len(targets), "hosts-INITIAL_FORMS": initial, **fields}
    for index, (host, weight) in enumerate(targets):
        posted |= {f"hosts-{index}-host": host, f"hosts-{index}-weight": weight}
    return posted


@pytest.fixture
def existing():
    """A record of two hosts, the fields that post it unchanged, and its page."""
    services.set_record("s", ["a:80", "b:80"], [1, 2], "ada")
    row = models.RoutingRecord.objects.get()
    posted = rows(("a:80", "1"), ("b:80", "2"), initial=2, opened_version=1)
    for index, host in enumerate(row.hosts.all()):
        posted |= {f"hosts-{index}-id": host.pk, f"hosts-{index}-record": row.pk}
    return row, posted, reverse(CHANGE, args=[row.pk])


def test_adding_a_record_makes_a_version_and_projects_it(admin_client, redis_table):
    page = admin_client.post(reverse(ADD), {"service": "s", **rows(("a:80", "1"), ("b:80", "2.5"), ("", ""))})
    assert page.status_code == 302
    record = RoutingRecord("s", ["a:80", "b:80"], [1, 2.5], 1)
    assert selectors.record("s") == redis_table.read("s") == record
    assert [row.changed_by for row in selectors.revisions(["s"])] == ["admin"]


def test_a_change_is_a_new_version_with_the_rows_in_their_order(admin_client, redis_table, existing):
    _, posted, url = existing
    posted |= {"hosts-TOTAL_FORMS": 3, "hosts-1-DELETE": "on", "hosts-0-weight": "7"}
    posted |= {"hosts-2-host": "c:80", "hosts-2-weight": "0.5"}
    assert admin_client.post(url, posted).status_code == 302
    assert redis_table.read("s") == RoutingRecord("s", ["a:80", "c:80"], [7, 0.5], 2)


def test_saving_and_staying_on_the_page_works(admin_client, existing):
    row, posted, url = existing
    page = admin_client.post(url, {**posted, "hosts-1-weight": "3", "_continue": "1"}, follow=True)
    assert page.status_code == 200
    assert selectors.record(row.service).weights == (1, 3)


def test_version_and_service_are_read_only(admin_client, existing):
    _, _, url = existing
    page = admin_client.get(url)
    fields = page.context["adminform"].form.fields
    assert set(fields) == {"opened_version"}
    assert 'class="readonly">1<' in page.text


def test_the_list_shows_hosts_and_weights(admin_client, existing):
    assert "a:80 (1), b:80 (2)" in admin_client.get(reverse(LIST)).text


def test_each_invalid_value_is_shown_at_its_field(admin_client):
    page = admin_client.post(reverse(ADD), {"service": "a b", **rows(("a:0", "1"), ("b", "-1"), ("b", "2"))})
    assert page.status_code == 200
    assert "without spaces" in page.context["adminform"].form.errors["service"][0]
    formset = page.context["inline_admin_formsets"][0].formset
    assert [sorted(form.errors) for form in formset.forms] == [["host"], ["weight"], ["host"]]
    assert formset.non_form_errors() == []
    assert not models.RoutingRecord.objects.exists()
    assert not models.RoutingRevision.objects.exists()


def test_values_that_cannot_be_read_are_shown_beside_the_others(admin_client):
    page = admin_client.post(reverse(ADD), {"service": "s", **rows(("a", "much"), ("", "1"), ("b:0", ""))})
    formset = page.context["inline_admin_formsets"][0].formset
    assert [sorted(form.errors) for form in formset.forms] == [["weight"], ["host"], ["host", "weight"]]
    assert formset.non_form_errors() == []


@pytest.mark.parametrize(
    ("targets", "reason"), [((), "at least one host"), ((("a", "0"), ("b", "0")), "at least one weight above 0")]
)
def test_errors_of_the_whole_list_are_above_the_rows(admin_client, targets, reason):
    page = admin_client.post(reverse(ADD), {"service": "s", **rows(*targets)})
    formset = page.context["inline_admin_formsets"][0].formset
    assert any(reason in error for error in formset.non_form_errors())
    assert not models.RoutingRecord.objects.exists()


@pytest.mark.parametrize("service", ["s", "S"])
def test_a_routed_service_cannot_be_added_in_any_case(admin_client, existing, service):
    page = admin_client.post(reverse(ADD), {"service": service, **rows(("x", "1"))})
    assert "service" in page.context["adminform"].form.errors


def test_a_version_that_the_user_has_not_seen_is_not_overwritten(admin_client, existing):
    _, posted, url = existing
    newer = services.set_record("s", ["z"], [1], "experiment")
    page = admin_client.post(url, posted)
    assert page.status_code == 200
    assert "version 2 was set while you edited version 1" in page.text
    assert selectors.record("s") == newer


def test_a_record_is_removed_through_the_services(admin_client, redis_table, existing):
    row, _, _ = existing
    assert admin_client.post(reverse(DELETE, args=[row.pk]), {"post": "yes"}).status_code == 302
    assert redis_table.services() == []
    assert [revision.removed for revision in selectors.revisions(["s"])] == [False, True]


def test_many_records_are_removed_through_the_services(admin_client, redis_table, existing):
    row, _, _ = existing
    services.set_record("t", ["a"], [1], "")
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    assert admin_client.post(reverse(LIST), chosen).status_code == 302
    assert redis_table.services() == ["t"]


def test_revisions_can_be_read_but_not_written(admin_client, existing):
    revision = models.RoutingRevision.objects.get()
    url = reverse("admin:routing_routingrevision_change", args=[revision.pk])
    assert admin_client.get(url).status_code == 200
    assert admin_client.get(reverse("admin:routing_routingrevision_changelist")).status_code == 200
    assert admin_client.post(url, {"service": "x"}).status_code == 403
    assert admin_client.get(reverse("admin:routing_routingrevision_add")).status_code == 403
    assert admin_client.post(reverse("admin:routing_routingrevision_delete", args=[revision.pk])).status_code == 403

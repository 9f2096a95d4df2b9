"""The routing table in a whole installation: other tools' changes, and routers that read no record."""

from tests.e2e.test_load import assert_account_closes, routes
from tests.support.foreign_routes import set_route
from tests.support.plans import plan_data
from tests.support.waiting import wait_for


def test_route_set_by_another_tool_is_used_and_recorded(galileo, three_targets):
    first, second, _ = (target.host for target in three_targets)
    experiment_id = galileo.begin(
        plan_data(duration=6, interval=6, ticks=[100], clients_per_host=4, routing=routes(first))
    )
    galileo.wait_for_status(experiment_id, "RUNNING")
    wait_for(lambda: three_targets[0].ids(experiment_id), "the first request")
    with galileo.broker() as client:
        set_route(client, "web", {second: "1.0"})
    galileo.wait_for_status(experiment_id, "FINISHED")
    rows = assert_account_closes(galileo, experiment_id, *three_targets)
    (old,) = {row[8] for row in rows if row[7] == first}
    assert {row[8] for row in rows if row[7] == second} == {0, old + 1}
    events = galileo.query(
        "SELECT value FROM experiments_event WHERE experiment_id=? AND name='routing' ORDER BY id", experiment_id
    )
    assert [value for (value,) in events] == [
        f"web version {old}: {first}@1 (by experiment {experiment_id})",
        f"web version {old + 1}: {second}@1 (by redis)",
    ]


def test_the_static_router_needs_no_record(galileo, target):
    done = galileo.run(
        plan_data(
            service="nowhere", router="StaticRouter", static_host=f"http://{target.host}/a", routing=[], path="/b"
        )
    )
    rows = assert_account_closes(galileo, done["id"], target)
    assert {(row[7], row[8]) for row in rows} == {(target.host, 0)}
    assert {path for _, _, _, path in target.log()} == {"/a/b"}

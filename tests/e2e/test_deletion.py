"""An experiment that is deleted while it runs is stopped, and goes by itself, whoever is killed on the way."""

import time

import pytest

from loadgen.protocol.keys import group_key
from tests.e2e.test_load import routes
from tests.support.plans import plan_data
from tests.support.waiting import wait_for


def is_there(galileo, experiment_id):
    return bool(galileo.query("SELECT id FROM experiments_experiment WHERE id = ?", experiment_id))


def rows_of(galileo, experiment_id):
    return galileo.query("SELECT COUNT(*) FROM experiments_trace WHERE experiment_id = ?", experiment_id)[0][0]


def begin(galileo, target):
    experiment_id = galileo.begin(
        plan_data(duration=60, interval=60, ticks=[100], clients_per_host=4, routing=routes(target.host))
    )
    wait_for(lambda: target.ids(experiment_id), "the first request")
    time.sleep(1)
    return experiment_id


def assert_gone(galileo, target, experiment_id):
    wait_for(lambda: not is_there(galileo, experiment_id), "it to be removed")
    assert rows_of(galileo, experiment_id) == 0
    assert not galileo.broker().exists(group_key(f"{experiment_id}.0"))
    sent = len(target.ids(experiment_id))
    time.sleep(1)
    assert len(target.ids(experiment_id)) == sent, "its load goes on"
    assert galileo.web.delete(experiment_id) == 404


def test_one_delete_is_enough(galileo, target):
    experiment_id = begin(galileo, target)
    answer = galileo.web.request("DELETE", f"/experiments/{experiment_id}")
    assert (answer.status_code, answer.json()) == (202, experiment_id)
    assert_gone(galileo, target, experiment_id)


@pytest.mark.parametrize("name", ["control", "ingest"])
def test_a_controller_that_is_killed_meanwhile_takes_it_up_again(galileo, target, name):
    experiment_id = begin(galileo, target)
    galileo.kill(name)
    assert galileo.web.delete(experiment_id) == 202
    time.sleep(2)
    assert is_there(galileo, experiment_id)
    galileo.start_controller(name)
    assert_gone(galileo, target, experiment_id)
    done = galileo.run(plan_data(duration=1, interval=1, ticks=[10], routing=routes(target.host)))
    assert done["status"] == "FINISHED"

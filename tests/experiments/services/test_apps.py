"""The repository of client apps: versions, and how the one that an experiment was created with reaches its workers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import redis

from experiments.models import ClientApp, ClientAppVersion, Experiment, ExperimentStatus, Shard
from experiments.plans import PlanInvalid
from experiments.services import apps, experiments, workers
from experiments.services.lifecycle import start_when_ready
from loadgen.apps.archive import digest_of
from loadgen.apps.errors import AppInvalid
from loadgen.protocol.codec import from_json
from loadgen.protocol.keys import APP_TTL_S, app_key, group_key
from loadgen.protocol.messages import GroupDocument
from tests.support.archives import app_archive
from tests.support.plans import plan
from tests.support.workers import register

pytestmark = pytest.mark.django_db(transaction=True)

FIRST, SECOND = app_archive(), app_archive(generator=b"def next_request():\n    return 'get', '/second'\n")


@pytest.fixture(autouse=True)
def repository(settings, tmp_path: Path) -> Path:
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "apps"
    return tmp_path / "apps"


def kept(repository: Path) -> set[str]:
    return {file.name for file in repository.iterdir()}


def test_each_upload_of_another_archive_is_a_version(repository: Path) -> None:
    for data in (FIRST, SECOND, SECOND, FIRST):
        apps.upload(data, "ann")
    versions = ClientAppVersion.objects.order_by("number")
    assert [(version.number, version.digest) for version in versions] == [
        (1, digest_of(FIRST)),
        (2, digest_of(SECOND)),
        (3, digest_of(FIRST)),
    ]
    assert ClientApp.objects.get().name == "shop"
    assert {version.creator for version in versions} == {"ann"}
    assert versions[0].archive_bytes == len(FIRST)
    assert kept(repository) == {f"{digest_of(FIRST)}.zip", f"{digest_of(SECOND)}.zip"}
    assert apps.archive_file(digest_of(FIRST)).read_bytes() == FIRST


def test_a_refused_archive_leaves_nothing(repository: Path) -> None:
    with pytest.raises(AppInvalid):
        apps.upload(app_archive(("../evil", b"")), "ann")
    assert not ClientApp.objects.exists()
    assert not repository.exists()


def test_names_differ_in_more_than_their_case(repository: Path) -> None:
    apps.upload(FIRST, "ann")
    with pytest.raises(AppInvalid, match="there is an app shop"):
        apps.upload(app_archive(manifest=b"name: Shop"), "ann")
    assert ClientApp.objects.count() == 1
    assert kept(repository) == {f"{digest_of(FIRST)}.zip"}


def test_a_repository_that_cannot_be_written_stores_nothing(settings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    settings.GALILEO_APPS_REPO_DIR = tmp_path / "file" / "apps"
    with pytest.raises(OSError, match="Not a directory"):
        apps.upload(FIRST, "ann")
    assert not ClientApp.objects.exists()


def test_app_is_deleted_with_its_versions_and_files(repository: Path) -> None:
    apps.upload(FIRST, "ann")
    apps.upload(SECOND, "ann")
    assert apps.delete("shop")
    assert not ClientAppVersion.objects.exists()
    assert not apps.delete("shop")
    long_ago = time.time() - apps.UNNEEDED_S - 1
    for file in repository.iterdir():
        os.utime(file, (long_ago, long_ago))
    (repository / "killed.tmp").write_bytes(b"")
    os.utime(repository / "killed.tmp", (long_ago, long_ago))
    (repository / "notes.txt").write_text("not ours")
    os.utime(repository / "notes.txt", (long_ago, long_ago))
    apps.upload(app_archive(manifest=b"name: other"), "ann")
    assert len(kept(repository)) == 2
    assert "notes.txt" in kept(repository)


# --- Experiments ------------------------------------------------------------------------------------------------------


@pytest.fixture
def experiment(broker: redis.Redis) -> Experiment:
    """Queued with the first version; a second one has come since."""
    apps.upload(FIRST, "ann")
    created = experiments.create(plan(client="shop"), "tester")
    apps.upload(SECOND, "ann")
    register(broker, "pi-1")
    workers.sync_workers()
    assert Experiment.objects.move(created.id, ExperimentStatus.QUEUED, ExperimentStatus.STARTING)
    created.refresh_from_db()
    return created


def test_experiment_keeps_its_version_of_the_app(experiment: Experiment, broker: redis.Redis) -> None:
    start_when_ready(experiment)
    group = experiment.groups.get()
    document = from_json(GroupDocument, broker.hget(group_key(group.id), "document"))
    assert (document.workload.client_app, document.workload.client_app_digest) == ("shop", digest_of(FIRST))
    assert broker.get(app_key(digest_of(FIRST))) == FIRST
    assert APP_TTL_S - 5 <= broker.ttl(app_key(digest_of(FIRST))) <= APP_TTL_S
    assert not broker.exists(app_key(digest_of(SECOND)))


def test_the_archive_is_there_before_the_first_order(
    experiment: Experiment, broker: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = []
    monkeypatch.setattr(
        "experiments.services.shards.sending.send_order",
        lambda shard, step_ns: there.append(broker.exists(app_key(digest_of(FIRST)))),
    )
    start_when_ready(experiment)
    assert there == [1]


def test_archive_stays_in_redis_while_shards_are_awaited(experiment: Experiment, broker: redis.Redis) -> None:
    start_when_ready(experiment)
    broker.expire(app_key(digest_of(FIRST)), 5)
    start_when_ready(experiment)
    assert broker.ttl(app_key(digest_of(FIRST))) > 5
    broker.delete(app_key(digest_of(FIRST)))  # as when the broker was restarted and has lost it
    start_when_ready(experiment)
    assert broker.get(app_key(digest_of(FIRST))) == FIRST


def test_a_shard_that_is_ordered_again_finds_its_app(experiment: Experiment, broker: redis.Redis) -> None:
    from experiments.services import shards

    start_when_ready(experiment)
    broker.delete(app_key(digest_of(FIRST)))
    Shard.objects.update(status="LOST")
    (shard,) = shards.of_experiment(experiment)
    Shard.objects.update(ordered_at=shard.ordered_at.replace(year=2020))
    (shard,) = shards.to_order_again(shards.of_experiment(experiment))
    shards.order_again(experiment, shard)
    assert Shard.objects.get().attempt == 2
    assert broker.exists(app_key(digest_of(FIRST)))


def test_deleted_app_stays_for_a_waiting_experiment(
    experiment: Experiment, broker: redis.Redis, repository: Path
) -> None:
    assert apps.delete("shop")
    long_ago = time.time() - apps.UNNEEDED_S - 1
    for file in repository.iterdir():
        os.utime(file, (long_ago, long_ago))
    apps.upload(app_archive(manifest=b"name: other"), "ann")
    assert f"{digest_of(FIRST)}.zip" in kept(repository)
    assert f"{digest_of(SECOND)}.zip" not in kept(repository)
    start_when_ready(experiment)
    assert broker.get(app_key(digest_of(FIRST))) == FIRST


def test_missing_archive_fails_the_experiment(experiment: Experiment) -> None:
    apps.archive_file(digest_of(FIRST)).unlink()
    start_when_ready(experiment)
    experiment.refresh_from_db()
    assert (experiment.status, experiment.final_status) == ("FINALIZING", "FAILED")
    assert experiment.reason.startswith(f"client app shop: its archive {digest_of(FIRST)}.zip cannot be read")
    assert not Shard.objects.exists()


def test_unknown_app_is_left_to_the_workers(broker: redis.Redis) -> None:
    experiment = experiments.create(plan(client="shop"), "tester")
    assert experiment.workloads.get().spec["client_app_digest"] is None
    apps.provide(experiment.workloads.all())
    assert broker.keys("galileo:app:*") == []


def test_refused_app_parameters_store_nothing(broker: redis.Redis) -> None:
    apps.upload(app_archive(manifest=b"name: shop\nparameters: {size: {type: integer, maximum: 9}}"), "ann")
    with pytest.raises(PlanInvalid) as caught:
        experiments.create(plan(client="shop", client_parameters={"size": 10, "colour": "red"}), "tester")
    assert [error.path for error in caught.value.errors] == [
        "configuration.workloads[0].client_parameters.size",
        "configuration.workloads[0].client_parameters.colour",
    ]
    assert "size: must be at most 9, got 10" in str(caught.value)
    assert not Experiment.objects.exists()

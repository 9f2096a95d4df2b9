"""After any events in the database and Redis, two passes synchronise them, and no version is used twice."""

import random

import pytest

from routing import models, selectors, services
from routing.redis import projection
from routing.redis.synchronisation import synchronise
from tests.support.foreign_routes import remove_route, set_route

pytestmark = [pytest.mark.costly, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("client")]

SERVICES = ("s", "t")
STEPS = 40


class World:
    """A database and a Redis to which things happen."""

    def __init__(self, client, monkeypatch, seed):
        self.client = client
        self.monkeypatch = monkeypatch
        self.random = random.Random(seed)
        self.snapshot = {}

    def service(self):
        return self.random.choice(SERVICES)

    def hosts(self):
        return self.random.sample(["a:1", "b:1", "c:1"], self.random.randint(1, 3))

    def we_set(self):
        services.set_record(self.service(), self.hosts(), by="ada")

    def we_remove(self):
        services.remove_record(self.service(), by="ada")

    def we_set_and_die_before_the_projection(self):
        with self.monkeypatch.context() as patch:
            patch.setattr(projection, "project_after_commit", lambda service: None)
            self.random.choice([self.we_set, self.we_remove])()

    def they_set(self):
        set_route(self.client, self.service(), dict.fromkeys(self.hosts(), "1.0"))

    def they_remove(self):
        remove_route(self.client, self.service())

    def they_write_half(self):
        self.client.delete(f"routing:hosts:{self.service()}")

    def a_pass_dies_before_the_stamp(self):
        with self.monkeypatch.context() as patch:
            patch.setattr(projection, "confirm_after_commit", lambda service: None)
            synchronise()

    def redis_starts_empty(self):
        self.client.flushall()

    def redis_is_saved(self):
        self.snapshot = {key: self.client.dump(key) for key in self.client.keys("routing:*")}

    def redis_starts_from_what_was_saved(self):
        self.client.flushall()
        for key, value in self.snapshot.items():
            self.client.restore(key, 0, value)

    def is_nonsense(self, redis_table):
        return any(stored.unreadable for stored in redis_table.read_stored().values())


HAPPENINGS = [name for name in vars(World) if name.startswith(("we_", "they_", "a_pass_", "redis_"))]


@pytest.mark.parametrize("seed", range(8))
def test_two_passes_bring_database_and_redis_in_step(client, redis_table, monkeypatch, seed):
    world = World(client, monkeypatch, seed)
    for _ in range(STEPS):
        happened = [world.random.choice(HAPPENINGS) for _ in range(world.random.randint(1, 4))]
        for happening in happened:
            getattr(world, happening)()
        synchronise()
        synchronise()
        if world.is_nonsense(redis_table):  # half written by another tool
            for service in SERVICES:
                set_route(client, service, {"d:1": "1"})
            synchronise()
        assert redis_table.read_all() == selectors.records(), happened
        assert synchronise() == [], happened
    for service in SERVICES:
        versions = [revision.version for revision in selectors.revisions([service])]
        assert versions == list(range(1, len(versions) + 1))
    assert {revision.changed_by for revision in models.RoutingRevision.objects.all()} == {"ada", "redis"}

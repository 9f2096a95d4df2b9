"""The container files, read but not run: there is no engine where the tests run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def test_the_compose_file_has_the_processes_of_the_stack() -> None:
    assert set(SERVICES) == {
        "redis", "migrate", "web", "control", "ingest", "beat", "experimentd",
        "worker-a", "worker-b", "service-1", "service-2", "service-3",
    }  # fmt: skip
    zones = {name: SERVICES[name]["environment"]["galileo_zone"] for name in ("worker-a", "worker-b")}
    assert zones == {"worker-a": "A", "worker-b": "B"}


@pytest.mark.parametrize("name", ["web", "control", "ingest", "beat", "experimentd"])
def test_a_controllers_process_is_a_command_of_the_run_script(name: str) -> None:
    (command,) = SERVICES[name]["command"]
    assert re.search(rf"^  {command}\)", (DOCKER.parent / "bin" / "run").read_text(), re.M)


def test_everything_that_serves_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {
        "migrate",
        "beat",
        "experimentd",
    }


def test_what_is_depended_on_exists_and_volumes_are_declared() -> None:
    for service in SERVICES.values():
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= set(COMPOSE["volumes"])


def test_only_the_web_server_is_published_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"web": ["127.0.0.1:5001:5001"]}


def test_workers_get_only_the_brokers_password() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search("password|secret", variable):
                assert re.match(r"\$\{\w+:\?", value), f"{name}: {variable}"
        if name.startswith("worker"):
            assert "galileo_secret_key" not in service["environment"]


def test_each_built_image_is_a_stage_without_root() -> None:
    stages = re.findall(r"^FROM .* AS (\w+)$", DOCKERFILE, re.M)
    built = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert built == {"worker", "controller"} < set(stages)
    assert len(re.findall(r"^USER galileo$", DOCKERFILE, re.M)) == 2


def test_copied_paths_exist_and_the_worker_has_no_django() -> None:
    for source in re.findall(r"^COPY (?:--from=compiled /app/)?(\S+) ", DOCKERFILE, re.M):
        assert (DOCKER.parent / source).exists(), source
    worker = DOCKERFILE.split("AS worker")[1].split("AS controller")[0]
    assert "requirements-worker.txt" in worker
    assert not re.search(r"COPY (experiments|galileo_site)", worker)


def test_the_workers_engine_is_compiled_in_a_stage_of_its_own() -> None:
    compiling, worker = DOCKERFILE.split("AS compiled")[1].split("AS worker")[:2]
    assert "python -m loadgen.compiled.compile" in compiling
    assert "COPY --from=compiled /app/loadgen loadgen" in worker.split("AS controller")[0]
    assert "loadgen/_compiled" in (DOCKER / "Dockerfile.dockerignore").read_text()

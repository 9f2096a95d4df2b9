"""The client app `squeezenet`, executed as a worker executes it: once per client, with a `context` in its globals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from examples.apps.squeezenet.shapes import KINDS
from examples.service.classifier import train

APP = Path(__file__).resolve().parents[2] / "examples" / "apps" / "squeezenet"
MANIFEST = yaml.safe_load((APP / "manifest.yml").read_text())


def client(**parameters: Any) -> dict[str, Any]:
    """The globals of one client's generator module."""
    context = SimpleNamespace(name="squeezenet", path=str(APP), manifest=MANIFEST, parameters=parameters)
    module: dict[str, Any] = {"context": context, "__name__": "generator"}
    exec(compile((APP / "generator.py").read_text(), "generator.py", "exec"), module)
    return module


def test_the_manifest_names_the_app_and_its_parameters() -> None:
    assert MANIFEST["name"] == "squeezenet"
    assert MANIFEST["version"] and MANIFEST["description"]
    assert MANIFEST["parameters"] == {"model": "squeezenet", "size": 32, "images": 10}


def test_a_request_posts_a_png_to_the_models_path() -> None:
    method, path, keywords = client()["next_request"]()
    assert (method, path) == ("post", "/predictions/squeezenet")
    assert set(keywords) == {"data", "headers"}
    assert keywords["headers"] == {"Content-Type": "image/png"}
    assert keywords["data"].startswith(b"\x89PNG")


def test_the_pictures_are_sent_in_turn() -> None:
    module = client(images=3)
    sent = [module["next_request"]()[2]["data"] for _ in range(6)]
    assert len(set(sent)) == 3
    assert sent[:3] == sent[3:]


def test_the_parameters_of_the_plan_are_obeyed() -> None:
    module = client(model="mobilenet", size=16, images=1)
    assert module["next_request"]()[1] == "/predictions/mobilenet"


def test_the_service_recognises_what_the_client_sends() -> None:
    module, classifier = client(images=len(KINDS)), train()
    answers = [next(iter(classifier.predict(module["next_request"]()[2]["data"]))) for _ in KINDS]
    assert answers == list(KINDS)


def test_the_app_needs_nothing_but_the_standard_library() -> None:
    code = (
        "from types import SimpleNamespace as N\n"
        f"c = N(name='squeezenet', path={str(APP)!r}, manifest={MANIFEST!r}, parameters={{}})\n"
        f"g = {{'context': c}}; exec(open({str(APP / 'generator.py')!r}).read(), g); print(g['next_request']()[0])"
    )
    # -I -S: neither this project nor any installed package can be imported.
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, cwd="/")
    assert (ran.stdout, ran.stderr) == ("post\n", "")

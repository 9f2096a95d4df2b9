"""Client app: posts colourful images to `/predictions/<model>`.

The manifest sets `shared`: the engine executes this module once for all clients of a shard, because generating
the images takes a while and the clients have no state of their own. `requests` is a generator of requests.
"""

import itertools
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

context: Any = globals()["context"]  # set by the engine

# `photos.py` is run by path because an app's folder is not on the import path.
_png = runpy.run_path(str(Path(context.path) / "photos.py"))["png"]
_images = [_png(context.parameters["size"], seed) for seed in range(context.parameters["images"])]


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields method, path and keywords of `requests.request`, endlessly."""
    path = f"/predictions/{context.parameters['model']}"
    headers = {"Content-Type": "image/png"}
    for image in itertools.cycle(_images):
        yield "post", path, {"data": image, "headers": headers}

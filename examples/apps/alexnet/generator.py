"""Client app: posts colourful images to `/predictions/<model>`.

The manifest says `shared`: the engine executes this module once for all clients of a shard, as the images take a while
to make and the clients have no state of their own. It is a generator that yields one request after the other.
"""

import itertools
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

context: Any = globals()["context"]  # the engine has put it there

# `photos.py` lies beside this file; it is run by path because an app's folder is not on the import path.
_png = runpy.run_path(str(Path(context.path) / "photos.py"))["png"]
_images = [_png(context.parameters["size"], seed) for seed in range(context.parameters["images"])]


def requests() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and the keywords of `requests.request`, for ever."""
    path = f"/predictions/{context.parameters['model']}"
    headers = {"Content-Type": "image/png"}
    for image in itertools.cycle(_images):
        yield "post", path, {"data": image, "headers": headers}

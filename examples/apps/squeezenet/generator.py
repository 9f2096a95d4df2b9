"""Client app: posts images of shapes to `/predictions/<model>`.

The engine executes this module once per client and puts `context` (name, path, manifest, parameters) into its globals.
The images are generated once, at import, so that a request costs the client only a look-up.
"""

import itertools
import runpy
from pathlib import Path
from typing import Any

context: Any = globals()["context"]  # set by the engine

# `shapes.py` is run by path because an app's folder is not on the import path.
_shapes = runpy.run_path(str(Path(context.path) / "shapes.py"))
_parameters = context.parameters  # includes the manifest's defaults

_path = f"/predictions/{_parameters['model']}"
_headers = {"Content-Type": "image/png"}
_kinds = itertools.cycle(_shapes["KINDS"])
_images = [_shapes["png"](next(_kinds), _parameters["size"], seed) for seed in range(_parameters["images"])]
_turn = itertools.cycle(_images)


def next_request() -> tuple[str, str, dict[str, Any]]:
    """Returns method, path and keywords of `requests.request` of the next request."""
    return "post", _path, {"data": next(_turn), "headers": _headers}

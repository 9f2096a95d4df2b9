"""A client whose headers, parameters and JSON are others each time."""

from itertools import count

_numbers = count()


def next_request():
    number = next(_numbers)
    keywords = {
        "headers": {"X-Session": f"session-{number}"},
        "params": {"page": number, "size": 20},
        "json": {"order": number, "items": [1, 2, 3]},
    }
    return "POST", "/orders", keywords

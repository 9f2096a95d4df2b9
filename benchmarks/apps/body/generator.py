"""A client whose path and body are others each time."""

from itertools import count

_numbers = count()


def next_request():
    number = next(_numbers)
    return "POST", f"/orders/{number}", {"data": b'{"order": %d, "items": [1, 2, 3]}' % number}

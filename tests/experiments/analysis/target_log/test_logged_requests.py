"""The number of lines per request is recognised, and a request that was received twice is not hidden."""

from __future__ import annotations

import pytest

from experiments.analysis.target_log.logged_ids import LoggedIds
from experiments.analysis.target_log.logged_requests import LoggedRequests

NGINX = b'127.0.0.1 - - "GET / HTTP/1.1" 200 2'
STARTED, ENDED = b'Started GET "/"', b"Completed 200 OK in 3ms"


def logged(*lines: tuple[int, bytes], hop: int = 0) -> LoggedIds:
    """The ids of a log: the sequence of each line's request, and its text."""
    ids = LoggedIds()
    for sequence, text in lines:
        ids.add(0, sequence, hop, text)
    return ids


def each(*texts: bytes, requests: int = 20, hop: int = 0) -> LoggedIds:
    return logged(*((sequence, text) for sequence in range(requests) for text in texts), hop=hop)


@pytest.mark.parametrize(
    ("logs", "lines"),
    [
        ([each(NGINX)], 1),
        ([each(STARTED, ENDED)], 2),
        ([each(STARTED, b"Processing by HomeController", ENDED)], 3),
        ([each(NGINX), each(b"app handled")], 2),  # a proxy and its application
        ([each(NGINX), each(STARTED, ENDED)], 3),
        ([each(NGINX, requests=7), logged(*((n, NGINX) for n in range(7, 20)))], 1),  # two instances
        ([each(STARTED, ENDED), each(STARTED, ENDED, hop=1)], 2),  # requests after a redirect
        ([each(STARTED, ENDED), logged((20, STARTED), (21, STARTED))], 2),  # two without a response
        ([each(NGINX), each(NGINX, requests=3)], 1),  # three of them received twice
        ([each(NGINX), each(NGINX)], 2),  # two nginx in a row
        ([each(NGINX), each(NGINX), each(NGINX)], 3),
        ([each(STARTED, ENDED), each(STARTED, ENDED)], 4),
        ([each(NGINX), each(NGINX), logged((20, NGINX))], 2),  # the first of them answers one itself
        ([each(NGINX, NGINX)], 1),  # all of them received twice
        ([each(NGINX, NGINX), each(b"app handled")], 1),
        ([each(NGINX, b'127.0.0.2 - - "GET / HTTP/1.1" 500 21')], 1),
        ([each(STARTED, ENDED, STARTED, ENDED)], 2),
        ([LoggedIds()], 1),
        ([], 1),
    ],
)
def test_usual_number_of_lines_is_recognised(logs, lines):
    assert LoggedRequests(logs).usual_lines() == lines


@pytest.mark.parametrize(
    ("logs", "number"),
    [
        ([each(NGINX)], 1),
        ([each(NGINX, NGINX)], 1),
        ([each(NGINX), each(b"app handled")], 1),
        ([each(NGINX), each(NGINX, requests=3)], 1),
        ([each(NGINX), each(NGINX)], 2),
        ([each(NGINX), each(b"app handled"), each(NGINX)], 2),
        ([each(STARTED, ENDED), each(STARTED, ENDED)], 2),
        ([], 1),
    ],
)
def test_logs_with_the_same_lines_are_counted(logs, number):
    assert LoggedRequests(logs).logs_of_a_statement() == number


def test_request_in_more_lines_than_usual_is_a_duplicate():
    requests = LoggedRequests([each(STARTED, ENDED), logged((3, STARTED), (3, ENDED), (7, STARTED))])
    assert requests.usual_lines() == 2
    assert requests.in_more_lines_than(2).tolist() == [3, 7]
    assert not requests.are_all_in(2)


def test_request_without_its_last_line_is_no_duplicate():
    requests = LoggedRequests([each(STARTED, ENDED), logged((20, STARTED))])
    assert requests.in_more_lines_than(requests.usual_lines()).tolist() == []
    assert not requests.are_all_in(2)
    assert LoggedRequests([each(STARTED, ENDED)]).are_all_in(2)


def test_redirects_are_requests_of_their_arrivals():
    hops = logged((1, NGINX), (1, NGINX), (5, NGINX), hop=1)
    requests = LoggedRequests([each(NGINX, requests=2), hops])
    assert (requests.keys.tolist(), requests.first_keys().tolist(), requests.lines) == ([0, 1, 5], [0, 1], 2)
    assert requests.in_more_lines_than(1).tolist() == [1]


def test_logs_without_ids_have_no_requests():
    assert LoggedRequests([LoggedIds(), LoggedIds()]).is_empty
    assert not LoggedRequests([each(NGINX)]).is_empty

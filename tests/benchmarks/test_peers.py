"""What the peers print, and what is read from it."""

import json

import pytest

from benchmarks.peers import PeerFailed, read_hey, read_locust, read_wrk

WRK = """Running 1s test @ http://127.0.0.1:31446/
  1 threads and 5 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.93ms    1.56ms  10.56ms   86.23%
    Req/Sec    29.67k     6.05k   39.84k    70.00%
  29894 requests in 1.01s, 4.28MB read
Requests/sec:  29456.11
Transfer/sec:      4.21MB
"""
HEY = """
Summary:
  Total:	1.0006 secs
  Requests/sec:	9114.8989

Status code distribution:
  [200]	9120 responses
"""


def locust(**changes):
    entry = {"num_requests": 2464, "num_failures": 0, "start_time": 100.0, "last_request_timestamp": 102.0, **changes}
    return json.dumps([entry, {**entry, "num_requests": 36, "start_time": 100.5}])


def test_each_peers_rate_is_read():
    assert read_wrk(WRK) == 29456.11
    assert read_hey(HEY) == 9114.8989
    assert read_locust(locust()) == 2500 / 2


@pytest.mark.parametrize(
    "line", ["  Socket errors: connect 0, read 3, write 0, timeout 0", "  Non-2xx or 3xx responses: 29894"]
)
def test_a_wrk_that_saw_errors_has_no_rate(line):
    with pytest.raises(PeerFailed, match=line.strip()):
        read_wrk(WRK.replace("Requests/sec", f"{line}\nRequests/sec"))


@pytest.mark.parametrize(
    "text",
    [
        HEY.replace("[200]", "[404]"),
        HEY + "  [500]	2 responses\n",
        HEY + "\nError distribution:\n  [3]	connection refused\n",
        HEY.replace("Requests/sec", "nothing"),
    ],
)
def test_a_hey_that_saw_errors_has_no_rate(text):
    with pytest.raises(PeerFailed):
        read_hey(text)


@pytest.mark.parametrize(
    "text", [locust(num_failures=1), locust(last_request_timestamp=100.0), "[]", "[{}]", "Traceback"]
)
def test_a_locust_that_saw_errors_has_no_rate(text):
    with pytest.raises(PeerFailed):
        read_locust(text)

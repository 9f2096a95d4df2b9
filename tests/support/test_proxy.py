"""The tests' own proxy does to connections what it says."""

import contextlib
import socket
import threading
import time

import pytest

from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow


@pytest.fixture
def echo():
    """The port of a server that sends back what it gets, and closes when its client does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = []

        def answer(connection):
            with connection, contextlib.suppress(OSError):
                while data := connection.recv(65536):
                    connection.sendall(data)

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threads.append(threading.Thread(target=answer, args=(server.accept()[0],)))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        accepting.join(5)
        for thread in threads:
            thread.join(5)


@pytest.fixture
def proxy(echo):
    with Proxy(echo) as running:
        yield running


def connect(proxy):
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def exchange(connection, data=b"hello"):
    connection.sendall(data)
    received = b""
    while len(received) < len(data):
        received += connection.recv(65536)
    return received


def hears_nothing(connection, within_s=0.3):
    connection.settimeout(within_s)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(5)


def test_bytes_pass_both_ways_unchanged(proxy):
    with connect(proxy) as one, connect(proxy) as other:
        data = bytes(range(256)) * 2000
        assert exchange(one, data) == data
        assert exchange(other) == b"hello"


def test_a_close_passes(proxy):
    with connect(proxy) as connection:
        exchange(connection)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_cut_resets_and_refuses_connections_until_healed(proxy):
    with connect(proxy) as connection:
        exchange(connection)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)
    proxy.heal()
    with connect(proxy) as connection:
        assert exchange(connection) == b"hello"


def test_black_hole_accepts_and_keeps_data_until_healed(proxy):
    with connect(proxy) as old:
        exchange(old)
        proxy.black_hole()
        with connect(proxy) as new:
            for connection in (old, new):
                connection.sendall(b"hello")
                assert hears_nothing(connection)
            proxy.heal()
            assert old.recv(5) == new.recv(5) == b"hello"


def test_connection_abandoned_in_a_black_hole_never_arrives(proxy):
    proxy.black_hole()
    with connect(proxy) as connection:
        connection.sendall(b"never")
    proxy.heal()
    with connect(proxy) as connection:
        assert exchange(connection) == b"hello"
    assert proxy.connections() <= 1


def test_frozen_connections_stay_open_while_new_ones_work(proxy):
    with connect(proxy) as old:
        exchange(old)
        proxy.freeze_established()
        proxy.heal()
        old.sendall(b"hello")
        with connect(proxy) as new:
            assert exchange(new) == b"hello"
            assert hears_nothing(old)
        old.sendall(b"still open")


def test_a_delay_is_that_of_both_ways_and_keeps_the_order(proxy):
    with connect(proxy) as connection:
        proxy.delay(0.2)
        before_s = time.monotonic()
        for number in range(10):
            connection.sendall(b"%d" % number)
        received = b""
        while len(received) < 10:
            received += connection.recv(64)
        assert time.monotonic() - before_s >= 0.4
        assert received == b"0123456789"


def test_a_target_that_is_away_closes_the_connection():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with Proxy(nobody.getsockname()[1]) as proxy, connect(proxy) as connection:
            assert connection.recv(1) == b""

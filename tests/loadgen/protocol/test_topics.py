"""Telemetry and events as they are written on the wire, by us and by others."""

import pytest

from loadgen.protocol import topics
from loadgen.protocol.codec import MessageError
from loadgen.protocol.topics import Mark, Sample, parse_mark, parse_sample, sample_text, telemetry_channel

NS = 1_000_000_000


def test_what_we_write_is_what_is_read() -> None:
    channel = telemetry_channel("pi-1", "rd", "sda")
    text = sample_text(1_700_000_000 * NS + 5_000, 12.5)

    assert (channel, text) == ("telem/pi-1/rd/sda", "1700000000.000005 12.500000")
    assert parse_sample(channel.encode(), text.encode()) == Sample(
        "pi-1", "rd", "sda", 1_700_000_000 * NS + 5_000, 12.5
    )


@pytest.mark.parametrize(
    ("channel", "payload", "sample"),
    [
        (b"telem/pi/cpu", b"1700000000.5 7", Sample("pi", "cpu", "", 1_700_000_000_500_000_000, 7.0)),
        (b"telem/pi/cpu", b"1700000000 -1.5e3", Sample("pi", "cpu", "", 1_700_000_000 * NS, -1500.0)),
        (b"telem/pi/cpu", b"1700000000.123456789987 1", Sample("pi", "cpu", "", 1_700_000_000_123_456_789, 1.0)),
        (b"telem/pi/status", b"1700000000. true", Sample("pi", "status", "", 1_700_000_000 * NS, 1.0)),
        (b"telem/pi/status", b"1700000000 false\n", Sample("pi", "status", "", 1_700_000_000 * NS, 0.0)),
        (b"telem/pi/cgrp/a/b", b"0 1", Sample("pi", "cgrp", "a/b", 0, 1.0)),
        ("telem/Gerät 1/cpu".encode(), b"1 1", Sample("Gerät 1", "cpu", "", NS, 1.0)),
    ],
)
def test_samples_of_other_tools_are_read_to_the_last_digit(channel: bytes, payload: bytes, sample: Sample) -> None:
    assert parse_sample(channel, payload) == sample


@pytest.mark.parametrize(
    ("channel", "payload", "field"),
    [
        (b"telem/", b"1 1", "node"),
        (b"telem//cpu", b"1 1", "node"),
        (b"telem/pi", b"1 1", "metric"),
        (b"telem/pi/", b"1 1", "metric"),
        (b"telem/pi/c\0u", b"1 1", "metric"),
        (b"telem/pi/cpu/a\nb", b"1 1", "subsystem"),
        (b"telem/" + b"n" * 192 + b"/cpu", b"1 1", "node"),
        (b"telem/pi/" + b"m" * 64, b"1 1", "metric"),
        (b"telem/pi/cpu/" + b"s" * 192, b"1 1", "subsystem"),
        (b"telem/\xff/cpu", b"1 1", "channel"),
        (b"telem/pi/cpu", b"", "timestamp"),
        (b"telem/pi/cpu", b"now 1", "timestamp"),
        (b"telem/pi/cpu", b"-1 1", "timestamp"),
        (b"telem/pi/cpu", b"nan 1", "timestamp"),
        (b"telem/pi/cpu", b"1e9 1", "timestamp"),
        (b"telem/pi/cpu", b"1700000000000 1", "timestamp"),  # milliseconds
        (b"telem/pi/cpu", b"9999999999 1", "timestamp"),
        (b"telem/pi/cpu", "١٢ 1".encode(), "timestamp"),
        (b"telem/pi/cpu", b"1", "value"),
        (b"telem/pi/cpu", b"1 ", "value"),
        (b"telem/pi/cpu", b"1 much", "value"),
        (b"telem/pi/cpu", b"1 nan", "value"),
        (b"telem/pi/cpu", b"1 inf", "value"),
        (b"telem/pi/cpu", b"1 1e999", "value"),
        (b"telem/pi/cpu", b"1 1 2", "value"),
        (b"telem/pi/cpu", b"1 \xff", "payload"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused_with_the_field(channel: bytes, payload: bytes, field: str) -> None:
    with pytest.raises(MessageError, match=f"^{field}: "):
        parse_sample(channel, payload)


@pytest.mark.parametrize(
    ("payload", "mark"),
    [
        (b"1700000000.25 scaled-up", Mark(1_700_000_000_250_000_000, "scaled-up")),
        (b"1700000000 scaled squeezenet 3", Mark(1_700_000_000 * NS, "scaled", "squeezenet 3")),
        (b'1 note {"a":\n 1}', Mark(NS, "note", '{"a":\n 1}')),
    ],
)
def test_events_have_a_name_and_perhaps_a_value(payload: bytes, mark: Mark) -> None:
    assert parse_mark(payload) == mark


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"", "timestamp"),
        (b"scaled-up", "timestamp"),
        (b"1", "name"),
        (b"1  value", "name"),
        (b"1 " + b"n" * 192, "name"),
        (b"1 a\tb", "name"),
        (b"1 name a\0b", "value"),
        (b"1 name " + b"v" * (topics.MAX_EVENT_VALUE + 1), "value"),
        (b"1 name \xff", "payload"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused_with_the_field(payload: bytes, field: str) -> None:
    with pytest.raises(MessageError, match=f"^{field}: "):
        parse_mark(payload)

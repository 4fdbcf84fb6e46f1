"""What is kept of a step's output for those that take its failure."""

from __future__ import annotations

from minibuild.engine.failures import Log

MIB = 1 << 20


def text(log: Log) -> bytes:
    return b"".join(text.encode("utf-8", "surrogateescape") for _, text in log.pieces())


def test_the_streams_stay_apart_and_in_order() -> None:
    log = Log()
    for stream, data in ((1, b"a"), (1, b"b\n"), (2, b"c\n"), (1, b"d\n")):
        log.add(stream, data)
    assert log.pieces() == ((1, "ab\n"), (2, "c\n"), (1, "d\n"))


def test_bytes_that_are_no_text_stay_what_they_are() -> None:
    log = Log()
    log.add(1, b"\xff\xc3")
    log.add(1, b"\xa9\0")
    assert text(log) == b"\xff\xc3\xa9\0"


def test_of_a_long_output_the_end_is_kept() -> None:
    log = Log()
    lines = [b"%09d\n" % number for number in range(400_000)]
    for line in lines:
        log.add(1, line)
    kept = text(log)
    assert MIB // 2 < len(kept) <= MIB
    assert b"".join(lines).endswith(kept) and log.left_out == 4_000_000 - len(kept)


def test_a_long_output_in_one_piece_is_bounded_too() -> None:
    log = Log()
    log.add(1, b"x" * (3 * MIB))
    log.add(2, b"end\n")
    assert len(text(log)) <= MIB and text(log).endswith(b"end\n")


def test_many_changes_between_the_streams_take_no_more_room() -> None:
    log = Log()
    for number in range(100_000):
        log.add(1 + number % 2, b"x")
    assert len(log.pieces()) < 10_000 and log.left_out + len(text(log)) == 100_000

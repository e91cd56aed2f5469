from __future__ import annotations

import pytest

from waypost.net.head import HeadReader


def lines(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True)


def test_lines_are_the_same_when_they_are_remembered() -> None:
    reader = HeadReader()
    text = lines(b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\na:3\r\nnonsense\r\n\r\n")
    first, second = reader.read(text), reader.read(text)
    assert first == second
    assert first == {"a": "1, 3", "b": "2"}


def test_more_lines_than_are_remembered() -> None:
    reader = HeadReader()
    for number in range(10_000):
        assert reader.read(lines(f"HTTP/2 204\r\nx-id: {number}\r\n\r\n".encode())) == {"x-id": str(number)}
    assert len(reader._known) <= 4096


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue", b"HTTP/1.1 103\tHints", b"HTTP/1.1 199", b"HTTP/2 103 "])
def test_the_final_head_counts_with_its_trailers(end: bytes, interim: bytes) -> None:
    text = end.join(
        [interim, b"x: 0", b"HTTP/1.1: trap", b"", b"HTTP/1.1 500 No", b"a: 1", b"HTTP/2: 2", b"", b"after: 3", b""]
    )
    assert HeadReader().read(lines(text)) == {"a": "1", "http/2": "2", "after": "3"}


def test_a_head_that_never_came_has_no_headers() -> None:
    assert HeadReader().read([]) == {}
    assert HeadReader().read(lines(b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n")) == {}


def test_a_long_line_is_not_remembered() -> None:
    reader = HeadReader()
    assert list(reader.read(lines(b"HTTP/1.1 200 OK\r\na: 1\r\nlong: " + b"x" * 600 + b"\r\n\r\n"))) == ["a", "long"]
    assert all(len(line) < 300 for line in reader._known)

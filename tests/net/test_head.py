from __future__ import annotations

from waypost.net.head import HeadReader


def lines(text: bytes) -> list[bytes]:
    return text.splitlines(keepends=True)


def test_lines_are_the_same_when_they_are_remembered() -> None:
    reader = HeadReader(1000)
    text = lines(b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\na:3\r\nnonsense\r\n\r\n")
    first, second = reader.read(text), reader.read(text)
    assert first == second
    assert (first.status, first.version, first.headers, first.cut) == (200, "1.1", {"a": "1, 3", "b": "2"}, False)


def test_more_lines_than_are_remembered() -> None:
    reader = HeadReader(1000)
    for number in range(10_000):
        head = reader.read(lines(f"HTTP/2 204\r\nx-id: {number}\r\n\r\n".encode()))
        assert head.headers == {"x-id": str(number)}
    assert (head.status, head.version) == (204, "2")


def test_trailers_and_interim_heads() -> None:
    text = b"HTTP/1.1 100 Continue\r\nx: 0\r\n\r\nHTTP/1.1 500 No\r\na: 1\r\n\r\nafter: 2\r\n"
    head = HeadReader(1000).read(lines(text))
    assert (head.status, head.headers) == (500, {"a": "1", "after": "2"})


def test_a_long_line_is_not_remembered_and_the_cap_holds() -> None:
    reader = HeadReader(700)
    head = reader.read(
        lines(b"HTTP/1.1 200 OK\r\na: 1\r\nlong: " + b"x" * 600 + b"\r\nb: " + b"y" * 100 + b"\r\nc: 3\r\n\r\n")
    )
    assert list(head.headers) == ["a", "long"]
    assert head.cut
    assert all(len(line) < 300 for line in reader._known)

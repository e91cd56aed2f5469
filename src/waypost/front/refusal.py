"""The answers that a connection gives by itself."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
RETRY_AFTER_SECONDS = 1


class Refusal(Exception):
    """Why a request is not taken. The connection ends with it (RFC 9112, 9.6)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    def answer(self) -> bytes:
        """The whole answer, as every other error of the API is written."""
        body = msgspec.json.encode({"status": self.status, "message": str(self)})
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n" % len(body)
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            head += b"retry-after: %d\r\n" % RETRY_AFTER_SECONDS
        return LINES[self.status] + head + b"\r\n" + body


NO_ROOM = Refusal(503, "too many connections").answer()

"""What a connection's end tells: whether its peer can have read what was sent last."""

from __future__ import annotations

import errno
import socket
import struct
import sys

from msgspec import Struct

_STATE, _UNACKED, _INFO_SIZE = 0, 24, 104
"""Where Linux's `struct tcp_info` has the state, and how many segments were sent and not acknowledged."""
_CLOSE, _CLOSE_WAIT = 7, 8

Local = tuple[str, int]


class End(Struct, frozen=True):
    """`unread`: the peer provably never had all that was sent. `errno` is the socket's error, which asking clears."""

    unread: bool
    errno: int


def local_address(descriptor: int) -> Local | None:
    """The own address of a connection; None for what is none."""
    try:
        connection = socket.socket(fileno=descriptor)
    except OSError:
        return None  # closed by what happened on another one in the same turn
    try:
        host, port = connection.getsockname()[:2]
    except (OSError, ValueError):
        return None
    else:
        return host, port
    finally:
        connection.detach()


def end_of(descriptor: int) -> End:
    """Look at a connection that its peer has ended.

    Nothing was read if the peer has closed (FIN) and its last word acknowledged less than was sent; or if what was sent
    after its close was answered with a reset. Linux tells that from a reset out of the blue: it is EPIPE and not
    ECONNRESET.
    """
    if sys.platform != "linux":
        return End(unread=False, errno=0)
    connection = socket.socket(fileno=descriptor)
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_SIZE)
        state, unacked = info[_STATE], struct.unpack_from("=I", info, _UNACKED)[0]
        error = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    except OSError:
        return End(unread=False, errno=0)
    finally:
        connection.detach()
    return End((state == _CLOSE_WAIT and unacked > 0) or (state == _CLOSE and error == errno.EPIPE), error)

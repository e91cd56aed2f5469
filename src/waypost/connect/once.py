"""By what a service that drops repetitions knows a message."""

from __future__ import annotations

from waypost.connect.connector import Message


def delivery_id(destination_no: int, message: Message) -> str:
    """The id of what one destination is to get once: the same for each try, another for each attempt made by hand.

    An event's own id would not do: tenants choose them, and several destinations may lead into one queue or stream.
    """
    attempt = f"-{message.attempt}" if message.manual else ""
    return f"wp-{message.event.seq:x}-{destination_no:x}{attempt}"

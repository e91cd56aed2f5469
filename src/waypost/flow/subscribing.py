"""What a destination takes: `topics` and `filter` where it has one subscription, `subscriptions` where it has more.

A request speaks of one or the other. What it sends back unchanged, as it was shown, is no contradiction.
"""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from waypost.core import topics as topic_names
from waypost.core.model import Destination, Subscription
from waypost.flow.draft import MOST_PATTERNS, Draft, sent

_BESIDE = "cannot be set beside subscriptions, each of which has its own; `subscriptions: null` removes these"


class Taken(Struct, frozen=True, kw_only=True):
    """The parts of a destination that say which events it takes."""

    topics: tuple[str, ...]
    filter: dict[str, object] | None
    subscriptions: tuple[Subscription, ...]


def taken(old: Destination | None, draft: Draft, problems: list[str]) -> Taken:
    """What stands after a change; what is wrong with the change goes to `problems`."""
    standing = old.subscriptions if old is not None else ()
    subscriptions = standing if isinstance(draft.subscriptions, UnsetType) else draft.subscriptions
    if subscriptions:
        return _several(subscriptions, draft, problems)
    if standing and isinstance(draft.topics, UnsetType):
        problems.append("topics is required to take the place of the subscriptions")
    kept = old.filter if old is not None else None
    return Taken(
        topics=sent(draft.topics, () if old is None else old.topics),
        filter=kept if isinstance(draft.filter, UnsetType) else draft.filter,
        subscriptions=(),
    )


def _several(subscriptions: tuple[Subscription, ...], draft: Draft, problems: list[str]) -> Taken:
    union = topic_names.union(pattern for subscription in subscriptions for pattern in subscription.topics)
    if len(union) > MOST_PATTERNS:
        problems.append(f"subscriptions must have at most {MOST_PATTERNS} different topics")
    if draft.topics is not UNSET and topic_names.union(sent(draft.topics, ())) != union:
        problems.append(f"topics {_BESIDE}")
    if sent(draft.filter, None) is not None:
        problems.append(f"filter {_BESIDE}")
    return Taken(topics=union, filter=None, subscriptions=subscriptions)

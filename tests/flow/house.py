"""A whole Waypost but for its HTTP skin, over a real store, with receivers that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from tests.store.builders import OPERATOR, destination
from tests.store.conftest import new_file
from waypost.connect.channel import ChannelConnection, ChannelType, Notice
from waypost.connect.connector import Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.registry import Registry
from waypost.core.alerts import Channel, Rule
from waypost.core.model import DeliveryState, Destination, Event
from waypost.core.retry import RetryPolicy
from waypost.flow import clock
from waypost.flow.aftermath import Aftermath
from waypost.flow.attempt import Attempts
from waypost.flow.deliver import Bounds, Dispatcher
from waypost.flow.directory import Directory
from waypost.flow.live import Bounds as StreamBounds
from waypost.flow.live import Live
from waypost.flow.notices import Writer
from waypost.flow.notify import Effort, Notifier, Senders
from waypost.flow.publish import Publisher
from waypost.flow.replay import Replayer
from waypost.flow.trouble import Bounds as TroubleBounds
from waypost.flow.trouble import Trouble
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import SystemResolver
from waypost.observe.logs import Journal, NullJournal
from waypost.observe.metrics import PrometheusMetrics
from waypost.observe.telemetry import Options, telemetry_of
from waypost.store.alerting import Entry
from waypost.store.base import AttemptQuery, Page, StoredAttempt
from waypost.store.sqlite import SqliteStore
from waypost.store.vault import Vault

FAST = RetryPolicy(schedule=(0.01, 0.01, 0.01), jitter=0)


class Receivers:
    """What the scripted destinations saw, and how they behave: by destination id, else everything succeeds."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Message]] = []
        self.behaviour: dict[str, Callable[[Message], Any]] = {}
        self.opened: list[Destination] = []
        self.closed: list[Destination] = []

    def ids(self, of: str) -> list[str]:
        return [message.event.id for name, message in self.seen if name == of]


def scripted(receivers: Receivers) -> type[DestinationType]:
    class ScriptedConnection:
        def __init__(self, to: Destination) -> None:
            self._to = to

        async def send(self, message: Message) -> Receipt:
            receivers.seen.append((self._to.id, message))
            behave = receivers.behaviour.get(self._to.id)
            came = None if behave is None else behave(message)
            if asyncio.iscoroutine(came):
                await came
            return Receipt(code="ack", response={"secret": self._to.credentials["secret"]})

        async def verify(self) -> None:
            pass

        async def close(self) -> None:
            receivers.closed.append(self._to)

    class Scripted(DestinationType):
        type = "webhook"
        label = description = icon = instructions = "scripted"

        def target(self, destination: Destination) -> tuple[str, str | None]:
            return destination.id, None

        async def connect(self, destination: Destination, tools: Tools) -> Connection:
            receivers.opened.append(destination)
            return ScriptedConnection(destination)

    return Scripted


class Pagers:
    """What the alert channels were told, and how they behave: by channel name, else everything is taken."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Notice]] = []
        self.behaviour: dict[str, Callable[[Notice], Any]] = {}

    def topics(self, of: str) -> list[str]:
        return [notice.topic for name, notice in self.seen if name == of]


def pager_type(pagers: Pagers) -> type[ChannelType]:
    class PagerConnection:
        def __init__(self, channel: Channel) -> None:
            self._name = channel.name

        async def send(self, notice: Notice) -> Receipt:
            pagers.seen.append((self._name, notice))
            behave = pagers.behaviour.get(self._name)
            came = None if behave is None else behave(notice)
            if asyncio.iscoroutine(came):
                await came
            return Receipt(code="ok")

        async def close(self) -> None:
            pass

    class Pager(ChannelType):
        type = "pager"
        label = description = icon = instructions = "scripted"

        def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
            return "a pager"

        async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
            return PagerConnection(channel)

    return Pager


class House:
    def __init__(
        self,
        folder: Path,
        receivers: Receivers,
        bounds: Bounds,
        policy: RetryPolicy,
        attempt_timeout: float = 30.0,
        otel: Options | None = None,
        journal: Journal | None = None,
        rules: Sequence[Rule] = (),
        effort: Effort | None = None,
        stream: StreamBounds | None = None,
    ) -> None:
        guard, resolver = AddressGuard(), SystemResolver()
        tools = Tools(http=HttpClient(HttpSettings(), resolver, guard), guard=guard, resolver=resolver, options={})
        self.receivers = receivers
        self.sequence = clock.Sequence()
        self.metrics = PrometheusMetrics()
        self.telemetry = telemetry_of(otel or Options(), journal or NullJournal(), self.metrics)
        self.tracer, journal = self.telemetry.tracer, self.telemetry.journal
        self.trouble = Trouble(self.metrics, TroubleBounds(window=0.5))
        self.store = SqliteStore(
            new_file(folder),
            Vault([bytes(32)]),
            clock=clock.now,
            next_seq=clock.Sequence().next,
            rules=rules,
            busy_timeout=0.05,
            observer=self.trouble,
        )
        registry = Registry(iter([scripted(receivers)]))
        attempts = Attempts(
            registry=registry,
            tools=tools,
            policy=policy,
            sequence=self.sequence,
            timeout=attempt_timeout,
            tracer=self.tracer,
        )
        self.pagers = Pagers()
        effort = effort or Effort(look_interval=0.05, shutdown=0.2)
        self.writer = writer = Writer(registry)
        self.senders = senders = Senders({"pager": pager_type(self.pagers)()}, tools, timeout=effort.timeout)
        self.notifier = Notifier(self.store, senders, writer, self.metrics, effort=effort)
        self.trouble.attach(self.store, senders, writer, tuple(rules))
        aftermath = Aftermath(self.store, self.notifier, self.metrics, self.changed)
        self.live = Live(stream)
        self.dispatcher = Dispatcher(
            self.store, attempts, self.metrics, journal, bounds=bounds, listener=aftermath, live=self.live
        )
        self.directory = Directory(self.store)
        self.publisher = Publisher(
            self.store, self.directory, self.dispatcher, self.metrics, journal, self.tracer, live=self.live
        )
        self.replayer = Replayer(self.store, self.dispatcher.ask, self.dispatcher.ring)

    async def start(self) -> None:
        await self.store.open()
        await self.store.put_tenant("acme", None, now=clock.now())
        await self.trouble.start()
        await self.notifier.start()
        await self.dispatcher.start()

    def changed(self, tenant_id: str, destination_no: int | None = None) -> None:
        self.directory.forget(tenant_id)
        self.dispatcher.changed(tenant_id, destination_no)

    async def close(self) -> None:
        await self.dispatcher.close()
        await self.notifier.close()
        await self.trouble.close()
        await self.store.close()
        await asyncio.to_thread(self.telemetry.close)

    async def add(self, name: str = "des_1", tenant: str = "acme", **changes: Any) -> Destination:
        await self.store.put_tenant(tenant, None, now=clock.now())
        added = await self.store.add_destination(destination(tenant, name, **changes), limit=1000)
        self.directory.forget(tenant)
        return added

    async def add_channel(self, name: str = "ops", **changes: Any) -> Channel:
        plain = Channel(
            no=0,
            id=f"chn_{name}",
            owner=None,
            type="pager",
            name=name,
            config={},
            credentials={},
            created_at=clock.now(),
            updated_at=clock.now(),
        )
        entry = Entry(actor=OPERATOR, action="alert_channel.create", tenant_id=None, subject=name)
        added = await self.store.alerting.add_channel(structs.replace(plain, **changes), entry, limit=100)
        await self.trouble.learn()
        return added

    async def told(self, count: int, of: str = "ops") -> list[str]:
        """The topics that a channel was told, once they are that many."""
        async with asyncio.timeout(10):
            while len(self.pagers.topics(of)) < count:
                await asyncio.sleep(0.005)
        return self.pagers.topics(of)

    async def change(self, old: Destination, **changes: Any) -> Destination:
        changed = await self.store.replace_destination(structs.replace(old, **changes))
        assert changed is not None
        self.changed(old.tenant_id, old.no)
        return changed

    async def publish(self, tenant: str = "acme", **changes: Any) -> Event:
        seq = self.sequence.next()
        new = Event(seq=seq, id=f"evt_{seq}", tenant_id=tenant, topic="order.created", time=clock.now(), data=b"{}")
        new = structs.replace(new, **changes)
        await self.publisher.publish(new)
        return new

    async def attempts(self, of: Event) -> list[StoredAttempt]:
        """Oldest first."""
        found = await self.store.attempts(AttemptQuery(event_ids=(of.id,)), Page(limit=100))
        return list(found.items)[::-1]

    async def state(self, of: Event, to: Destination) -> DeliveryState:
        return (await self.store.delivery_states(of.seq))[to.id]

    async def until(self, of: Event, to: Destination, state: DeliveryState) -> None:
        async with asyncio.timeout(10):
            while await self.state(of, to) is not state:
                await asyncio.sleep(0.005)

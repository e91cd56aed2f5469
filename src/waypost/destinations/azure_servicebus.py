"""Azure Service Bus: queues and topics, over HTTPS with a shared access signature."""

from __future__ import annotations

from typing import ClassVar

from waypost.connect.azure_bus import BusConnection, Item, Service, access_problems, rendered
from waypost.connect.connector import Connection, DestinationType, Message, Tools
from waypost.connect.fields import Field
from waypost.connect.once import delivery_id
from waypost.connect.template import LONGEST_TEMPLATE, compile_template, template_problems
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination

_LONGEST_NAME = 260
_LONGEST_KEY = 128
"""Characters of a message id, a session id and a partition key."""

_SERVICE = Service(name="Service Bus", entity="queue or topic", missing="no_such_queue", api_version="2021-05")


class AzureServiceBusType(DestinationType):
    type: ClassVar[str] = "azure_servicebus"
    label: ClassVar[str] = "Azure Service Bus"
    description: ClassVar[str] = "Send events to a Service Bus queue or topic."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round">'
        '<rect x="3" y="8" width="18" height="8" rx="2"/>'
        '<path d="M8 8v8M13 8v8M6 20h12M6 4h12"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In the Azure portal, open your Service Bus namespace and create the queue or topic, or choose one.
2. On the queue or topic (better than on the whole namespace), open **Shared access policies** and add a policy with the
   right **Send** alone.
3. Copy the policy's primary **connection string** whole, and the name of the queue or topic.

With the Azure CLI:

```sh
az servicebus queue authorization-rule create --resource-group GROUP --namespace-name NAMESPACE \\
  --queue-name orders --name waypost --rights Send
az servicebus queue authorization-rule keys list --resource-group GROUP --namespace-name NAMESPACE \\
  --queue-name orders --name waypost --query primaryConnectionString
```

The message's body is the event's data as it was published; its content type is `application/json`, its subject (label)
the event's topic. With **duplicate detection** on the queue, Service Bus drops what this destination repeats, by the
message id; what is sent again by hand has another. The metadata (`timestamp`, `event-id`, `topic` and more) are
application properties.

A queue or topic with **sessions** needs a session id template. Messages are sent over HTTPS (port 443), in batches
where several are waiting.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="name",
            label="Queue or topic",
            description="The name of the queue or topic.",
            required=True,
            maxlength=_LONGEST_NAME,
            pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._/~-]*[A-Za-z0-9_])?",
            pattern_hint="letters, digits and . - _ / between them",
            placeholder="orders",
        ),
        Field(
            key="session_id_template",
            label="Session id",
            description="Makes each message's session id from the event, e.g. `data.customer.id`.",
            advanced=True,
            maxlength=LONGEST_TEMPLATE,
            placeholder="data.customer.id",
        ),
        Field(
            key="partition_key_template",
            label="Partition key",
            description="Makes each message's partition key from the event; not together with a session id.",
            advanced=True,
            maxlength=LONGEST_TEMPLATE,
            placeholder="data.customer.id",
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="connection_string",
            label="Connection string",
            description="Of a shared access policy with the right to send.",
            required=True,
            sensitive=True,
            maxlength=4_096,
            placeholder="Endpoint=sb://NAMESPACE.servicebus.windows.net/;SharedAccessKeyName=...;SharedAccessKey=...",
        ),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        session, partition = config.get("session_id_template"), config.get("partition_key_template")
        both = ["config.partition_key_template must be left out where there is a session_id_template"]
        return [
            *access_problems(credentials["connection_string"], config["name"], tools),
            *template_problems("config.session_id_template", session),
            *template_problems("config.partition_key_template", partition),
            *(both if session and partition else []),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["name"], None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        config = destination.config
        rendering = _Rendering(destination.no, config.get("session_id_template"), config.get("partition_key_template"))
        return BusConnection.of(_SERVICE, destination, tools, rendering)


class _Rendering:
    def __init__(self, destination_no: int, session_id: str | None, partition_key: str | None) -> None:
        self._destination_no = destination_no
        self._keys = {
            name: compile_template(text, field=name)
            for name, text in (("SessionId", session_id), ("PartitionKey", partition_key))
            if text
        }

    def __call__(self, message: Message) -> Item:
        keys = {name: _key(name, template(message)) for name, template in self._keys.items()}
        own = {"MessageId": delivery_id(self._destination_no, message), "Label": message.event.topic}
        broker = {**own, "ContentType": "application/json", **keys}
        return rendered(message, broker, "".join(keys.values()))


def _key(name: str, key: str) -> str:
    """Raises DeliveryError for a key that Service Bus does not take."""
    if len(key) > _LONGEST_KEY:
        sentence = f"The {name} that the template makes is longer than {_LONGEST_KEY} characters"
        raise DeliveryError("template_failed", sentence, retryable=False)
    return key

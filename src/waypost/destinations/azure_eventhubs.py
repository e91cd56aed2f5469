"""Azure Event Hubs over HTTPS with a shared access signature."""

from __future__ import annotations

from typing import ClassVar

from waypost.connect.azure_bus import BusConnection, Item, Service, access_problems, rendered
from waypost.connect.connector import Connection, DestinationType, Message, Tools
from waypost.connect.fields import Field
from waypost.connect.template import LONGEST_TEMPLATE, Template, compile_template, template_problems
from waypost.core.model import Destination

_LONGEST_NAME = 256
_SERVICE = Service(name="Event Hubs", entity="event hub", missing="no_such_event_hub", api_version="2014-01")


class AzureEventHubsType(DestinationType):
    type: ClassVar[str] = "azure_eventhubs"
    label: ClassVar[str] = "Azure Event Hubs"
    description: ClassVar[str] = "Send events to an event hub."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><circle cx="12" cy="12" r="3"/>'
        '<path d="M3 6h4l2.5 3.5M3 18h4l2.5-3.5M15 12h6M18 9l3 3-3 3"/></svg>'
    )
    instructions: ClassVar[str] = """\
1. In the Azure portal, open your Event Hubs namespace and create the event hub, or choose one.
2. On the event hub (better than on the whole namespace), open **Shared access policies** and add a policy with the
   right **Send** alone.
3. Copy the policy's primary **connection string** whole, and the name of the event hub.

With the Azure CLI:

```sh
az eventhubs eventhub authorization-rule create --resource-group GROUP --namespace-name NAMESPACE \\
  --eventhub-name orders --name waypost --rights Send
az eventhubs eventhub authorization-rule keys list --resource-group GROUP --namespace-name NAMESPACE \\
  --eventhub-name orders --name waypost --query primaryConnectionString
```

The body is the event's data as it was published. The metadata (`timestamp`, `event-id`, `topic` and more) are
application properties. Event Hubs knows no duplicates: compare `event-id`, since an event can arrive more than once.
Without a partition key the events are spread over all partitions.
"""
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="name",
            label="Event hub",
            description="The name of the event hub.",
            required=True,
            maxlength=_LONGEST_NAME,
            pattern=r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?",
            pattern_hint="letters, digits and . - _ between them",
            placeholder="orders",
        ),
        Field(
            key="partition_key_template",
            label="Partition key",
            description="Makes each event's partition key from the event, e.g. `data.customer.id`.",
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
        return [
            *access_problems(credentials["connection_string"], config["name"], tools),
            *template_problems("config.partition_key_template", config.get("partition_key_template")),
        ]

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["name"], None

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        template = destination.config.get("partition_key_template")
        return BusConnection.of(
            _SERVICE,
            destination,
            tools,
            _Rendering(compile_template(template, field="partition_key_template") if template else None),
        )


class _Rendering:
    def __init__(self, partition_key: Template | None) -> None:
        self._partition_key = partition_key

    def __call__(self, message: Message) -> Item:
        key = self._partition_key(message) if self._partition_key else ""
        return rendered(message, {"PartitionKey": key} if key else {}, key)

"""What each request that a tenant's token may make costs, by its operation. A test finds those that are missing."""

from __future__ import annotations

from collections.abc import Mapping

from waypost.flow.quotas import Cost

_OPERATIONS: Mapping[Cost, tuple[str, ...]] = {
    Cost.READ: (
        "getAlert",
        "getAlertChannel",
        "getAlertRule",
        "getAttempt",
        "getAttemptCurl",
        "getDelivery",
        "getDestinationTypeSchema",
        "getEvent",
        "getEventRouting",
        "getReplay",
        "getTenant",
        "getTenantDestination",
        "getTenantDestinationAttempt",
        "getTenantDestinationAttemptCurl",
        "getTenantDestinationHealth",
        "getTenantDestinationSkips",
        "getTenantRetention",
        "getTopic",
        "listAlertChannelTypes",
        "listAlertChannels",
        "listAlertRules",
        "listDestinationTypeSchemas",
        "listTenantDestinations",
        "listTenants",
        "listTopics",
    ),
    Cost.SEARCH: (
        "convertFilter",
        "getAttemptMetrics",
        "getEventMetrics",
        "listAlerts",
        "listAttempts",
        "listAuditLog",
        "listDeliveries",
        "listEvents",
        "listReplayDeliveries",
        "listReplays",
        "listTenantDestinationAttempts",
        "testFilter",
    ),
    Cost.CHANGE: (
        "acknowledgeAlert",
        "cancelDelivery",
        "cancelReplay",
        "confirmAlertChannel",
        "createAlertChannel",
        "createAlertRule",
        "createReplay",
        "createTenantDestination",
        "deleteAlertChannel",
        "deleteAlertRule",
        "deleteTenantDestination",
        "disableTenantDestination",
        "enableTenantDestination",
        "recoverTenantDestination",
        "retryEvent",
        "updateAlertChannel",
        "updateAlertRule",
        "updateTenantDestination",
    ),
    Cost.OUTBOUND: ("testAlertChannel", "testTenantDestination", "verifyTenantDestination"),
    Cost.STREAM: ("stream",),
}

COSTS: Mapping[str, Cost] = {name: cost for cost, names in _OPERATIONS.items() for name in names}

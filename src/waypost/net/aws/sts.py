"""Assumed roles: temporary credentials of a role in the customer's account, from AWS STS."""

from __future__ import annotations

import re

from waypost.core import times
from waypost.core.errors import DeliveryError
from waypost.core.model import SECOND
from waypost.net.aws.client import AwsClient
from waypost.net.aws.credentials import Credentials, Lease
from waypost.net.aws.errors import Service, text_of

STS = Service(name="sts", host="sts", label="AWS STS", thing="role", missing="no_such_role")
ROLE_ARN = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}"
EXTERNAL_ID = r"[\w+=,.@:/-]{2,1224}"
_ACTION = "sts:AssumeRole"
_VERSION = "2011-06-15"
_LONGEST_NAME = 64
_NOT_IN_NAMES = re.compile(r"[^\w+=,.@-]", re.ASCII)


class AssumedRole:
    """Fetches a role's credentials. `external_id` is what the role's trust policy asks for, if anything."""

    def __init__(self, sts: AwsClient, role_arn: str, external_id: str | None, session_name: str) -> None:
        self._sts = sts
        self._parameters = {
            "Action": "AssumeRole",
            "Version": _VERSION,
            "RoleArn": role_arn,
            "RoleSessionName": _NOT_IN_NAMES.sub("-", session_name)[:_LONGEST_NAME],
        }
        if external_id is not None:
            self._parameters["ExternalId"] = external_id

    async def fetch(self) -> Lease:
        """Raises DeliveryError, as `access_denied` if the role does not trust the caller or the external id differs."""
        try:
            answer, _ = await self._sts.query(self._parameters, action=_ACTION)
        except DeliveryError as error:
            raise _explained(error) from error
        found = answer.find(".//Credentials")
        until = times.parse(text_of(found, "Expiration")) if found is not None else None
        if found is None or until is None:
            raise DeliveryError("invalid_response", "The answer of AWS STS cannot be understood")
        credentials = Credentials(
            key=text_of(found, "AccessKeyId"),
            secret=text_of(found, "SecretAccessKey"),
            session=text_of(found, "SessionToken"),
        )
        return Lease(credentials, until / SECOND)


def _explained(error: DeliveryError) -> DeliveryError:
    """A role that does not trust the caller is a denial like any other to STS; the customer has to look elsewhere."""
    if error.code != "access_denied":
        return error
    sentence = "The role cannot be assumed: its trust policy must allow it, with the same external id"
    return DeliveryError(error.code, sentence, retryable=False, response=error.response, request=error.request)

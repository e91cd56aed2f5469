"""Where AWS is: the hosts of services and regions, and the URLs that stand in for them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from waypost.net.target import parse_url

REGION = r"[a-z]{2,5}(-[a-z]+){1,3}-[0-9]{1,2}"
_SUFFIXES = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
}
_USUAL_SUFFIX = "amazonaws.com"
_OF_AWS = re.compile(r"(.+\.)?(amazonaws\.(com(\.cn)?|eu)|api\.aws|c2s\.ic\.gov|sc2s\.sgov\.gov|csp\.hci\.ic\.gov)")
_USUAL_PORTS = {"http": 80, "https": 443}


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where requests go. `url` has no path and no slash at its end; `authority` is what the Host header says."""

    url: str
    host: str
    authority: str

    @property
    def of_aws(self) -> bool:
        """Whether the host belongs to AWS."""
        return _OF_AWS.fullmatch(self.host) is not None


def of_service(prefix: str, region: str) -> Endpoint:
    """The public endpoint of a service in a region; `prefix` is the first part of its host."""
    suffix = next((suffix for start, suffix in _SUFFIXES.items() if region.startswith(start)), _USUAL_SUFFIX)
    host = f"{prefix}.{region}.{suffix}"
    return Endpoint(url=f"https://{host}", host=host, authority=host)


def of_url(url: str) -> Endpoint:
    """The endpoint that a URL names, whatever its path. Raises ValueError with the end of a sentence ("must ...")."""
    target = parse_url(url)
    authority = f"[{target.host}]" if ":" in target.host else target.host
    if target.port != _USUAL_PORTS[target.scheme]:
        authority += f":{target.port}"
    return Endpoint(url=f"{target.scheme}://{authority}", host=target.host, authority=authority)


def override(url: str) -> Endpoint:
    """An endpoint that a customer names in place of the public one. Raises ValueError as `of_url`, and for a path."""
    endpoint = of_url(url)
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("must be a URL without a path")
    return endpoint

"""The HTTP proxy that gRPC chooses for a client from environment variables.

gRPC does not report its choice. This module repeats it, so that an error can name the proxy.
See GetHttpProxyServer and MapName in gRPC's http_proxy_mapper.cc.
"""

import os
import re
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

from serving.quoting import printable

PROXY_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
EXEMPTION_VARIABLES: Final = ("no_grpc_proxy", "no_proxy")
DIRECT: Final = (
    ("grpc.enable_http_proxy", 0),
    # A second mechanism, for networks that GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES lists.
    ("grpc.address_http_proxy_enabled_addresses", ""),
)
"""Channel options that disable all proxies."""

_SCHEME: Final = re.compile(r"(?:dns|ipv[46]|xds|vsock|unix|unix-abstract):(?://[^/]*)?", re.ASCII)
_WITHOUT_PROXY: Final = ("unix:", "vsock:")
_HOST_AND_PORT: Final = re.compile(r"\[([^]]*)\](?::.*)?|([^:]*)(?::[^:]*)?")


def proxy_of(address: str) -> str:
    """Return the proxy that gRPC uses for an address, as `host:port (http_proxy)`; empty for none."""
    variable = _first_set(PROXY_VARIABLES)
    try:
        proxy = urlsplit(os.environ.get(variable, ""))
    except ValueError:
        return ""
    host_and_port = proxy.netloc.rpartition("@")[2]  # without the user name and password
    if proxy.scheme != "http" or not host_and_port or address.startswith(_WITHOUT_PROXY):
        return ""
    if _is_exempt(_host_of(address), os.environ.get(_first_set(EXEMPTION_VARIABLES), "")):
        return ""
    return f"{printable(host_and_port)} ({variable})"


def _first_set(variables: tuple[str, ...]) -> str:
    return next((name for name in variables if name in os.environ), "")


def _host_of(address: str) -> str:
    path = unquote(_SCHEME.sub("", address, count=1)).removeprefix("/")
    match = _HOST_AND_PORT.fullmatch(path)
    if not match:
        return path  # an IPv6 address without brackets or port
    return match[1] or match[2] or ""


def _is_exempt(host: str, exemptions: str) -> bool:
    entries = [entry.strip() for entry in exemptions.split(",") if entry]
    return any(host.lower().endswith(entry.lower()) or _is_in(host, entry) for entry in entries)


def _is_in(host: str, network: str) -> bool:
    try:
        return "/" in network and ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False

"""The address that a request comes from, for callers without a key."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

UNIX = "unix"
"""What stands for the address of whoever comes through the Unix socket."""

PREFIX = 64
"""Bits of an IPv6 address that tell one customer from another: who has one address has the whole network."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks of proxies whose word is taken for where a request comes from."""
    return tuple(map(ipaddress.ip_network, texts))


def address_of(scope: Mapping[str, Any], trusted: tuple[Network, ...]) -> str:
    """Return the address of the client: the peer's, or what a trusted proxy says of it in `X-Forwarded-For`.

    Read from the right: each proxy adds whom it heard from, and what stands before the first that is not trusted is
    anybody's word.
    """
    peer = _parse(str((scope.get("client") or ("",))[0]))
    if peer is None:
        return UNIX
    if trusted and _within(peer, trusted):
        for text in reversed(_forwarded(scope)):
            told = _parse(text.strip())
            if told is None:
                break
            peer = told
            if not _within(peer, trusted):
                break
    if isinstance(peer, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((peer, PREFIX), strict=False))
    return str(peer)


def _forwarded(scope: Mapping[str, Any]) -> list[str]:
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    lines = [value.decode("latin-1") for name, value in headers if name.lower() == b"x-forwarded-for"]
    return ",".join(lines).split(",")


def _parse(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _within(address: Address, trusted: tuple[Network, ...]) -> bool:
    return any(address in network for network in trusted)

"""Which addresses are of the public internet, and which names mean this machine.

Python's `is_global` follows the registries of its release; these lists are the registries whole (IANA IPv4 and IPv6
Special-Purpose Address Registry, multicast, deprecated site-local and IPv4-compatible addresses), also where an entry
is said to be reachable: nobody's picture or webhook is behind an anycast relay.
"""

import ipaddress
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_SPECIAL_4: Final = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
_UNICAST_6: Final = ipaddress.IPv6Network("2000::/3")  # nothing else is public
_SPECIAL_6: Final = tuple(
    ipaddress.IPv6Network(block)
    # 2001::/23 holds Teredo, benchmarking, AMT, AS112 and ORCHID
    for block in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 addresses written as IPv6 (RFC 6052)
_LOCAL_NAT64: Final = ipaddress.IPv6Network("64:ff9b:1::/48")
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")  # IPv4 in the last 32 bits, deprecated; :: and ::1 are among them
_ISATAP: Final = (0x0000_5EFE, 0x0200_5EFE)


def is_public(address: Address) -> bool:
    """Whether the address, and the one inside it, belong to the public internet."""
    plain = embedded_ipv4(address)
    if isinstance(plain, ipaddress.IPv4Address):
        outside = address in _NAT64 if isinstance(address, ipaddress.IPv6Address) else True
        mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None
        return (outside or mapped) and not any(plain in block for block in _SPECIAL_4)
    return plain in _UNICAST_6 and not any(plain in block for block in _SPECIAL_6)


def may_reach(address: Address, allowed: Sequence[str]) -> bool:
    """Whether the address is public, or in one of the `allowed` networks (CIDR)."""
    plain = embedded_ipv4(address)
    blocks = (ipaddress.ip_network(block) for block in allowed)
    return any(block.version == plain.version and plain in block for block in blocks) or is_public(address)


def embedded_ipv4(address: Address) -> Address:
    """The IPv4 address that a packet to an IPv6 one reaches (mapped, compatible, 6to4, Teredo, NAT64, ISATAP), else the
    address itself.
    """
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    number = int(address)
    inside = number >> 32 & 0xFFFF_FFFF in _ISATAP or address in _NAT64 or address in _LOCAL_NAT64
    if inside or (address in _COMPATIBLE and number > 1):
        return ipaddress.IPv4Address(number & 0xFFFF_FFFF)
    return address


def written_address(name: str) -> Address | None:
    """The address that a host name is, in every spelling that a resolver takes (0x7f.1, 2130706433, a dot at the
    end, a zone, full-width digits); None for a name.
    """
    text = _plain(name).partition("%")[0]
    with suppress(ValueError):
        return embedded_ipv4(ipaddress.ip_address(text))
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text))
    except (OSError, ValueError):
        return None


def same_machine(name: str) -> str:
    """A host name by which two spellings of one host are equal: `localhost`, any loopback and the unspecified address
    are one.
    """
    address = written_address(name)
    if address is not None:
        return "localhost" if address.is_loopback or address.is_unspecified else str(address)
    plain = _plain(name)
    return "localhost" if plain == "localhost" or plain.endswith(".localhost") or plain == _OWN_NAME else plain


def _plain(name: str) -> str:
    """Small letters as IDNA maps them, without brackets and the dot at the end."""
    text = name.strip("[]").casefold()
    with suppress(UnicodeError):  # no name of a host; it will not be resolved
        text = text if ":" in text else text.encode("idna").decode()
    return text.rstrip(".")


_OWN_NAME: Final = socket.gethostname().casefold()

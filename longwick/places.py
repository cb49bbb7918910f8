"""Hosts and ports, as an operator lists them and an agent asks for them: told apart beyond doubt, or not taken."""

import ipaddress
import re

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Place = tuple[str, int]

HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.(?!-)[a-z0-9_-]{1,63})*", re.IGNORECASE)
NAT64 = ipaddress.ip_network("64:ff9b::/96")


def parse_place(text: str) -> Place | None:
    """`host:port`, `1.2.3.4:port` or `[::1]:port`; None where it is anything else."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port)
        except ValueError:
            return None
    # A last label of digits makes it an address to some, in one of many spellings.
    if re.fullmatch(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)", host, re.IGNORECASE):
        try:
            return str(ipaddress.IPv4Address(host)), int(port)
        except ValueError:
            return None
    return (host.lower(), int(port)) if len(host) < 254 and HOST.fullmatch(host) else None


def is_public(text: str) -> bool:
    """Whether an address is one of the public Internet, also as one that stands for another."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(each.is_global and not each.is_multicast and not each.is_reserved for each in _meant(address))


def _meant(address: Address) -> list[Address]:
    """The address, and those that it carries."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    if address.ipv4_mapped:
        return [address.ipv4_mapped]
    if address in NAT64:
        return [ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)]
    return [address, *filter(None, [address.sixtofour, *(address.teredo or ())])]


def is_address(host: str) -> bool:
    """Whether it is one, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_never_let_out(host: str) -> bool:
    """Whether it is an address at which a machine, or its cloud, tells about itself; or of nobody."""
    if not is_address(host):
        return False
    return any(
        each.is_link_local or each.is_multicast or each.is_unspecified for each in _meant(ipaddress.ip_address(host))
    )

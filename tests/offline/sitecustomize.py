"""On the PYTHONPATH of a run, this refuses every connection that would leave the machine."""

import ipaddress
import socket

_connect = socket.socket.connect


def connect(self, address):
    """As socket.connect, for loopback and UNIX sockets alone; names are refused without asking for their address."""
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
        raise ConnectionRefusedError(f"offline: connection to {address[0]} refused")
    return _connect(self, address)


def getaddrinfo(host, *arguments, **options):
    if host is not None and not _is_loopback(host):
        raise ConnectionRefusedError(f"offline: look-up of {host} refused")
    return _getaddrinfo(host, *arguments, **options)


def _is_loopback(host) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("localhost", socket.gethostname())


_getaddrinfo = socket.getaddrinfo
socket.socket.connect = connect
socket.getaddrinfo = getaddrinfo

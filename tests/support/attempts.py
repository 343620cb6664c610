# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile testbed tries on its network; runs in the guest.

    python3 attempts.py ATTEMPT [ARGUMENT...]

prints "open" or "closed" for an attempt that gets an answer.  Attempts that
send a frame print nothing; the frame carries the mark, the last argument, by
which others recognise it with "watch".  "serve" answers attempts.  Only
Python's standard library is needed.
"""

import contextlib
import fcntl
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

_CARD = "host0"
#: The port of services that attempts are made on.
PORT = 18923
#: Seconds for an answer.
_PATIENCE = 3.0
_BROADCAST = b"\xff" * 6
_STRANGER = bytes.fromhex("020000c0ffee")
_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD


def main() -> None:
    """Run the attempt that the command line names."""
    name, *arguments = sys.argv[1:]
    _ATTEMPTS[name](*arguments)


def _tcp(host: str, port: str = str(PORT)) -> None:
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except OSError:
        print("closed")
    else:
        print("open")


def _udp(host: str) -> None:
    """Send a datagram to a service that answers each."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_PATIENCE)
        try:
            sender.sendto(b"hello", (host, PORT))
            sender.recv(64)
        except OSError:
            print("closed")
        else:
            print("open")


def _dns(server: str) -> None:
    """Ask a name server for a name; any answer will do."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    query = b"\x12\x34\x01\0\0\1\0\0\0\0\0\0\x07testbed\x04test\0\0\1\0\1"
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.settimeout(_PATIENCE)
        try:
            sender.sendto(query, (server, 53))
            sender.recv(512)
        except OSError:
            print("closed")
        else:
            print("open")


def _dhcp() -> None:
    """Ask for an address, and wait for an offer."""
    with _opened() as card:
        card.settimeout(0.5)
        number = os.urandom(4)
        question = _bootp(1, number, b"\x35\x01\x01")
        deadline = time.monotonic() + 3 * _PATIENCE
        while time.monotonic() < deadline:
            card.send(_frame(_IPV4, _datagram(68, 67, question)))
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    answer = card.recv(2048)
                    if number in answer and b"\x35\x01\x02" in answer:
                        print("open")
                        return
    print("closed")


def _spoofed_mac(mark: str) -> None:
    content = _datagram(7777, 7777, mark.encode(), source=_own_address())
    _send(_frame(_IPV4, content, source=_STRANGER))


def _spoofed_ipv4(victim: str, mark: str) -> None:
    source = socket.inet_aton(victim)
    _send(_frame(_IPV4, _datagram(7777, 7777, mark.encode(), source=source)))


def _gateways_arp(gateway: str, mark: str) -> None:
    """Claim to everybody that the gateway's address is here."""
    address = socket.inet_aton(gateway)
    claim = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 2)
    claim += _own_mac() + address + _BROADCAST + address
    _send(_frame(_ARP, claim + mark.encode()))


def _rogue_dhcp(mark: str) -> None:
    """Offer an address to everybody, as a DHCP server would."""
    offer = _bootp(2, b"\0\0\0\1", b"\x35\x01\x02") + mark.encode()
    _send(_frame(_IPV4, _datagram(67, 68, offer, source=_own_address())))


def _router(mark: str) -> None:
    """Announce to everybody that this is an IPv6 router."""
    source = socket.inet_pton(
        socket.AF_INET6, "fe80::" + ":".join(_interface_id())
    )
    target = socket.inet_pton(socket.AF_INET6, "ff02::1")
    body = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    mac = b"\x01\x01" + _own_mac()
    text = mark.encode().ljust(6, b"\0")
    body += mac + b"\xfd\x01" + text
    pseudo = source + target + struct.pack("!II", len(body), 58)
    checksum = _checksum(pseudo + body)
    body = body[:2] + struct.pack("!H", checksum) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(body), 58, 255)
    _send(
        _frame(
            _IPV6, head + source + target + body, target=b"\x33\x33\0\0\0\x01"
        )
    )


def _serve() -> None:
    """Answer each TCP connection and UDP datagram on a port."""
    for kind, serve in (
        (socket.SOCK_STREAM, _accept),
        (socket.SOCK_DGRAM, _echo),
    ):
        server = socket.socket(socket.AF_INET6, kind)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("", PORT))
        if kind == socket.SOCK_STREAM:
            server.listen()
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    print("listening", flush=True)
    threading.Event().wait()


def _accept(server: socket.socket) -> None:
    while True:
        server.accept()[0].close()


def _echo(server: socket.socket) -> None:
    while True:
        content, sender = server.recvfrom(64)
        with contextlib.suppress(OSError):
            server.sendto(content, sender)


def _watch(card: str, mark: str, seconds: str) -> None:
    """Print "open" if a frame with the mark arrives in time, or "closed"."""
    with _opened(card) as received:
        print("watching", flush=True)
        deadline = time.monotonic() + float(seconds)
        while (left := deadline - time.monotonic()) > 0:
            received.settimeout(left)
            try:
                if mark.encode() in received.recv(4096):
                    print("open")
                    return
            except TimeoutError:
                break
    print("closed")


def _interface_id() -> "list[str]":
    mac = _own_mac()
    number = bytes([mac[0] ^ 2]) + mac[1:3] + b"\xff\xfe" + mac[3:]
    return [number[at : at + 2].hex() for at in range(0, 8, 2)]


def _opened(card: str = _CARD) -> socket.socket:
    """Return a socket for all frames of a card."""
    opened = socket.socket(
        socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003)
    )
    opened.bind((card, 0))
    return opened


def _send(frame: bytes) -> None:
    """Send a frame several times, since the network may drop any."""
    with _opened() as card:
        for _ in range(5):
            card.send(frame)
            time.sleep(0.1)


def _frame(
    kind: int,
    content: bytes,
    *,
    source: bytes = b"",
    target: bytes = _BROADCAST,
) -> bytes:
    return target + (source or _own_mac()) + struct.pack("!H", kind) + content


def _datagram(
    port: int, to: int, content: bytes, *, source: bytes = bytes(4)
) -> bytes:
    """Return an IPv4 packet with UDP, for everybody."""
    udp = struct.pack("!HHHH", port, to, 8 + len(content), 0) + content
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0)
    head += source + b"\xff" * 4
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return head + udp


def _bootp(operation: int, number: bytes, options: bytes) -> bytes:
    head = bytes([operation, 1, 6, 0]) + number + b"\0\0\x80\0"
    head += bytes(16) + _own_mac() + bytes(10 + 192)
    return head + b"\x63\x82\x53\x63" + options + b"\xff"


def _checksum(content: bytes) -> int:
    words = struct.unpack(f"!{len(content) // 2}H", content)
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _address() -> None:
    """Print the IPv4 address of this guest."""
    print(socket.inet_ntoa(_own_address()))


def _own_mac() -> bytes:
    return _asked(0x8927)[18:24]


def _own_address() -> bytes:
    return _asked(0x8915)[20:24]


def _asked(question: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = struct.pack("256s", _CARD.encode())
        return fcntl.ioctl(any_socket, question, name)


_ATTEMPTS: dict[str, Callable[..., None]] = {
    "address": _address,
    "tcp": _tcp,
    "udp": _udp,
    "dns": _dns,
    "dhcp": _dhcp,
    "spoofed-mac": _spoofed_mac,
    "spoofed-ipv4": _spoofed_ipv4,
    "gateways-arp": _gateways_arp,
    "rogue-dhcp": _rogue_dhcp,
    "router": _router,
    "serve": _serve,
    "watch": _watch,
}

if __name__ == "__main__":
    main()

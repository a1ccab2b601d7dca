"""Run inside the network between two hosts: writes down each frame of the guest's that a host has sent to it.

A line for each: the time, the port of the switch, whether it is IP.
"""

from __future__ import annotations

import select
import socket
import sys
import time

_ALL = 0x0003
_OUTGOING = 4
_IP = (b"\x08\x00", b"\x86\xdd")


def main(guest: str, *ports: str) -> None:
    address = bytes.fromhex(guest.replace(":", ""))
    sockets = [socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL)) for _ in ports]
    for each, port in zip(sockets, ports, strict=True):
        each.bind((port, _ALL))
    print("watching", flush=True)
    while True:
        for each in select.select(sockets, [], [])[0]:
            frame, (port, _, kind, *_) = each.recvfrom(128)
            if kind != _OUTGOING and frame[6:12] == address:
                print(f"{time.time():.6f} {port} {'ip' if frame[12:14] in _IP else 'other'}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Run inside the client: asks the guest for an echo ten times a second, and writes down when each answer came."""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time

_PERIOD = 0.1
_REQUEST, _REPLY = 8, 0
_HEADER = struct.Struct("!BBHHH")
_IPV4_HEADER = 20


def request(identifier: int, number: int) -> bytes:
    total = (_REQUEST << 8) + identifier + number
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return _HEADER.pack(_REQUEST, 0, checksum, identifier, number)


def main(address: str) -> None:
    identifier, number, due = os.getpid() & 0xFFFF, 0, time.time()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as icmp:
        while True:
            if select.select([icmp], [], [], max(0.0, due - time.time()))[0]:
                answer = icmp.recv(128)[_IPV4_HEADER:]
                kind, _, _, whose, _ = _HEADER.unpack_from(answer)
                if (kind, whose) == (_REPLY, identifier):
                    print(f"{time.time():.6f}", flush=True)
            if time.time() >= due:
                number, due = (number + 1) & 0xFFFF, due + _PERIOD
                icmp.sendto(request(identifier, number), (address, 0))


if __name__ == "__main__":
    main(*sys.argv[1:])

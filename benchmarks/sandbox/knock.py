"""Runs inside the machine: knocks on each sleeping socket in turn and times connect()
to the first byte of the answer.

Every round visits every unit once, in a new order, so that what else the machine does
falls on all of them alike. The next knock waits until the last service has gone, its
cgroup included: else its cleaning up would be timed with the next one's wake. One JSON
object per round on standard output: unit name to milliseconds.

    python3 knock.py ROUNDS SEED GAP NAME...    (sockets /run/wake/NAME.sock, units NAME.service)
"""

import json
import os
import random
import socket
import sys
import time

PATIENCE = 20.0  # seconds


def knock(name: str) -> float:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        begin = time.monotonic()
        client.connect(f"/run/wake/{name}.sock")
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not client.recv(4096):
            raise RuntimeError(f"{name}: closed without an answer")
        return (time.monotonic() - begin) * 1000


def wait_until_gone(name: str) -> None:
    cgroup = f"/sys/fs/cgroup/system.slice/{name}.service"
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(cgroup):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name}: still there")
        time.sleep(0.002)


def main() -> None:
    rounds, seed, gap, names = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
    order = random.Random(seed)
    for _ in range(rounds):
        order.shuffle(names)
        times = {}
        for name in names:
            times[name] = round(knock(name), 3)
            wait_until_gone(name)
            time.sleep(
                gap
            )  # PID 1 and the kernel still take the mounts apart; nothing tells when they are done
        print(json.dumps(times), flush=True)


main()

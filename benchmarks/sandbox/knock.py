"""Runs inside the machine: knocks on each sleeping socket in turn, times connect() to the
first byte of the answer, and reads the processor time of the service's control group.

Every round visits every unit once, in a new order, so that what else the machine does
falls on all of them alike. The next knock waits until the last service has gone, its
cgroup included: else its cleaning up would be timed with the next one's wake. One JSON
object per round on standard output: unit name to [wall, processor] in milliseconds.

The processor time begins with the process that systemd forks for the service, so it has
what the sandbox costs, and nothing of what other programs do meanwhile. It does not have
what a wake waits for. On a busy machine it is the steadier measure.

    python3 knock.py ROUNDS SEED GAP NAME...    (sockets /run/wake/NAME.sock, units NAME.service)
"""

import json
import os
import random
import socket
import sys
import time

PATIENCE = 20.0  # seconds
CGROUP = "/sys/fs/cgroup/system.slice/{name}.service"
SETTLED = 0.005  # seconds; a process that runs is accounted for when it waits


def knock(name: str) -> tuple[float, float]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PATIENCE)
        begin = time.monotonic()
        client.connect(f"/run/wake/{name}.sock")
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if not client.recv(4096):
            raise RuntimeError(f"{name}: closed without an answer")
        wall = (time.monotonic() - begin) * 1000
        time.sleep(SETTLED)
        return round(wall, 3), processor_time(name)


def processor_time(name: str) -> float:
    with open(CGROUP.format(name=name) + "/cpu.stat") as stat:
        return int(stat.readline().removeprefix("usage_usec ")) / 1000


def wait_until_gone(name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while os.path.exists(CGROUP.format(name=name)):
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
            times[name] = knock(name)
            wait_until_gone(name)
            # PID 1 and the kernel still take the mounts apart; nothing tells when they
            # are done.
            time.sleep(gap)
        print(json.dumps(times), flush=True)


main()

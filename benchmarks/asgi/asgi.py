"""Processor time per request and message of ASGI servers, and their memory. `make
bench-asgi` runs it.

One worker of each server on one core, its clients on the other; every round measures
every server once in each row, in another order each time. The processor time is the
kernel's, of all processes of a server (schedstat), so it hardly depends on what the
client or another program does meanwhile. Rows of HTTP are asked by wrk over 64
connections, WebSockets by 16 clients of our own, each of which waits for the echo. Of
memory: the proportional set size (PSS) of two workers of a FastAPI app after 200
requests, and what each of many idle WebSockets adds.

    asgi.py [--rounds N] [--seconds N] [--rows "hello;close"] [--servers "Spyglass"]
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import websocket_clients  # noqa: E402
from servers import BIN, PortServer, ask  # noqa: E402
from throughput.throughput import FIELDS, HEADERS, OURS, POST, THEIRS  # noqa: E402

HOST, PORT = "--host=127.0.0.1", "--port={port}"
SERVERS = {
    "Spyglass": [
        *(str(BIN / "spyglass"), "lookout", "{app}", "--bind=127.0.0.1:{port}"),
        *("--workers={workers}", "--idle-timeout=0"),
    ],
    "uvicorn": [
        *(str(BIN / "uvicorn"), HOST, PORT, "--workers={workers}", "--loop=uvloop"),
        *("--http=httptools", "--no-access-log", "--log-level=error", "{app}"),
    ],
    "granian": [
        *(str(BIN / "granian"), "--interface=asgi", HOST, PORT, "--workers={workers}"),
        *("--loop=uvloop", "--no-log", "{app}"),
    ],
    "gunicorn asgi": [
        *(str(BIN / "gunicorn"), "--bind=127.0.0.1:{port}", "--workers={workers}"),
        *("--worker-class=asgi", "--log-level=error", "{app}"),
    ],
    "hypercorn": [
        *(str(BIN / "hypercorn"), "--bind=127.0.0.1:{port}", "--workers={workers}"),
        *("--worker-class=uvloop", "{app}"),
    ],
}
# row: app, path, script of wrk
PAGES = {
    "hello": ("asgi_shop:app", "/", ""),
    "browser, other fields": ("asgi_shop:app", "/", HEADERS + FIELDS),
    "close": ("asgi_shop:app", "/", "wrk.headers['Connection'] = 'close'\n"),
    "Starlette": ("starry:app", "/", HEADERS),
    "FastAPI": ("fasty:app", "/", HEADERS),
    "64 KiB": ("asgi_shop:app", "/large", ""),
    "64 KiB posted": ("asgi_shop:app", "/echo", POST.format(size=64 << 10)),
    "stream of 10 pieces": ("asgi_shop:app", "/stream", ""),
}
# row: size of the message, rounds of echoes
ECHOES = {
    "echo, 16 bytes": (16, 1500),
    "echo, 4 KiB": (4 << 10, 1000),
    "echo, 64 KiB": (64 << 10, 150),
}
MEMORY = "memory, FastAPI"
IDLE = "an idle WebSocket"
ROWS = [*PAGES, *ECHOES, MEMORY, IDLE]
CLIENTS = 16
VISITS = 200
WEBSOCKETS = 900


def processor_time(server: PortServer) -> float:
    """Microseconds that its processes have used, all threads together."""
    total = 0
    for pid in server.pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1000


def memory(server: PortServer) -> float:
    """KiB of PSS of its processes, without a lookout, in whose place systemd is."""
    pids = server.pids
    if b"\0lookout\0" in Path(f"/proc/{pids[0]}/cmdline").read_bytes():
        del pids[0]
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(re.search(r"^Pss: +(\d+)", each, re.MULTILINE)[1]) for each in rollups)


def page(server: PortServer, path: str, script: str, seconds: int) -> float:
    """Microseconds of processor time for each answer."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        argv = ["taskset", "-c", THEIRS, "wrk", "--threads=1", "--connections=64", f"--script={lua.name}"]  # fmt: skip
        address = f"http://127.0.0.1:{server.port}{path}"
        subprocess.run([*argv, "--duration=1s", address], capture_output=True, check=True)
        before = processor_time(server)
        said = subprocess.run(
            [*argv, f"--duration={seconds}s", address], capture_output=True, text=True, check=True
        ).stdout
        used = processor_time(server) - before
    if "Non-2xx" in said:
        raise RuntimeError("not every answer was 200")
    return used / int(re.search(r"(\d+) requests in", said)[1])


def echoes(server: PortServer, size: int, rounds: int) -> float:
    """Microseconds of processor time for each message and its echo."""
    clients = [websocket_clients.opened(server.port) for _ in range(CLIENTS)]
    try:
        websocket_clients.echo(clients, size, rounds // 10)
        before = processor_time(server)
        count = websocket_clients.echo(clients, size, rounds)
        return (processor_time(server) - before) / count
    finally:
        for client in clients:
            client.close()


def at_rest(server: PortServer) -> float:
    """MiB of PSS after some visits."""
    for _ in range(VISITS):
        ask(("127.0.0.1", server.port))
    time.sleep(1)
    return memory(server) / 1024


def idle(server: PortServer) -> float:
    """KiB that each of many idle WebSockets adds."""
    first = [websocket_clients.opened(server.port) for _ in range(CLIENTS)]
    time.sleep(0.5)
    before = memory(server)
    clients = [websocket_clients.opened(server.port) for _ in range(WEBSOCKETS)]
    try:
        time.sleep(0.5)
        return (memory(server) - before) / WEBSOCKETS
    finally:
        for client in (*first, *clients):
            client.close()


def measure(name: str, row: str, seconds: int, log: int) -> float:
    app = PAGES[row][0] if row in PAGES else "fasty:app" if row == MEMORY else "asgi_shop:app"
    server = PortServer(SERVERS[name], app, log, OURS, 2 if row == MEMORY else 1)
    try:
        if row in PAGES:
            return page(server, *PAGES[row][1:], seconds)
        if row in ECHOES:
            return echoes(server, *ECHOES[row])
        return at_rest(server) if row == MEMORY else idle(server)
    finally:
        server.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rows", default=";".join(ROWS), help="separated by semicolons")
    parser.add_argument("--servers", default=";".join(SERVERS), help="separated by semicolons")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {int(THEIRS)})
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    names = arguments.servers.split(";")
    print("| µs of processor time | " + " | ".join(names) + " | Spyglass to uvicorn |")
    print("|---|" + "---|" * (len(names) + 1))
    with tempfile.TemporaryFile() as log:
        for row in arguments.rows.split(";"):
            found: dict[str, list[float]] = {name: [] for name in names}
            for _ in range(arguments.rounds):
                for name in random.sample(names, len(names)):
                    try:
                        found[name].append(measure(name, row, arguments.seconds, log.fileno()))
                    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
                        print(f"{row}: {name}: {error}", file=sys.stderr)
            tell(
                row, {name: statistics.median(each) for name, each in found.items() if each}, names
            )


def tell(row: str, medians: dict[str, float], names: list[str]) -> None:
    unit = {MEMORY: " MiB", IDLE: " KiB"}.get(row, "")
    cells = [f"{medians[name]:.1f}{unit}" if name in medians else "-" for name in names]
    ours, theirs = medians.get("Spyglass"), medians.get("uvicorn")
    cells.append(f"{ours / theirs:.2f}" if ours and theirs else "-")
    print(f"| {row} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()

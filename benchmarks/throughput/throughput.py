"""Requests per second, beside the fastest and the most used WSGI servers. `make
bench-throughput` runs it.

One worker of each server on one core, wrk on the other; 64 connections. Every round
measures every server once in each row, in another order each time; the table has
medians, and ratios of medians. Where a server has threads it has four. "mixed" is what
fast pages get while two clients ask for a page that takes 50 ms all the time: asleep (a
database, say), or computing. "pure" is Spyglass without its extension module. At the
end there is a table with a line for each row: Spyglass beside the first of the others.

    throughput.py [--rounds N] [--seconds N] [--rows "hello;close"] [--servers
    "Spyglass;bjoern"]
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from servers import BIN, PATIENCE, UWSGI, PortServer  # noqa: E402

PYTHON = str(BIN / "python")
OURS, THEIRS = "0", "1"  # the cores of the server and of its clients
SPYGLASS = [
    str(BIN / "spyglass"),
    "lookout",
    "{app}",
    "--bind=127.0.0.1:{port}",
    "--workers=1",
    "--idle-timeout=0",
]
SERVERS = {
    "Spyglass": SPYGLASS,
    "Spyglass, pure": ["/usr/bin/env", "SPYGLASS_PURE=1", *SPYGLASS],
    "bjoern": [PYTHON, str(HERE / "serve.py"), "bjoern", "{app}", "{port}"],
    "granian": [
        str(BIN / "granian"),
        "--interface=wsgi",
        "--workers=1",
        "--no-ws",
        "--blocking-threads=4",
        "--host=127.0.0.1",
        "--port={port}",
        "{app}",
    ],
    "fastwsgi": [PYTHON, str(HERE / "serve.py"), "fastwsgi", "{app}", "{port}"],
    "waitress": [str(BIN / "waitress-serve"), "--listen=127.0.0.1:{port}", "--threads=4", "{app}"],
    "cheroot": [PYTHON, str(HERE / "serve.py"), "cheroot", "{app}", "{port}"],
    "uWSGI": [
        *UWSGI[:2],
        "--http11-socket=127.0.0.1:{port}",
        "--wsgi={app}",
        "--enable-threads",
        "--threads=4",
        "--disable-logging",
        "--need-app",
    ],
    "gunicorn gthread": [
        str(BIN / "gunicorn"),
        "--bind=127.0.0.1:{port}",
        "--workers=1",
        "--worker-class=gthread",
        "--threads=4",
        "{app}",
    ],
    "gunicorn sync": [str(BIN / "gunicorn"), "--bind=127.0.0.1:{port}", "--workers=1", "{app}"],
}
# uWSGI's --http11-socket keeps a connection that is to be closed; --http-socket closes
# each.
CLOSING = {
    **SERVERS,
    "uWSGI": [word.replace("--http11-socket", "--http-socket") for word in SERVERS["uWSGI"]],
}
BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-GB,en;q=0.7,de;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "DNT": "1",
    "Connection": "keep-alive",
    "Cookie": "session=eyJfcGVybWFuZW50Ijp0cnVlfQ.ZmFrZQ.c2lnbmF0dXJl; theme=dark",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
    "Priority": "u=0, i",
}
# Another path each time: nothing that was parsed before can be used again but the
# fields.
PATHS = (
    "local n = 0\nrequest = function()\n  n = n + 1\n  return wrk.format('GET', '/?' .. n)\nend\n"
)
# And another field, too.
FIELDS = PATHS.replace("return", "wrk.headers['X-Request-Id'] = tostring(n)\n  return")
POST = "wrk.method = 'POST'\nwrk.body = string.rep('x', {size})\nwrk.headers['Content-Type'] = 'application/octet-stream'\n"
HEADERS = "".join(f"wrk.headers[{name!r}] = {value!r}\n" for name, value in BROWSER.items())
# row: app, path, script of wrk, what two other clients ask for
ROWS = {
    "hello": ("shop:app", "/", "", ""),
    "browser": ("shop:app", "/", HEADERS, ""),
    "browser, other paths": ("shop:app", "/", HEADERS + PATHS, ""),
    "browser, other fields": ("shop:app", "/", HEADERS + FIELDS, ""),
    "close": ("shop:app", "/", "wrk.headers['Connection'] = 'close'\n", ""),
    "Flask": ("flasky:app", "/", HEADERS, ""),
    "64 KiB": ("shop:app", "/large", "", ""),
    "64 KiB posted": ("shop:app", "/echo", POST.format(size=64 << 10), ""),
    "1 MiB posted": ("shop:app", "/echo", POST.format(size=1 << 20), ""),
    "mixed, asleep": ("shop:app", "/", "", "/sleep"),
    "mixed, computing": ("shop:app", "/", "", "/work"),
}


def started(name: str, app: str, log: int, *, closes: bool) -> PortServer:
    """The server of this name; `closes` (bool): it is to serve one request on each
    connection. Raises RuntimeError if it does not.
    """
    server = PortServer((CLOSING if closes else SERVERS)[name], app, log, OURS)
    if closes and not server.closes():
        server.end()
        raise RuntimeError("it keeps a connection that was to be closed")
    return server


def keep_asking(port: int, path: str, enough: threading.Event, answers: list[int]) -> None:
    """Ask for `path` again and again, each time on another connection; add each status
    to `answers`.
    """
    while not enough.is_set():
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            client.request("GET", path)
            response = client.getresponse()
            response.read()
            answers.append(response.status)
        except (OSError, http.client.HTTPException):
            time.sleep(0.01)
        finally:
            client.close()


def measure(
    port: int, path: str, script: str, others: str, seconds: float
) -> tuple[float, str, float]:
    """Answers with status 2xx per second, the median latency as wrk tells it, and what
    the two clients beside have got per second: a server that leaves them waiting has
    more time for wrk.
    """
    enough = threading.Event()
    beside: list[int] = []
    threads = [
        threading.Thread(target=keep_asking, args=(port, others, enough, beside))
        for _ in range(2 if others else 0)
    ]
    for thread in threads:
        thread.start()
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as lua:
        lua.write(script)
        lua.flush()
        said = subprocess.run(
            ["taskset", "-c", THEIRS, "wrk", "--threads=1", "--connections=64", f"--duration={seconds:g}s", "--latency", "--timeout=20s", "--script", lua.name, f"http://127.0.0.1:{port}{path}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
    slow = beside.count(200)
    enough.set()
    for thread in threads:
        thread.join()
    total = int(re.search(r"(\d+) requests in", said)[1])
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    took = re.search(r"requests in ([\d.]+)(m?)s", said)
    latency = re.search(
        r"^ +50% +(\S+)$", said, re.MULTILINE
    )  # and no "+/- Stdev" of 88.50 % in the table above
    seconds = float(took[1])
    good = total - (int(bad[1]) if bad else 0)
    return good / seconds, latency[1] if latency else "-", slow / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rows", default=";".join(ROWS), help="separated by semicolons")
    parser.add_argument("--servers", default=";".join(SERVERS), help="separated by semicolons")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {int(THEIRS)})
    names = arguments.servers.split(";")
    medians: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryFile() as log:
        for row in arguments.rows.split(";"):
            rates, latencies, beside = ({name: [] for name in names} for _ in range(3))
            app, path, script, others = ROWS[row]
            for _ in range(arguments.rounds):
                for name in random.sample(names, len(names)):
                    try:
                        server = started(name, app, log.fileno(), closes=row == "close")
                        try:
                            rate, latency, slow = measure(
                                server.port, path, script, others, arguments.seconds
                            )
                        finally:
                            server.end()
                        rates[name].append(rate)
                        latencies[name].append(latency)
                        beside[name].append(slow)
                    except (
                        RuntimeError,
                        subprocess.CalledProcessError,
                        ProcessLookupError,
                    ) as error:
                        print(f"{row}: {name}: {error}", file=sys.stderr)
            medians[row] = {name: statistics.median(each) for name, each in rates.items() if each}
            tell(row, medians[row], rates, latencies, beside)
    sum_up(medians)


def tell(
    row: str,
    medians: dict[str, float],
    rates: dict[str, list[float]],
    latencies: dict[str, list[str]],
    beside: dict[str, list[float]],
) -> None:
    first = medians.get("Spyglass", 0.0)
    print(
        f"\n| {row} | requests/s, median | lowest, highest | Spyglass to it | latency, 50 % | slow pages/s |\n|---|---|---|---|---|---|"
    )
    for name, median in sorted(medians.items(), key=lambda each: -each[1]):
        ratio = f"{first / median:.2f}" if median else "-"
        print(
            f"| {name} | {median:,.0f} | {min(rates[name]):,.0f}, {max(rates[name]):,.0f} | {ratio} | {sorted(latencies[name])[len(latencies[name]) // 2]} | {statistics.median(beside[name]):.1f} |",
            flush=True,
        )


def sum_up(medians: dict[str, dict[str, float]]) -> None:
    """Print each row's rates of Spyglass, and of the first of the others."""
    print(
        "\n| requests/s, median | Spyglass | Spyglass, pure | first of the others | Spyglass to it |\n|---|---|---|---|---|"
    )
    for row, rates in medians.items():
        others = [(rate, name) for name, rate in rates.items() if not name.startswith("Spyglass")]
        best, rival = max(others, default=(0.0, "none"))
        ours, pure = (rates.get(name, 0.0) for name in ("Spyglass", "Spyglass, pure"))
        ratio = f"{ours / best:.2f}" if best else "-"
        print(f"| {row} | {ours:,.0f} | {pure:,.0f} | {best:,.0f} ({rival}) | {ratio} |")


if __name__ == "__main__":
    main()

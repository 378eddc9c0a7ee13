"""Bytes that nobody would think of, for as long as one likes: `make fuzz SECONDS=600`,
or of one target alone, `TARGETS=worker`.

    reader    the requests' reader, llhttp included: no cut of any bytes changes what is read, with usual limits and with tight ones
    proxies   what a proxy tells of its clients, in a PROXY header before all else or in fields: any cut, and any peer
    frames    a WebSocket's frames, with and without compression: no cut of any bytes changes the events, nor what fails them
    worker    a whole worker in this process (tests/unit/fake_clients.py): an answer or a close, and nothing is left behind

libFuzzer (by way of atheris) makes the inputs, led by which lines of spyglass/ they
reach. It starts from the corpus beside this file and from what the wire cases say. What
a run has found that reaches new lines is added to the corpus at its end: look at it
with `git status` and commit it, for tests/unit/test_fuzz.py, or of frames
tests/rfc6455/test_frames.py, says all of it again in each run of the tests. An input that something fails for is written to the directory
CRASHES, and told with its traceback; `fuzz.py TARGET FILE` tries it again. A fix starts
as a test, with that input.
"""

import argparse
import hashlib
import shlex
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # tests/, as pytest has it

with atheris.instrument_imports(include=["spyglass"]):
    from http11.reading import converse, cut
    from rfc6455.cases import CASES
    from rfc6455.speaking import bytewise, same_in_any_cut
    from unit.fake_clients import ENDINGS, SETTINGS, TIGHT, Talking, hostile, wire_conversations

    from spyglass.errors import PrefaceError
    from spyglass.http11.forwarded_headers import believe
    from spyglass.http11.proxy_protocol import read_header

LONGEST = 1024  # bytes of an input; two requests and the limits of TIGHT fit in
STUCK = 20  # seconds for one input


def places(data):
    """Where to cut it: anywhere, and each time at the same place."""
    some = zlib.crc32(data)
    return [some & 0xFFF, some >> 12 & 0xFFF, some >> 24]


def read(data):
    for limits in ({}, TIGHT):
        whole = converse([data], **limits)
        for pieces in (bytewise(data), cut(data, places(data))):
            found = converse(pieces, **limits)
            assert found[0] == whole[0], "a cut changes the requests"
            assert found[1:] == whole[1:], "a cut changes the end, or the status of the refusal"


def speak(data):
    same_in_any_cut(data, places(data))


def preface(data):
    """(what the header tells or why it is refused, how many bytes that took)"""
    for size in range(1, len(data) + 1):
        try:
            header = read_header(data[:size])
        except PrefaceError:
            return None
        if header is not None:
            assert header[0] <= size
            return header[0], header[1] and header[1].environ()
    return None


def be_told(data):
    try:
        whole = read_header(data)
    except PrefaceError:
        whole = None
    bit_by_bit = preface(data)
    if whole is not None:
        assert bit_by_bit == (whole[0], whole[1] and whole[1].environ()), (
            "a cut changes the PROXY header"
        )
    elif bit_by_bit is not None:
        raise AssertionError("whole it is no PROXY header")
    lines = data.decode("latin-1").split("\n")
    for peer in ("", "127.0.0.1", "10.1.2.3", "192.0.2.1"):
        names = (
            "FORWARDED",
            "X_FORWARDED_FOR",
            "X_FORWARDED_PROTO",
            "X_FORWARDED_HOST",
            "X_FORWARDED_PORT",
        )
        for first in (0, 1):  # Forwarded stands above the others
            environ = {
                f"HTTP_{name}": line for name, line in zip(names[first:], lines, strict=False)
            }
            environ |= {
                "REMOTE_ADDR": peer,
                "SERVER_NAME": "a",
                "SERVER_PORT": "80",
                "wsgi.url_scheme": "http",
                "HTTP_HOST": "a",
            }
            believe(environ, "unix, 127.0.0.1, 10.0.0.0/8", "for, proto, host, port, forwarded")
            assert environ["wsgi.url_scheme"] in ("http", "https")
            assert all(type(value) is str for value in environ.values())
            if peer == "192.0.2.1":
                assert environ["REMOTE_ADDR"] == peer, "a stranger is believed"


def be_served(workers):
    def serve(data):
        number = zlib.crc32(data)
        hostile(workers[number % len(workers)], data, places(data), ENDINGS[number >> 8 & 3])

    return serve


def fuzz(target, arguments):
    """libFuzzer, in this process, until it ends it."""
    with tempfile.TemporaryDirectory() as path:
        tests = {"reader": read, "proxies": be_told, "frames": speak}
        if target == "worker":
            paths = [Path(path, kind) for kind in SETTINGS]
            for each in paths:
                each.mkdir()
            tests["worker"] = be_served(
                [
                    Talking(each, **settings)
                    for each, settings in zip(paths, SETTINGS.values(), strict=True)
                ]
            )
        # To merge, libFuzzer starts itself again, by a shell: this is its name.
        atheris.Setup(
            [shlex.join([sys.executable, __file__, "--target", target]), *arguments], tests[target]
        )
        atheris.Fuzz()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument(
        "--crashes", type=Path, default=Path(tempfile.gettempdir(), "spyglass-crashes")
    )
    parser.add_argument("targets", nargs="+", choices=["reader", "proxies", "frames", "worker"])
    options = parser.parse_args()
    options.crashes.mkdir(parents=True, exist_ok=True)
    failed = [
        target
        for target in options.targets
        if not run(target, max(1, options.seconds // len(options.targets)), options.crashes)
    ]
    if failed:
        sys.exit(f"{', '.join(failed)}: failed; the inputs are in {options.crashes}")


def run(target, seconds, crashes):
    """One target; True when nothing failed. What it has found is kept in either
    case.
    """
    kept = HERE / ("frames" if target == "frames" else "corpus")
    before = len(list(kept.iterdir()))
    with tempfile.TemporaryDirectory() as found, tempfile.TemporaryDirectory() as seeds:
        for data in wire_frames() if target == "frames" else wire_conversations(LONGEST):
            Path(seeds, hashlib.sha1(data).hexdigest()).write_bytes(data)
        limits = [
            f"-max_len={LONGEST}",
            f"-timeout={STUCK}",
            f"-artifact_prefix={crashes}/{target}-",
            f"-dict={HERE / 'http.dict'}",
        ]
        print(f"{target}: {seconds} s", flush=True)
        passed = start(
            target,
            *limits,
            f"-max_total_time={seconds}",
            "-print_final_stats=1",
            found,
            str(kept),
            seeds,
        )
        if passed:
            start(target, *limits, "-merge=1", str(kept), found, seeds)
    print(f"{target}: {len(list(kept.iterdir())) - before} new in {kept}", flush=True)
    return passed


def wire_frames():
    return [case.send for _, case in CASES if len(case.send) <= LONGEST]


def start(target, *arguments):
    return (
        subprocess.run(
            [sys.executable, __file__, "--target", target, *arguments], check=False
        ).returncode
        == 0
    )


if __name__ == "__main__":
    if sys.argv[1] == "--target":
        fuzz(sys.argv[2], sys.argv[3:])
    elif len(sys.argv) == 3 and Path(sys.argv[2]).is_file():
        fuzz(sys.argv[1], sys.argv[2:])
    else:
        main()

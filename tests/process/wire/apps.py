"""The app that the wire cases are served by: it does what the request's target tells it to, so that a new case needs no new app.

    /             mirrors the environ and the body that it saw, as JSON
    /input?CALLS  makes these calls on wsgi.input and answers with their results
    /play?PROGRAM calls start_response, writes, yields, raises and closes as it is told
    /count?NAME   how often the iterable that carries this name has been closed
    /twice        the names of those that were closed more than once
    /pid          the worker's pid

Everything runs under wsgiref.validate, except below /raw: there the app may break the rules, and the server sees its very objects.
The targets are made by tests/http11/cases/case.py.
"""

import gzip
import json
import os
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from io import BytesIO
from urllib.parse import unquote
from wsgiref.validate import validator

if os.environ.get("WIRE_CACHES") == "off":
    from spyglass.http11 import caches  # here, before the workers are forked

    caches.switch(False)
CLOSED = Counter()
PATTERN = bytes(range(33, 127)) * 1000  # what files of the file_wrapper cases are filled with
GATE_TIMEOUT = 10  # seconds


def app(environ, start_response):
    if environ["PATH_INFO"].startswith("/raw/"):
        return dispatch(environ, start_response)
    return VALIDATED(environ, start_response)


def dispatch(environ, start_response):
    path = environ["PATH_INFO"].removeprefix("/raw")
    return PATHS.get(path, mirror)(environ, start_response)


VALIDATED = validator(dispatch)


def answer(start_response, data, ctype="application/json"):
    start_response("200 OK", [("Content-Type", ctype), ("Content-Length", str(len(data)))])
    return [data]


def mirror(environ, start_response):
    length = environ.get("CONTENT_LENGTH") or (-1 if environ.get("wsgi.input_terminated") else 0)
    body = environ["wsgi.input"].read(int(length))
    seen = {key: value if isinstance(value, str) else repr(value) for key, value in environ.items()}
    return answer(start_response, json.dumps({"environ": seen, "input": body.decode("latin-1")}).encode())


def count(environ, start_response):
    return answer(start_response, b"%d" % CLOSED[environ["QUERY_STRING"]])


def twice(environ, start_response):
    return answer(start_response, json.dumps([name for name, times in CLOSED.items() if times > 1]).encode())


def pid(environ, start_response):
    return answer(start_response, b"%d" % os.getpid())


def vandal(environ, start_response):
    """Leaves nothing of its environ; the next request must not notice."""
    environ.clear()
    environ.update(HTTP_EVIL="1", SCRIPT_NAME="/evil")
    return answer(start_response, b"done")


def read_input(environ, start_response):
    stream = environ["wsgi.input"]
    results = []
    for name, *arguments in json.loads(unquote(environ["QUERY_STRING"])):
        result = list(stream) if name == "iter" else next(iter(stream)) if name == "next" else getattr(stream, name)(*arguments)
        lines = [line.decode("latin-1") for line in result] if isinstance(result, list) else result.decode("latin-1")
        results.append(lines)
    return answer(start_response, json.dumps(results).encode())


def play(environ, start_response):
    performer = Performer(environ, start_response, json.loads(unquote(environ["QUERY_STRING"])))
    for step in performer.program["call"]:
        performer.perform(step)
    return performer.returned()


PATHS = {"/count": count, "/twice": twice, "/pid": pid, "/vandal": vandal, "/input": read_input, "/play": play}


def value(given):
    """A JSON value as the app uses it: {"bytes": "x"} for what would be bytes where text is meant."""
    return given["bytes"].encode("latin-1") if isinstance(given, dict) else given


def chunk(given):
    """A piece of the body: text stands for bytes; {"str": ...}, {"of": [text, times]} and others for what they say."""
    if isinstance(given, str):
        return given.encode("latin-1")
    if "of" in given:
        text, times = given["of"]
        return text.encode("latin-1") * times
    if "bytearray" in given:
        return bytearray(given["bytearray"].encode("latin-1"))
    return next(iter(given.values()))


class Performer:
    """Performs one program of case.py's play()."""

    def __init__(self, environ, start_response, program):
        self.environ = environ
        self.start_response = start_response
        self.program = program
        self.writer = None

    def perform(self, step):
        """A piece of the body comes back as it is; of anything else the effect is had and None returned."""
        if isinstance(step, str | dict):
            return chunk(step)
        verb, *arguments = step
        return getattr(self, "do_" + verb)(*arguments)

    def do_start(self, status, fields, more):
        containers = {"list": list, "tuple": tuple, "iter": iter}
        pairs = [value(pair) if not isinstance(pair, list) else tuple(map(value, pair)) for pair in fields]
        if more.get("pairs") == "list":
            pairs = [list(pair) for pair in pairs]
        pairs = containers[more.get("container", "list")](pairs)
        if not more.get("exc_info"):
            self.writer = self.start_response(value(status), pairs, *([None] if "exc_info" in more else []))
            return
        try:
            raise RuntimeError("told to start again")
        except RuntimeError:
            if more["exc_info"] == "named":
                self.writer = self.start_response(value(status), pairs, exc_info=sys.exc_info())
            else:
                self.writer = self.start_response(value(status), pairs, sys.exc_info())

    def do_write(self, data):
        self.writer(chunk(data))

    def do_raise(self, name):
        raise getattr(__import__("builtins"), name)("told to raise")

    def do_log(self, text):
        self.environ["wsgi.errors"].write(text + "\n")
        self.environ["wsgi.errors"].writelines([text + "\n"])
        self.environ["wsgi.errors"].flush()

    def do_read(self, size):
        return self.environ["wsgi.input"].read(size)

    def do_await(self, gate):
        """Wait until the client has opened the gate."""
        deadline = time.monotonic() + GATE_TIMEOUT
        while not os.path.exists(gate):
            if time.monotonic() > deadline:
                raise TimeoutError(gate)
            time.sleep(0.002)

    def do_pass(self, gate):
        """Wait until the client has opened the gate, and shut it."""
        self.do_await(gate)
        os.unlink(gate)

    def do_exit(self, status):
        sys.exit(status)

    def body(self):
        for step in self.program["body"]:
            data = self.perform(step)
            if data is not None or isinstance(step, dict):
                yield data

    def endless(self):
        while True:
            yield b"x" * 65536

    def returned(self):
        body = self.program["body"]
        kinds = {
            "list": lambda: [chunk(each) for each in body],
            "tuple": lambda: tuple(chunk(each) for each in body),
            "generator": self.body,
            "counted": lambda: Counted(self, self.body()),
            "endless": lambda: Counted(self, self.endless()),
            "broken": lambda: Broken(self, None),
            "sized": lambda: Sized(self, self.body()),
            "sequence": lambda: Sequence([chunk(each) for each in body]),
            "file": self.file,
            "bytes": lambda: "".join(body).encode(),
            "str": lambda: "".join(body),
            "none": lambda: None,
            "int": lambda: 7,
        }
        return kinds[self.program["kind"]]()

    def file(self):
        """`file` in the program: of what make it is, its size, where to seek to or how much to read first, and the block size."""
        how = self.program["file"]
        stream = opened(how.get("make"), PATTERN[: how["size"]])
        if "seek" in how:
            stream.seek(how["seek"])
        stream.read(how.get("read", 0))
        close = stream.close

        def counted_close():
            CLOSED[self.program["token"]] += 1
            close()

        stream.close = counted_close  # on the object itself: a server may look at its type before it trusts fileno()
        if how.get("make") == "reader":
            stream = Reader(stream)
        wrapper = self.environ["wsgi.file_wrapper"]
        wrapped = wrapper(stream, how["block"]) if "block" in how else wrapper(stream)
        return iter(wrapped) if how.get("iterated") else wrapped


def opened(make, content):
    """A file of this content, at its start; of one `make` or another."""
    if make in ("memory", "reader"):
        return BytesIO(content)
    if make == "pipe":
        reader, writer = os.pipe()
        with open(writer, "wb") as stream:
            stream.write(content)
        return open(reader, "rb")
    makers = {"named": tempfile.NamedTemporaryFile, "unbuffered": partial(tempfile.TemporaryFile, buffering=0)}
    stream = makers.get(make, tempfile.TemporaryFile)()
    if make == "gzip":  # its fileno() is that of the compressed file
        with gzip.open(stream, "wb") as packed:
            packed.write(content)
        stream.seek(0)
        return gzip.open(stream)
    stream.write(content)
    stream.seek(0)
    return stream


class Counted:
    """An iterable whose close() is counted, and may raise."""

    def __init__(self, performer, source):
        self.performer = performer
        self.source = source

    def __iter__(self):
        return self.source

    def close(self):
        CLOSED[self.performer.program["token"]] += 1
        if "close" in self.performer.program:
            self.performer.perform(self.performer.program["close"])


class Sized(Counted):
    """One that has a length: the server may conclude something from a length of one (PEP 3333, Handling the Content-Length)."""

    def __len__(self):
        return self.performer.program["length"]


class Broken(Counted):
    """One that fails when it is asked for its iterator."""

    def __iter__(self):
        raise KeyError("told to raise")


class Sequence:
    """The old sequence protocol: no __iter__."""

    def __init__(self, items):
        self.items = items

    def __getitem__(self, index):
        return self.items[index]


class Reader:
    """A file that has read() and close() and nothing else."""

    def __init__(self, stream):
        self.read = stream.read
        self.close = stream.close

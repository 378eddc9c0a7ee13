"""What the soak's apps do, whichever framework calls it. Lies beside each of them as
deeds.py.

An answer can be told from every other one: its first line names the visit, the life of
the unit, the worker, the version of the code, the hash of the body that came and the
(monotonic) time; the rest is made from the visit's id. Who gets another's answer, or a
torn one, sees it.

Before anything else each visit is written down in the app's state directory, with the
worker that has it. So it is known whose work was lost when a worker is killed, and
whether a visit that got no answer was ever begun.
"""

import hashlib
import os
import re
import signal
import threading
import time

SEEN = os.path.join(os.environ.get("STATE_DIRECTORY", "/tmp"), "seen")
hoard = []


def seen(visit):
    """One line, whole: a short write with O_APPEND is not torn (write(2))."""
    fd = os.open(SEEN, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, f"{visit} {os.getpid()}\n".encode())
    finally:
        os.close(fd)


def filler(visit, size):
    block = hashlib.sha256(visit.encode()).hexdigest().encode()
    return (block * (size // len(block) + 1))[:size]


def first_line(visit, version, digest):
    return f"{visit} {os.environ['INVOCATION_ID']} {os.getpid()} {version} {digest} {time.monotonic():.3f}\n".encode()


def digest_of(stream):
    digest = hashlib.sha256()
    while piece := stream.read(65536):
        digest.update(piece)
    return digest.hexdigest()


def echo(visit, version, query, stream):
    seen(visit)
    digest = digest_of(stream)
    if "sleep" in query:
        time.sleep(float(query["sleep"]))
    return first_line(visit, version, digest) + filler(visit, int(query.get("size", 0)))


def pieces(visit, version, query, stream):
    """The same as echo, in `pieces` pieces that take `sleep` seconds together."""
    seen(visit)
    count, size = int(query["pieces"]), int(query["size"])
    body = filler(visit, size)
    yield first_line(visit, version, digest_of(stream))
    for number in range(count):
        time.sleep(float(query["sleep"]) / count)
        yield body[size * number // count : size * (number + 1) // count]


def work(visit, seconds):
    import spyglass

    with spyglass.stay_awake():
        time.sleep(seconds)
        seen(f"{visit}-done")


def harm(visit, query):
    """Deeds that no app should do. Only some of them return."""
    seen(visit)
    how = query["how"]
    if how == "segfault":
        import ctypes

        ctypes.string_at(0)
    elif how == "exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    elif how == "term":
        os.kill(os.getpid(), signal.SIGTERM)
    elif how == "hang":
        time.sleep(3600)
    elif how == "compute":
        re.match("(a*)*b", "a" * 40)
    elif how == "stay":
        threading.Thread(target=work, args=(visit, float(query["seconds"]))).start()
    elif how == "grow":
        hoard.append(bytes(range(256)) * (int(query["size"]) // 256))

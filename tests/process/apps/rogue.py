"""A WSGI app that does to its process whatever its target names, and then answers;
anything else is a greeting.

The query is the path of a file that it makes first, so that whoever asked can know that
it has been asked.
"""

import ctypes
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time

REQUEST = threading.local()
FORK = multiprocessing.get_context("fork")


def pid(_):
    return str(os.getpid()).encode()


def gate(path):
    """Until there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return b"open"


def sleep(seconds):
    time.sleep(float(seconds))
    return b"slept"


# Dying


def segfault(_):
    ctypes.string_at(0)


def leave(status):
    os._exit(int(status))


def shoot(number):
    os.kill(os.getpid(), int(number))


# Holding everybody up


def hold(seconds):
    """In a C function that keeps the interpreter's lock, as a regular expression gone
    wild does.
    """
    ctypes.PyDLL(None).sleep(int(seconds))
    return b"held"


# Descriptors


def closeall(_):
    os.closerange(3, 1000)
    return b"closed"


def close(kind):
    """Close all of that `kind`, but for the connection that is being answered."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = kind_of(int(name))
        except OSError:
            continue  # what listed them
        if found == kind:
            os.close(int(name))
    return b"closed"


def print(_):
    """To where both standard streams are, or were."""
    for fd in (1, 2):
        try:
            os.write(fd, b"something that is printed\n")
        except OSError:
            pass
    return b"printed"


def kind_of(fd):
    if fd in (1, 2):
        return "standard"
    link = os.readlink(f"/proc/self/fd/{fd}")
    if not link.startswith("socket:"):
        return link.strip("[]").removeprefix("anon_inode:[").partition(":")[0]
    with socket.socket(fileno=os.dup(fd)) as sock:
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "listener"
        return "mine" if str(sock.getpeername()[1]) == REQUEST.environ["REMOTE_PORT"] else "client"


# Processes


def fork(_):
    """Both come back, as from a fork whose author has forgotten which of the two he
    is.
    """
    os.fork()
    return str(os.getpid()).encode()


def forkexit(status):
    child = os.fork()
    if not child:
        sys.exit(int(status))
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()


def forkraise(_):
    child = os.fork()
    if not child:
        raise RuntimeError("in the child")
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()


def forklate(_):
    """In a call that is a long one."""
    time.sleep(0.05)
    return fork(_)


def forkstream(_):
    """In the middle of a response."""
    yield b"one "
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    yield b"child"


def background(seconds):
    if not os.fork():
        time.sleep(float(seconds))
        os._exit(0)
    return b"started"


def threads(_):
    return " ".join(thread.name for thread in threading.enumerate()).encode()


def square(number):
    return number * number


def processes(_):
    with FORK.Pool(2) as pool:
        return repr(pool.map(square, [1, 2, 3])).encode()


def terminate(_):
    """A child of multiprocessing's that is told to end."""
    child = FORK.Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(5)
    return str(child.exitcode).encode()


def run(_):
    return subprocess.run(["/bin/echo", "echoed"], capture_output=True, check=True).stdout


def daemon(how):
    """Leaves a process behind that outlives its parent; "deaf" ignores SIGTERM."""
    command = "trap '' TERM; while :; do sleep 1; done" if how == "deaf" else "sleep 3600"
    subprocess.run(["/bin/sh", "-c", f"({command}) &"], stdin=subprocess.DEVNULL, check=True)
    return b"left behind"


# Threads and signals


def thread(_):
    threading.Thread(target=time.sleep, args=(3600,), name="endless").start()
    return b"started"


def ignore(_):
    for number in (
        signal.SIGTERM,
        signal.SIGQUIT,
        signal.SIGINT,
        signal.SIGCHLD,
        signal.SIGALRM,
        signal.SIGHUP,
        signal.SIGUSR1,
        signal.SIGUSR2,
    ):
        signal.signal(number, signal.SIG_IGN)
    return b"ignored"


def block(_):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    return b"blocked"


def wakeup(_):
    signal.set_wakeup_fd(-1)
    return b"taken"


def alarm(_):
    signal.alarm(1)
    return b"set"


def app(environ, start_response):
    if environ["QUERY_STRING"]:
        pathlib.Path(environ["QUERY_STRING"]).touch()
    REQUEST.environ = environ
    what, _, argument = environ["PATH_INFO"][1:].partition("/")
    result = globals().get(what, lambda _: b"hello")(argument) if what.isalpha() else b"hello"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [result] if isinstance(result, bytes) else result

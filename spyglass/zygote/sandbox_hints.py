"""Which setting lifts a refusal of the sandbox that an app's error comes from.

A refusal of the sandbox is an ordinary error: its traceback says what the app wanted,
not why it was refused. advice() must be called in the process that met the error, for
only there "may I enter this directory" has the right answer. It runs only after a
failure, never on the wake path. docs/sandbox.md has the same as a table, and rarer
cases.
"""

from __future__ import annotations

import errno
import grp
import linecache
import os
import pwd
import stat

from spyglass.config.setting_errors import let_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLE = "see the table in docs/sandbox.md"
# How numba, cffi, polars and the dynamic linker say that memory that was written may
# not be executed.
_JIT_WORDS = ("executable memory", "write+execute", "mprotect", "executable stack")
_SQLITE_WORDS = ("unable to open database file", "readonly database")


def advice(error: BaseException) -> str:
    """Return one or two lines on what would help, "" if `error` does not come from the
    sandbox or this process is in none.
    """
    if not sandboxed():
        return ""
    for each in _chain(error):
        if found := _about(each):
            return found
    return ""


def kind(found: str) -> str:
    """Return `found` without its paths: equal for two hints of the same kind."""
    return " ".join(word for word in found.split() if "/" not in word)


def sandboxed() -> bool:
    """Return True if a unit of ours started this process: only those have a state
    directory of that name (systemd.exec(5), StateDirectory=).
    """
    return "/spyglass/" in os.environ.get("STATE_DIRECTORY", "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes: libraries wrap the kernel's error in theirs."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or each.__context__


def _about(error: BaseException) -> str:
    text = str(error)
    if any(words in text for words in _JIT_WORDS) or (
        isinstance(error, PermissionError) and _raised_by(error, "mmap")
    ):
        return (
            "the sandbox refuses memory that is written and then executed: set allow_jit = true for just-in-time compilers and "
            "libraries that generate code at run time"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _about_os(error, error.errno)
    if type(error).__name__ == "OperationalError":
        return _about_database(text)
    if isinstance(error, ModuleNotFoundError):
        return _about_module()
    if isinstance(error, KeyError) and error.args:
        return _about_key(error)
    return ""


def _about_os(error: OSError, number: int) -> str:
    path = error.filename if isinstance(error.filename, str) else ""
    if number == errno.EROFS:
        return read_only(path)
    if number == errno.EACCES and path:
        return may_not(path)
    if number == errno.EAFNOSUPPORT:
        return f"the sandbox allows TCP, UDP and unix sockets only: for others set RestrictAddressFamilies= in a drop-in ({_TABLE})"
    if number in (errno.ENETUNREACH, errno.ECONNREFUSED) and not _has_network():
        return "the sandbox has no network: set network = true"
    if number == errno.ENOENT and path.startswith("/dev/"):
        return f"the sandbox has no devices except /dev/null and the like: for others set PrivateDevices= in a drop-in ({_TABLE})"
    if number == errno.ENOENT and path.startswith(("/tmp/", "/var/tmp/")):  # noqa: S108, only named
        return f"the service has a {path[: path.index('tmp') + 3]} of its own, empty at each wake, without other programs' files"
    if number == errno.EPERM:
        return f"the sandbox refuses calls that need privileges (change of owner, priority or namespace; devices; tracing): {_TABLE}"
    return ""


def read_only(path: str) -> str:
    """Return what helps a process that cannot write to `path` ("" if it is not known)
    because the file system is read-only.
    """
    state = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    folder = os.path.dirname(os.path.abspath(path)) if path else ""
    what = f'writable = ["{folder}"]' if folder else "writable = [...]"
    return f"the file system is read-only in the sandbox: write to $STATE_DIRECTORY ({state}), or set {what}"


def may_not(path: str) -> str:
    """Return what keeps this process from `path` (str): the first directory from the
    root down that it cannot enter, or the file that it cannot read.
    """
    path = os.path.abspath(path)
    parts = path.split(os.sep)
    for depth in range(1, len(parts)):
        folder = os.sep.join(parts[:depth]) or os.sep
        if not os.access(folder, os.X_OK):
            return _closed(folder, "enter", "x")
    folder = os.path.dirname(path)
    if not os.path.lexists(path):
        return _closed(folder, "write to", "w")
    if not os.access(path, os.R_OK):
        return _closed(path, "read", "rx" if os.path.isdir(path) else "r")
    return _closed(path if os.path.isdir(path) else folder, "write to", "w")


def _closed(path: str, what: str, bits: str) -> str:
    found = os.stat(path)
    mode = stat.filemode(found.st_mode)
    said = f"the service's user {user()} cannot {what} {path} ({mode}, owned by {_owner(found.st_uid)})"
    if bits == "w":
        return f"{said}: write to $STATE_DIRECTORY; for files shared with others set user = ... to a user that has access"
    group, name = "", user()
    try:
        group = grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        pass
    if name.startswith(_DYNAMIC):  # a dynamic user's group has its name and is as transient
        name = name.removeprefix(_DYNAMIC)
        group = "" if group in ("", user()) else group
    return f"{said}: {let_in(name, group, path, bits)}"


_DYNAMIC = "spyglass-"


def user() -> str:
    """Return the name of this process's user; a number if it is a dynamic user and
    libnss-systemd is not installed.
    """
    return _owner(os.geteuid())


def _owner(uid: int) -> str:
    # With PrivateUsers= an owner outside of the sandbox's user namespace appears as
    # 65534. For a dynamic user, root is one of those.
    if uid == 65534:
        return "another user"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _about_database(text: str) -> str:
    if any(words in text for words in _SQLITE_WORDS):
        return read_only("")
    if "eer authentication failed" in text or (f'"{user()}"' in text and "does not exist" in text):
        return f"the app connects to the database as {user()}: create a role of that name, or set user = ... to a user that has one"
    if "ermission denied" in text:
        return f"the service's user {user()} cannot connect to that socket: set SupplementaryGroups= in a drop-in, or user = ..."
    return ""


def _about_module() -> str:
    if "VIRTUAL_ENV" in os.environ:
        return ""
    found = [name for name in ("venv", ".venv") if os.path.isfile(os.path.join(name, "pyvenv.cfg"))]
    return (
        f'there is a virtual environment in {os.getcwd()}: set venv = "{found[0]}" to use it'
        if found
        else ""
    )


def _about_key(error: KeyError) -> str:
    if _raised_by(error, "__getitem__", (os.__file__, "<frozen os>")):
        return (
            f"{error.args[0]} is not in the service's environment: set environment = {{...}} or environment_file, or for secrets "
            "credentials (files in $CREDENTIALS_DIRECTORY)"
        )
    if "uid not found" in str(error.args[0]):
        return "this machine cannot look up systemd's dynamic users: apt install libnss-systemd"
    return ""


def _raised_by(error: BaseException, function: str, files: tuple[str, ...] = ()) -> bool:
    """Return True if the innermost frame of the traceback is of `function` in one of
    `files`. Without `files`, for a C function: if the line of that frame calls it.
    """
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    if files:
        return code.co_name == function and code.co_filename in files
    return f"{function}(" in linecache.getline(code.co_filename, trace.tb_lineno)


def _has_network() -> bool:
    """Return False if there is only loopback, as with PrivateNetwork=."""
    try:
        with open("/proc/net/dev", encoding="ascii") as stream:
            names = [line.partition(":")[0].strip() for line in stream if ":" in line]
    except OSError:
        return True
    return names != ["lo"]

"""Whether a path that root or systemd opens could be replaced by another user.

PID 1 opens what EnvironmentFile= and LoadCredential= name as root, before the service
is anything less; it creates unix sockets as root, and root's commands read
/etc/spyglass/NAME.toml. A user that can replace one component of such a path chooses
what is opened: a named pipe there blocks PID 1 for good, a symbolic link hands root's
files to the app, or has root change the owner of any file. So each component, of links
those that they lead to as well, must belong to root and be writable by root alone.

Not checked this way, by nature another user's: `directory`, which systemd never sees
(Spyglass enters it as the app's user), and `venv`: its `spyglass` is executed after
systemd has become that user. Of `writable` see `foreign_link`.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = 0
_TOP = "/"  # components below it are looked at; tests, which are not root, have one of their own
_MAX_LINKS = 40  # as the kernel (path_resolution(7))


def weakness(path: str) -> str:
    """Return which component of `path`, which is absolute, another user could replace,
    and why; "" when none. Components may be missing.
    """
    for part, status in _components(path):
        if os.path.commonpath((part, _TOP)) != _TOP:
            continue
        if status is None:
            return f"{part} is a loop of symbolic links"
        if status.st_uid != _ROOT:
            return f"{part} belongs to {_user(status.st_uid)}, which could replace it while root opens it"
        # What an ACL grants shows as the group's bits (acl(5)). A sticky directory
        # keeps others from deleting, not from creating.
        if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
            return f"{part} is writable by other users (mode {stat.S_IMODE(status.st_mode):04o}): they could replace what is in it"
    return ""


def foreign_link(path: str) -> str:
    """Return the symbolic link on the way to `path` that is not root's, or "".

    For `writable`: the directories are the developer's and may be, but systemd follows
    links when it makes the sandbox, as root. A link that another user can turn round
    would make any other directory writable for the app from its next start on.
    """
    for part, status in _components(path):
        if status is None or (stat.S_ISLNK(status.st_mode) and status.st_uid != _ROOT):
            return part
    return ""


def _components(path: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield each component of `path` and of what its links lead to, from "/" on, with
    its lstat(2); None where links form a loop.
    """
    done, waiting, links = "/", path.split("/"), 0
    yield done, os.lstat(done)
    while waiting:
        name = waiting.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)  # no link is in `done`, so this is the parent
            continue
        part = os.path.join(done, name)
        try:
            status = os.lstat(part)
            target = os.readlink(part) if stat.S_ISLNK(status.st_mode) else ""
        except OSError:
            return
        yield part, status
        if not stat.S_ISLNK(status.st_mode):
            done = part
            continue
        links += 1
        if links > _MAX_LINKS:
            yield part, None
            return
        done = "/" if target.startswith("/") else done
        waiting = [*target.split("/"), *waiting]


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"

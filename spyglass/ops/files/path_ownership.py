"""Decide whether another user could replace a file that root or systemd opens.

PID 1 opens EnvironmentFile= and LoadCredential= as root, before it drops privileges; it
creates unix sockets as root; root's commands read /etc/spyglass/NAME.toml. A user who
can replace one component of such a path chooses what is opened. A named pipe there
blocks PID 1 for good; a symbolic link gives root's files to the app, or makes root
change the owner of any file. So every component, those that links lead to included,
must belong to root and be writable by root alone.

Two paths belong to other users by nature and are not checked: `directory`, which
systemd never sees (Spyglass enters it as the app's user), and `venv`, whose `spyglass`
is executed after systemd has become that user. For `writable` see `foreign_link`.
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = 0
_TOP = "/"  # only components below it are checked; tests, which are not root, set another
_MAX_LINKS = 40  # the kernel's limit (path_resolution(7))


def weakness(path: str) -> str:
    """Return which component of the absolute `path` another user could replace, and
    how; "" if none. Components may be missing.
    """
    for part, status in _components(path):
        if os.path.commonpath((part, _TOP)) != _TOP:
            continue
        if status is None:
            return f"{part} is a loop of symbolic links"
        if status.st_uid != _ROOT:
            return f"{part} belongs to {_user(status.st_uid)}, which could replace it while root opens it"
        # Permissions granted by an ACL show in the group bits (acl(5)). A sticky
        # directory stops other users from deleting files, but not from creating them:
        # it counts as writable.
        if status.st_mode & 0o022 and not stat.S_ISLNK(status.st_mode):
            return f"{part} is writable by other users (mode {stat.S_IMODE(status.st_mode):04o}): they could replace its contents"
    return ""


def foreign_link(path: str) -> str:
    """Return the first symbolic link on the way to `path` that is not root's, or "".

    For `writable`: the directories may be the developer's, but systemd follows links as
    root when it sets up the sandbox. A user who can redirect such a link would make any
    other directory writable for the app at its next start.
    """
    for part, status in _components(path):
        if status is None or (stat.S_ISLNK(status.st_mode) and status.st_uid != _ROOT):
            return part
    return ""


def _components(path: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield (path, lstat result) of each component of `path`, from "/" on.

    A link is followed by the components of its target. The result is None where links
    form a loop; iteration ends at a component that is missing.
    """
    done, waiting, links = "/", path.split("/"), 0
    yield done, os.lstat(done)
    while waiting:
        name = waiting.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)  # `done` has no links in it, so this is the parent
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

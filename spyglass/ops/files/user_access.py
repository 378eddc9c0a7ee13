"""Find out which files the service's user can access.

Mode bits do not tell it: there are ACLs, supplementary groups and, on the way, other
directories. So a child process becomes that user and asks the kernel (access(2)).
"""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

# The first uid that systemd gives to dynamic users (systemd.exec(5), DynamicUser=). It
# owns no files.
_DYNAMIC = 61184


@dataclass(frozen=True)
class Account:
    """A user as the service has it: its ids, supplementary groups and name ("" for a
    dynamic user).
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    named: str = ""

    @property
    def group(self) -> str:
        """The name of the account's group, "" for a dynamic one."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return ""


def account(user: str, group: str = "") -> Account:
    """Return the account of `user` ("": a dynamic user), with `group` if one is given.

    Raise KeyError if the user or the group does not exist.
    """
    gid = group_id(group) if group else None
    if not user:
        return Account(_DYNAMIC, _DYNAMIC if gid is None else gid, ())
    found = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    gid = found.pw_gid if gid is None else gid
    # With Group=, systemd ignores the primary group in passwd(5), unless group(5) lists
    # the user in it, too.
    return Account(found.pw_uid, gid, tuple(os.getgrouplist(found.pw_name, gid)), found.pw_name)


def group_id(name: str) -> int:
    """Return the number of a group. Raise KeyError if it does not exist."""
    return (grp.getgrgid(int(name)) if name.isdigit() else grp.getgrnam(name)).gr_gid


def inaccessible(account: Account, wanted: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Return {path: first inaccessible component} for each (path, mode) in `wanted`
    that `account` cannot access.

    `mode` is as for access(2). Only root can become another user: for others return {}.
    """
    if os.geteuid() != 0:
        return {}
    near, far = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.setgroups(list(account.groups))
            os.setegid(account.gid)
            # Only the effective ids: the real uid stays root's, so that this user
            # cannot send the child a SIGSTOP (kill(2)), for which we would wait for
            # ever.
            os.seteuid(account.uid)
            closed = {
                path: _blocking_component(path) for path, mode in wanted if not _is_open(path, mode)
            }
            with os.fdopen(far, "w") as stream:
                json.dump(closed, stream)
            status = 0
        finally:
            os._exit(status)
    os.close(far)
    with os.fdopen(near) as stream:
        said = stream.read()
    os.waitpid(pid, 0)
    found: dict[str, str] = json.loads(said or "{}")
    return found


def _is_open(path: str, mode: int) -> bool:
    """Return True if the effective user may access `path`."""
    return os.access(path, mode, effective_ids=True)


def _blocking_component(path: str) -> str:
    """Return the first directory on the way to `path`, links followed, that cannot be
    searched; `path` itself if all can.
    """
    real = os.path.realpath(path)
    for way in (path, real):
        parts = way.split("/")
        for depth in range(2, len(parts)):
            parent = "/".join(parts[:depth])
            if not _is_open(parent, os.X_OK):
                return parent
    return path

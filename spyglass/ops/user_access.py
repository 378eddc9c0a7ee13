"""What the service's user can get at: asked of the kernel by a process that is that
user, for modes alone do not tell (ACLs, groups).
"""

from __future__ import annotations

import grp
import json
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass

# The first of those that systemd gives to services (systemd.exec(5), DynamicUser=);
# no file belongs to it.
_DYNAMIC = 61184


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int
    groups: tuple[int, ...]
    named: str = ""

    @property
    def group(self) -> str:
        """The name of its group, "" for one that exists only while an app is awake."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return ""


def account(user: str, group: str = "") -> Account:
    """Return the account that `user` names ("": the dynamic user), in
    `group` if there is one.

    Raises KeyError when there is no such user, or no such group.
    """
    gid = group_id(group) if group else None
    if not user:
        return Account(_DYNAMIC, _DYNAMIC if gid is None else gid, ())
    found = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    gid = found.pw_gid if gid is None else gid
    # With Group=, that of the user in passwd(5) does not count, unless group(5) has it,
    # too.
    return Account(found.pw_uid, gid, tuple(os.getgrouplist(found.pw_name, gid)), found.pw_name)


def group_id(name: str) -> int:
    """The number of a group. Raises KeyError when there is no such group."""
    return (grp.getgrgid(int(name)) if name.isdigit() else grp.getgrnam(name)).gr_gid


def inaccessible(account: Account, wanted: Iterable[tuple[str, int]]) -> dict[str, str]:
    """Return {path: first inaccessible part} of `wanted`, (path, mode) pairs that
    `account` may not, and the part of the path that is closed.

    Only root can become another user: for all others nothing is reported.
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
            # Effectively alone: what is really root's that user cannot stop (kill(2)),
            # and we would wait for it for good.
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
    return os.access(path, mode, effective_ids=True)


def _blocking_component(path: str) -> str:
    """The first directory on the way, links followed, that cannot be gone through; the
    path itself if all of them can.
    """
    real = os.path.realpath(path)
    for way in (path, real):
        parts = way.split("/")
        for depth in range(2, len(parts)):
            parent = "/".join(parts[:depth])
            if not _is_open(parent, os.X_OK):
                return parent
    return path

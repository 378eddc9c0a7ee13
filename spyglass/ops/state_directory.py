"""What an app has stored, as it lies on the disk: in /var/lib/spyglass/NAME, and where
the app can neither read nor write it any more.

For a dynamic user systemd keeps it in /var/lib/private/spyglass/NAME, behind a link. At
each start systemd gives the directory to the app's user, with all that is in it, but
only if the directory itself belongs to another user: what root copies into it later
stays root's. On systemd 257 it may belong to "nobody", which systemd maps to the app's
user while the app runs.

Nothing is changed here, there are only commands: the app may write there, and root must
not follow what it has put there.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from typing import TYPE_CHECKING

from spyglass.ops import atomic_files
from spyglass.ops.app_status import units_of
from spyglass.ops.doctor_checks.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE, CACHE = "/var/lib", "/var/cache"
_NOBODY = 65534
_LIMIT = 20_000  # entries that are looked at


def examine(name: str, user: str) -> list[Finding]:
    """Return what is wrong with the directories of the app `name`, which runs as `user`
    ("": a dynamic one). Only root sees all of it.
    """
    private = _private(STATE, name)
    if not user:
        found = [*_duplicated(name, STATE), *_duplicated(name, CACHE), *_dangling_link(name)]
        return found or _foreign_files(name, private)
    return _owned_by_nobody(name, user) or _foreign_files(name, _public(STATE, name))


def _public(base: str, name: str) -> str:
    return os.path.join(base, "spyglass", name)


def _private(base: str, name: str) -> str:
    return os.path.join(base, "private", "spyglass", name)


def _duplicated(name: str, base: str) -> Iterator[Finding]:
    """A directory was restored where systemd wants a link to another one that is there
    as well.
    """
    public, private = _public(base, name), _private(base, name)
    if os.path.islink(public) or not os.path.isdir(public) or not os.path.isdir(private):
        return
    what = f"{public} is a directory, and so is {private}, to which it should be a link"
    why = f"systemd cannot start the app, and clients wait; {public} is used if the other is moved away"
    cure = [
        f"mv {private} {private}.old" if base == STATE else f"rm -r {private}",
        f"systemctl restart {units_of(name)[1]}",
    ]
    yield Finding(name, what, why, cure)


def _dangling_link(name: str) -> Iterator[Finding]:
    public, private = _public(STATE, name), _private(STATE, name)
    if not os.path.islink(public) or not _is_missing(private):
        return
    why = f"the app would start without its data: restore {private} (a backup of {STATE}/spyglass alone has only links), or remove the link"
    yield Finding(
        name, f"{public} is a link to {private}, which does not exist", why, [f"rm {public}"]
    )


def _is_missing(path: str) -> bool:
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError)  # otherwise we may not look
    return False


def _owned_by_nobody(name: str, user: str) -> list[Finding]:
    """The app was one of a dynamic user on systemd 257: it goes on as before, but the
    files belong to another user for all other processes.
    """
    directory = _public(STATE, name)
    try:
        if (
            os.path.islink(directory)
            or os.lstat(directory).st_uid != _NOBODY
            or _uid(user) == _NOBODY
        ):
            return []
    except (OSError, KeyError):
        return []
    why = "systemd maps it to the app's user while the app runs, but other programs of that user cannot read it"
    cure = [f"systemctl stop {units_of(name)[1]}", f"chown -R {shlex.quote(user)}: {directory}"]
    return [
        Finding(
            name,
            f"{directory} belongs to nobody on the disk, not to {user}",
            why,
            cure,
            grave=False,
        )
    ]


def _uid(user: str) -> int:
    return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid


def _foreign_files(name: str, directory: str) -> list[Finding]:
    """Files that do not belong to the user to whom the directory does. If it belongs to
    root, systemd has yet to give it to the app.
    """
    if os.path.islink(directory):
        return []
    try:
        owner = os.lstat(directory).st_uid
    except OSError:
        return []
    found = next(_not_owned_by(owner, directory), "") if owner else ""
    if not found:
        return []
    what = f"{found} does not belong to the app's user, as {directory} does"
    why = "the app cannot write there, or not even read: systemd sees to the owner of the directory only"
    return [
        Finding(name, what, why, [f"chown -R --no-dereference --reference={directory} {directory}"])
    ]


def _not_owned_by(owner: int, directory: str) -> Iterator[str]:
    for each in atomic_files.walk_untrusted(directory, _LIMIT):
        if each is not None and each[1].st_uid != owner and not stat.S_ISLNK(each[1].st_mode):
            yield each[0]

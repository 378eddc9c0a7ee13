"""Check the directories in which an app stores data: /var/lib/spyglass/NAME.

For a dynamic user systemd keeps the data in /var/lib/private/spyglass/NAME, behind a
link. At each start it changes the owner of the directory and everything in it to the
app's user, but only if the directory itself belongs to another user: files that root
copies into it later stay root's, and the app cannot write them. On systemd 257 the
directory may belong to "nobody", which systemd maps to the app's user while the app
runs.

This only reports and suggests commands. The app may write there, so root must not
follow what it has put there.
"""

from __future__ import annotations

import os
import pwd
import shlex
import stat
from typing import TYPE_CHECKING

from spyglass.ops.files import atomic_files
from spyglass.ops.output.finding import Finding, not_inspected
from spyglass.ops.status.app_status import units_of

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE, CACHE = "/var/lib", "/var/cache"
_NOBODY = 65534
_LIMIT = 20_000  # entries to look at


def examine(name: str, user: str) -> list[Finding]:
    """Return what is wrong with the directories of the app `name`, which runs as `user`
    ("": a dynamic user). Only root can see all of it.
    """
    private = _private(STATE, name)
    if not user:
        found = [*_duplicated(name, STATE), *_duplicated(name, CACHE), *_dangling_link(name)]
        return found or _foreign_files(name, private)
    return _owned_by_nobody(name, user) or _foreign_files(name, _public(STATE, name))


def existing(name: str) -> list[str]:
    """Return the directories of the app `name` that exist, for any kind of user."""
    paths = (where(base, name) for base in (STATE, CACHE) for where in (_public, _private))
    return [path for path in paths if os.path.lexists(path)]


def places(base: str, name: str) -> tuple[str, str]:
    """Return the app's directory below `base` (STATE or CACHE): the path that the app
    sees, and the one behind it for a dynamic user.
    """
    return _public(base, name), _private(base, name)


def _public(base: str, name: str) -> str:
    """Return the path that the app sees."""
    return os.path.join(base, "spyglass", name)


def _private(base: str, name: str) -> str:
    """Return the path behind it for a dynamic user."""
    return os.path.join(base, "private", "spyglass", name)


def _duplicated(name: str, base: str) -> Iterator[Finding]:
    """Find a directory where systemd needs a link, while the link's target exists as
    well: the usual result of restoring a backup.
    """
    public, private = _public(base, name), _private(base, name)
    if os.path.islink(public) or not os.path.isdir(public) or not os.path.isdir(private):
        return
    what = f"{public} is a directory, but should be a link to {private}, which also exists"
    why = (
        f"systemd cannot start the app, and clients wait. After the commands below {public} is used"
    )
    cure = [
        f"mv {private} {private}.old" if base == STATE else f"rm -r {private}",
        f"systemctl restart {units_of(name)[1]}",
    ]
    yield Finding(name, what, why, cure)


def _dangling_link(name: str) -> Iterator[Finding]:
    """Find a link to private data that is missing: a backup without /var/lib/private
    was restored.
    """
    public, private = _public(STATE, name), _private(STATE, name)
    if not os.path.islink(public) or not _is_missing(private):
        return
    why = f"the app would start without its data: restore {private} (a backup of {STATE}/spyglass alone has only links), or remove the link"
    yield Finding(
        name, f"{public} is a link to {private}, which does not exist", why, [f"rm {public}"]
    )


def _is_missing(path: str) -> bool:
    """Return True if `path` certainly does not exist."""
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError)  # else we have no permission to look
    return False


def _owned_by_nobody(name: str, user: str) -> list[Finding]:
    """Find a directory that belongs to "nobody": the app had a dynamic user on systemd
    257 before.

    The app still runs, but for all other processes the files have the wrong owner.
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
    why = "systemd maps the owner while the app runs, but other programs of that user cannot read the files"
    cure = [f"systemctl stop {units_of(name)[1]}", f"chown -R {shlex.quote(user)}: {directory}"]
    return [
        Finding(
            name,
            f"{directory} belongs to nobody, not to {user}",
            why,
            cure,
            grave=False,
        )
    ]


def _uid(user: str) -> int:
    return int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid


def _foreign_files(name: str, directory: str) -> list[Finding]:
    """Find files that do not belong to the owner of the app's directory.

    A directory of root's is skipped: systemd will change its owner at the next start.
    """
    if os.path.islink(directory):
        return []
    try:
        owner = os.lstat(directory).st_uid
    except OSError:
        return []
    found = next(_not_owned_by(owner, directory), "") if owner else ""
    if found is None:
        what = f"the owners of the files in {directory}"
        return [not_inspected(name, what, f"there are more than {_LIMIT}, or very deep ones")]
    if not found:
        return []
    what = f"{found} does not belong to the app's user, unlike {directory}"
    why = "the app may be unable to read or write it: systemd fixes owners only if the directory itself has the wrong one"
    return [
        Finding(name, what, why, [f"chown -R --no-dereference --reference={directory} {directory}"])
    ]


def _not_owned_by(owner: int, directory: str) -> Iterator[str | None]:
    """Yield the paths below `directory` that do not belong to `owner` (uid), links
    excepted; at the end None, if some were not looked at.
    """
    whole = True
    for each in atomic_files.walk_untrusted(directory, _LIMIT):
        if each is None:
            whole = False
        elif each[1].st_uid != owner and not stat.S_ISLNK(each[1].st_mode):
            yield each[0]
    if not whole:
        yield None

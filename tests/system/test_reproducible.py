"""Two builds of one source give the same bytes: make deb's, and one under circumstances
as different as can be had.

The second is made by another user in another directory whose files were written in
another order, on a machine of another name, 400 days later, in another time zone, with
another umask, locale, home and number of jobs. What it leaves when it has cleaned up is
the source that it was given.

One release is enough: what differs between two builds is what our source and rules let
in, and the tools of both releases are asked in the same way.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from machine import REPOSITORY, package

# The kernel keeps one clock for all, so the C library is told what to say of it.
CLOCK = r"""
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
#define LATER (400L * 24 * 60 * 60)
int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += LATER;
    return result;
}
time_t time(time_t *kept) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (kept)
        *kept = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
"""
# Is run in the directory of the source, and given the build as its arguments.
OTHERWISE = r"""
printf '%s' "$CLOCK" >/tmp/clock.c
gcc -shared -fPIC -o /usr/lib/clock.so /tmp/clock.c
elsewhere=/var/tmp/another/place
mkdir -p "$elsewhere/home"
cd ..
find spyglass | sort -r | tar -c --no-recursion --files-from=- | tar -C "$elsewhere" -x --no-same-owner
chown -R 1234:1234 "$elsewhere"
cd "$elsewhere/spyglass"
hostname elsewhere
umask 027
before=$(date +%Y)
export LD_PRELOAD=/usr/lib/clock.so TZ=XYZ-13:37 LANG=C LC_ALL=C HOME="$elsewhere/home" USER=somebody DEB_BUILD_OPTIONS=parallel=3 CAPTURED=environment
test "$(date +%Y)" -gt "$before"
setpriv --reuid 1234 --regid 1234 --clear-groups "$@" --post-clean
unset LD_PRELOAD
diff --recursive /build/spyglass .
cp ../spyglass*_* /build
"""


@pytest.fixture
def rebuilt(release: str, tmp_path: Path) -> Path:
    """A directory with what the other build has made."""
    script = ["unshare", "--uts", "env", f"CLOCK={CLOCK}", "sh", "-euc", OTHERWISE, "otherwise"]
    done = subprocess.run(
        [str(REPOSITORY / "packaging/deb"), release, str(tmp_path), *script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHON": sys.executable},
    )
    assert done.returncode == 0, done.stdout
    return tmp_path


@pytest.mark.one_release
@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_builds_are_equal(release: str, deb_layers: object, rebuilt: Path) -> None:
    first, second = (
        {
            path.name: path.read_bytes()
            for kind in ("*.deb", "*.dsc", "*.tar.xz")
            for path in directory.glob(kind)
        }
        for directory in (package(release).parent, rebuilt)
    )
    assert sorted(first) == sorted(second)
    assert len(first) == 4  # the package, its debugging symbols, and the source in two files
    assert [name for name in first if first[name] != second[name]] == []

"""How much memory a process uses, as Linux counts it.

PSS, the proportional share: a page that n processes have mapped counts as an nth of it.
A worker begins with everything the app has loaded, shared with its zygote and siblings
until one of them writes to it. RSS (statm) counts all of that in full for each of them:
a worker would be as large at its first request as the app is, a limit would be one on
the app and not on what a worker has added, and the workers' numbers could not be
summed. With `max_memory` the question is how much of the machine a worker takes, and
what ending it would free. The price is a walk through the page tables, 4 ms for each
100 MiB where statm takes a tenth of one, so it is paid only where there is a limit, and
seldom. What is swapped out is not in PSS and is added: of a leak that is the greater
part.
"""

from __future__ import annotations


def share(pid: int) -> int:
    """Return the memory of process `pid` in bytes, PSS and its share of the swap
    (proc_pid_smaps(5), since Linux 4.14); 0 if it has ended.

    Raises PermissionError where the kernel does not tell: another user's process,
    or one made undumpable (prctl(2)).
    """
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as stream:
            lines = stream.read().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(
        int(line.split()[1]) << 10 for line in lines if line.startswith((b"Pss:", b"SwapPss:"))
    )

"""What is tried: single options, and sets of them. Each is a list of lines for the
[Service] section, {name} being the unit's name.

What is shipped is not repeated here but read from packaging/systemd, so that what is
measured is what is installed: everything from DynamicUser= on is the sandbox,
everything before is how a service lives, and that half is part of every candidate.
"""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "packaging/systemd/spyglass@.service"
NOT_TRIED = ("ExecStart=", "ExecReload=", "EnvironmentFile=")  # the program is another one here

Sets = dict[str, list[str]]


def shipped(unit: Path = UNIT) -> tuple[list[str], list[str]]:
    """The two halves of the unit's [Service] section."""
    section = unit.read_text().partition("[Service]\n")[2]
    lines = [
        line
        for line in section.splitlines()
        if line and not line.startswith("#") and not line.startswith(NOT_TRIED)
    ]
    lines = [line.replace("spyglass-%i", "{name}").replace("%i", "{name}") for line in lines]
    begin = lines.index("DynamicUser=yes")
    return lines[:begin], lines[begin:]


LIFE, SHIPPED = shipped()
FILTER = [line for line in SHIPPED if line.startswith("SystemCall") and "Architectures" not in line]
USER = ["DynamicUser=yes", "User={name}"]
NAMED = (  # another user, with what a dynamic one implies
    *("User=www-data", "ProtectSystem=strict", "ProtectHome=read-only", "PrivateTmp=yes"),
    *("RemoveIPC=yes", "NoNewPrivileges=yes", "RestrictSUIDSGID=yes"),
)
ERRNO = "SystemCallErrorNumber=EPERM"
ALLOWED = ["SystemCallFilter=@system-service", ERRNO]
ALLOWED_LESS = [
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    ERRNO,
]
DIRECTORIES = [
    line
    for line in SHIPPED
    if line.startswith(("State", "Cache", "WorkingDirectory", "Environment"))
]
HOME = "ProtectHome=tmpfs"
TUNABLES = "ProtectKernelTunables=yes"
LOGS = "ProtectKernelLogs=yes"
GROUPS = "ProtectControlGroups=yes"
PROC = "ProtectProc=invisible"
DEVICES = "PrivateDevices=yes"
# These make mounts; everything else in the unit is a system call or a filter.
MOUNTS = (DEVICES, GROUPS, PROC)


def less(*gone: str) -> list[str]:
    assert all(line in SHIPPED for line in gone), gone
    return [line for line in SHIPPED if line not in gone]


# Each option alone, on top of no sandbox at all.
SINGLE: Sets = {
    " ".join(lines): lines
    for lines in (
        ["User=www-data"],
        USER,
        ["StateDirectory={name}"],
        ["CacheDirectory={name}"],
        ["ProtectSystem=strict"],
        ["ProtectHome=read-only"],
        ["ProtectHome=yes"],
        [HOME],
        ["PrivateTmp=yes"],
        [DEVICES],
        ["DevicePolicy=closed"],
        ["PrivateUsers=yes"],
        ["PrivateIPC=yes"],
        ["PrivateMounts=yes"],
        ["PrivateNetwork=yes"],
        [TUNABLES],
        ["ProtectKernelModules=yes"],
        [LOGS],
        [GROUPS],
        ["ProtectClock=yes"],
        ["ProtectHostname=yes"],
        [PROC],
        ["ProcSubset=pid"],
        ["NoNewPrivileges=yes"],
        ["RestrictSUIDSGID=yes"],
        ["RestrictRealtime=yes"],
        ["RestrictNamespaces=yes"],
        ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6"],
        ["RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"],
        ["LockPersonality=yes"],
        ["MemoryDenyWriteExecute=yes"],
        ["SystemCallArchitectures=native"],
        ["CapabilityBoundingSet="],
        ["UMask=0077"],
        ["KeyringMode=private"],
        ["IPAddressDeny=any", "IPAddressAllow=localhost"],
        ALLOWED,
        ALLOWED_LESS,
        FILTER,
        ["SystemCallFilter=~@debug", ERRNO],
    )
}

# What is shipped, with one thing less: an option that costs something shows here what
# it costs in company.
WITHOUT: Sets = {
    "shipped": SHIPPED,
    "- directories": less(*DIRECTORIES),
    "- CacheDirectory": less(*(line for line in SHIPPED if line.startswith("Cache"))),
    "- SystemCallFilter": less(*FILTER),
} | {
    "- " + line.partition("=")[0]: less(line)
    for line in SHIPPED
    if line.startswith(
        ("Capab", "Lock", "Memory", "Private", "Protect", "Restrict", "SystemCallArch")
    )
}

# And with one thing more, or in another way.
WITH: Sets = {
    "shipped": SHIPPED,
    "no CacheDirectory": less(*(line for line in SHIPPED if line.startswith("Cache"))),
    "no directories": less(*DIRECTORIES),
    "+ ProtectHome=tmpfs": [*SHIPPED, HOME],
    "+ ProtectHome=yes": [*SHIPPED, "ProtectHome=yes"],
    "+ ProtectKernelLogs": [*SHIPPED, LOGS],
    "+ ProtectKernelTunables": [*SHIPPED, TUNABLES],
    "+ ProtectHostname": [*SHIPPED, "ProtectHostname=yes"],
    "+ PrivateIPC": [*SHIPPED, "PrivateIPC=yes"],
    "+ ProcSubset=pid": [*SHIPPED, "ProcSubset=pid"],
    "+ AF_NETLINK": [*SHIPPED, "RestrictAddressFamilies=AF_NETLINK"],
    "+ PrivateNetwork": [*SHIPPED, "PrivateNetwork=yes"],
    "+ RuntimeDirectory": [*SHIPPED, "RuntimeDirectory={name}"],
    "+ LogsDirectory": [*SHIPPED, "LogsDirectory={name}"],
    "@system-service for the list of denials": [*less(*FILTER), *ALLOWED],
    "@system-service without @privileged @resources": [*less(*FILTER), *ALLOWED_LESS],
    "a static user": [*less(*USER), *NAMED],
}

# Whole sets, from the floor up, and the rivals of what is shipped: others that also
# reach 1.5.
FREE = less(*MOUNTS)
SETS: Sets = {
    "a dynamic user": USER,
    "and its directories": [*USER, *DIRECTORIES],
    "and all that makes no mounts": FREE,
    "PrivateDevices": [*FREE, DEVICES],
    "ProtectControlGroups": [*FREE, GROUPS],
    "ProtectProc": [*FREE, PROC],
    "ProtectControlGroups, ProtectProc": [*FREE, GROUPS, PROC],
    "PrivateDevices, ProtectControlGroups, ProtectProc (shipped)": SHIPPED,
    "PrivateDevices, ProtectKernelLogs, ProtectControlGroups": [*FREE, DEVICES, LOGS, GROUPS],
    "PrivateDevices, ProtectKernelLogs, ProtectProc": [*FREE, DEVICES, LOGS, PROC],
    "ProtectHome, ProtectKernelLogs, ProtectControlGroups, ProtectProc": [
        *FREE,
        HOME,
        LOGS,
        GROUPS,
        PROC,
    ],
    "all of these": [*FREE, DEVICES, HOME, LOGS, GROUPS, PROC],
    "and ProtectKernelTunables": [*FREE, DEVICES, HOME, LOGS, GROUPS, PROC, TUNABLES],
    "the same, @system-service for the list of denials": [
        *(line for line in FREE if line not in FILTER),
        *(DEVICES, HOME, LOGS, GROUPS, PROC, TUNABLES, *ALLOWED_LESS),
    ],
}

# What wakes.py takes away from the shipped set, by what it is for.
FILTERS = tuple(
    line
    for line in SHIPPED
    if line.startswith(("SystemCall", "Restrict", "Lock", "MemoryDeny", "ProtectClock"))
)
PARTS: Sets = {
    "the state and cache directories": less(*DIRECTORIES),
    "a dynamic user (a named one instead)": [*less(*USER), *NAMED],
    "`ProtectProc`, `ProtectControlGroups` (a /proc of its own)": less(PROC, GROUPS),
    "`PrivateDevices` (a /dev of its own)": less(DEVICES),
    "`ProtectKernelModules` (/usr/lib/modules hidden)": less("ProtectKernelModules=yes"),
    "`PrivateUsers` (a user namespace)": less("PrivateUsers=yes"),
    "all filters of system calls": less(*FILTERS),
    "`CapabilityBoundingSet`": less("CapabilityBoundingSet="),
}

TABLES = {
    "shipped": {"shipped": SHIPPED},
    "single": SINGLE,
    "without": WITHOUT,
    "with": WITH,
    "sets": SETS,
}

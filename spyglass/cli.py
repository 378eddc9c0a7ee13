"""A command line to an exit status.

The server's commands (serve, lookout, check, reload) are parsed by
config/command_line.py and declared in ops/server_commands.py. All others are the
administrator's: ops/command_table.py lists and runs them. A wake imports this file
before it forks its first zygote (master/beginning.py), so every function imports what
it needs.
"""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from spyglass.config.command_line import Arguments
    from spyglass.errors import StartError
    from spyglass.master.beginning import Beginning


def main(argv: list[str] | None = None) -> int:
    """Run a command line (default: that of the process). Return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["serve"]:  # systemd starts it, and it prints nothing
        return _serve(argv)
    if sys.stdout is not sys.__stdout__:  # a test has replaced it
        return _run(argv)
    gc.enable()
    if sys.flags.no_site:
        # Only a wake can do without it.
        from spyglass.runtime import late_site

        late_site.run_site()
    if argv[:1] == ["enter-app"]:  # in the unit of `spyglass run`, not typed
        from spyglass.ops.run import enter_app

        return enter_app.main(argv[1:])
    if argv[:1] == ["app-shell"]:  # what enter-app executes for `spyglass shell`
        from spyglass.ops.run import app_shell

        return app_shell.main(argv[1:])
    if argv[:1] not in (["lookout"], ["check"], ["reload"]):
        # By an administrator, who may write where the services may not.
        from spyglass.runtime import byte_code_bundles

        byte_code_bundles.renew()
    from spyglass.ops.output import safe_stdout

    return safe_stdout.run(lambda: _run(argv), only_prints=not _changes(argv))


def _changes(argv: list[str]) -> bool:
    """True if the command line changes something: then its exit status tells whether
    that was done, even if its output cannot be written.
    """
    if not argv or {"-n", "--dry-run", "-h", "--help"}.intersection(argv):
        return False
    from spyglass.config.command_line import SERVER_COMMANDS

    if argv[0] in SERVER_COMMANDS:
        # Not by command_table: the lookout, which waits for long, would keep argparse.
        from spyglass.ops import server_commands

        return server_commands.COMMANDS[argv[0]].changes
    from spyglass.ops import command_table

    command = command_table.find(argv[0])
    return command is not None and command.changes


def _run(argv: list[str]) -> int:
    from spyglass.config import command_line
    from spyglass.errors import StartError

    if not argv or argv[0] not in command_line.SERVER_COMMANDS:
        from spyglass.ops import command_table

        return command_table.run(argv)
    try:
        arguments = command_line.parse(argv)
    except StartError as error:
        return _refuse(error)
    if arguments.help:
        return _help(arguments)
    return {"lookout": _lookout, "check": _check, "reload": _reload}[arguments.command](arguments)


def _help(arguments: Arguments) -> int:
    from spyglass.ops import command_table

    command_table.print_help(arguments.command)
    return 0


def _refuse(error: StartError) -> int:
    print(f"spyglass: {error.lines[0]}", file=sys.stderr)
    return error.exit_status


def _serve(argv: list[str]) -> int:
    from spyglass.master.beginning import Beginning, is_woken, may_fork_early
    from spyglass.runtime import fork

    def begin() -> int:
        beginning = Beginning()
        if may_fork_early(argv, os.environ):
            beginning.fork_zygote()
        return _be_master(argv, beginning, woken=is_woken(os.environ))

    return fork.run(begin)


def _be_master(argv: list[str], beginning: Beginning, *, woken: bool) -> int:
    """Serve. `woken` (bool): systemd has passed listeners to this process."""
    from spyglass.runtime.module_finder import import_all

    import_all("master")
    from spyglass.config import command_line, settings
    from spyglass.errors import ConfigError, StartError
    from spyglass.master.main import Master

    refused = None
    try:
        arguments = command_line.parse(argv)
    except StartError as error:
        # With connections in the queue, an exit would make systemd start us again at
        # once, and again, until it fails the socket for good. The Master answers them
        # with 503.
        if not woken:
            return _refuse(error)
        arguments, refused = command_line.Arguments(), error
    if arguments.help:
        return _help(arguments)

    def read_config() -> settings.Config:
        if refused is not None:
            raise ConfigError(str(refused))
        return settings.load(arguments.file, os.environ, arguments.options)

    try:
        return Master(read_config, beginning).run()
    except StartError as error:
        # No client can be answered, or not by this Master.
        return _refuse(error)


def _lookout(arguments: Arguments) -> int:
    from spyglass.config import settings as config
    from spyglass.errors import StartError
    from spyglass.log import LEVELS, open_log
    from spyglass.ops.commands.lookout import Lookout

    try:
        settings = config.load(arguments.file, os.environ, arguments.options)
        log = open_log("lookout", LEVELS[settings.log_level])
        lookout = Lookout(arguments.binds or ["127.0.0.1:4222"], settings, arguments.again(), log)
    except StartError as error:
        for line in error.lines:
            print(f"spyglass: {line}", file=sys.stderr)
        return error.exit_status
    return lookout.run()


def _check(arguments: Arguments) -> int:
    from spyglass.config import settings as config
    from spyglass.errors import EX_CONFIG, ConfigError
    from spyglass.log import LEVELS, open_log
    from spyglass.ops.check import check_installed_app, check_report

    name = arguments.name or ""
    if arguments.word and arguments.file is None and check_installed_app.is_app(arguments.word):
        name = arguments.word
        if arguments.options["app"] == name:
            del arguments.options["app"]
        arguments.file = config.file_for(name)
    if check_installed_app.is_root():
        # As root, this process must import neither the app's code nor anything from the
        # current directory.
        if why := check_installed_app.refusal(name, arguments.word):
            print(f"spyglass: {why}", file=sys.stderr)
            return EX_CONFIG
        return check_installed_app.run(name, arguments.options)
    if arguments.word and name == arguments.word:
        check_report.print_line(
            f"check: runs as {check_installed_app.user_name()}, outside of the sandbox of the service; "
            "to check in it, run this as root"
        )
    try:
        settings = config.load(arguments.file, os.environ, arguments.options, units=True)
    except ConfigError as error:
        what = name or arguments.options.get("app") or arguments.file or "the app"
        check_report.print_verdict(what, error.lines)
        return error.exit_status
    check_installed_app.print_remarks(settings)
    from spyglass.ops.commands.check import check

    note = ""
    if arguments.word and arguments.file is None and arguments.word.isidentifier():
        note = (
            f"({arguments.word} was taken for a module: there is no app of that name, no "
            f"{config.DIRECTORY}/{arguments.word}.toml)"
        )
    return check(settings, open_log("check", LEVELS[settings.log_level]), name, note)


def _reload(arguments: Arguments) -> int:
    from spyglass.errors import StartError

    try:
        if arguments.name is None:
            from spyglass.ops.commands.reload import reload

            return reload(os.environ)
        from spyglass.ops.apply.reload_app import reload_app

        return reload_app(arguments.name)
    except StartError as error:
        print(f"spyglass: {error.lines[0]}", file=sys.stderr)
        return error.exit_status

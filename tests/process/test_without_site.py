"""The units start the interpreter without `site` (-S). An app must find all as if they
did not, and the Master must not run what `site` would run.
"""

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import httptools
import pytest
import systemd as systemd_python
from waiting import wait_until

import spyglass
from spyglass.runtime.byte_code_bundles import BUNDLES

from .fake_systemd import ROOT
from .processes import children
from .visitor import visit

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
APP = """
import builtins, locale, os, site, subprocess, sys, sysconfig

# As multiprocessing starts its processes.
STARTED = "import sys; flags = sys.flags; print(sys.path, sys.prefix, flags.no_site, flags.no_user_site, 'from_pth' in sys.modules)"

def look():
    flags = sys.flags
    return {
        "path": sys.path, "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.executable],
        "flags": [repr(flags), list(flags), flags == tuple(flags), flags.no_site, flags.no_user_site, type(flags).__name__],
        "site": [site.ENABLE_USER_SITE, site.PREFIXES, site.getsitepackages(), site.USER_SITE],
        "builtins": [hasattr(builtins, name) for name in ("exit", "quit", "copyright", "credits", "license", "help")],
        "modules": [name in sys.modules for name in ("from_pth", "sitecustomize", "usercustomize")],
        "options": subprocess._args_from_interpreter_flags(), "schemes": sysconfig.get_paths(),
        "encodings": [sys.stdout.encoding, sys.stdout.line_buffering, sys.getfilesystemencoding(), locale.getpreferredencoding()],
        "argv": sys.argv, "hooks": len(sys.meta_path), "environment": sorted(os.environ),
    }

AT_IMPORT = look()

def app(environ, start_response):
    import json
    start_response("200 OK", [])
    command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", STARTED]
    started = subprocess.run(command, capture_output=True, text=True)
    found = started.stdout + started.stderr
    return [json.dumps([AT_IMPORT, look(), found]).encode()]
"""
# A .pth file that runs code, which says in which process it was run.
PTH = "import os, from_pth; open(from_pth.__file__ + '.ran', 'a').write(f'{os.getpid()} ')\n"


@pytest.fixture
def installed(tmp_path):
    """A virtual environment with Spyglass in it, as pip makes it."""
    root = tmp_path / "env"
    venv.create(root, symlinks=True)
    packages = root / "lib" / VERSION / "site-packages"
    for module in (spyglass, systemd_python, httptools):
        source = Path(module.__file__).parent
        shutil.copytree(
            source, packages / source.name, ignore=shutil.ignore_patterns("__pycache__", "units")
        )
    (packages / "from_pth.py").write_text("")
    (packages / "sitecustomize.py").write_text("import sys; sys.path.append('/nonexistent/custom')")
    (packages / "usercustomize.py").write_text("")
    (packages / "some.pth").write_text(f"{PTH}{tmp_path}/added\n")
    (tmp_path / "added").mkdir()
    script = root / "bin" / "spyglass"
    script.write_text((ROOT / "packaging/bin/spyglass").read_text())
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "look.py").write_text(APP)
    return root


def serve(systemd, root, options, environ=None):
    return systemd(
        "look:app",
        directory=root.parent / "app",
        idle_timeout=60,
        workers=1,
        command=[str(root / "bin" / "python3"), *options, str(root / "bin" / "spyglass")],
        environ=environ or {},
    )


@pytest.mark.parametrize("options", [[], ["-s"], ["-P"]], ids=" ".join)
def test_an_app_finds_all_as_with_it(systemd, installed, options):
    environ = {"PYTHONPATH": str(installed.parent / "given"), "HOME": str(installed.parent)}
    seen = []
    for more in ([], ["-S"]):
        life = serve(systemd, installed, [*options, *more], environ)
        seen.append(json.loads(visit(life.address).body))
        assert "Traceback" not in life.log, life.log
    assert seen[1] == seen[0]
    assert seen[0][0]["modules"][:2] == [True, True]
    assert str(installed.parent / "added") in seen[0][0]["path"]


def test_the_master_runs_nothing_of_it(systemd, installed):
    life = serve(systemd, installed, ["-S"])
    visit(life.address)
    life.until_ready()
    ran = (installed / "lib" / VERSION / "site-packages" / "from_pth.py.ran").read_text().split()
    assert ran[0] in [str(zygote.pid) for zygote in children(life.run.pid)]
    assert str(life.run.pid) not in ran


def test_what_fails_in_it_is_a_failed_load(systemd, installed):
    packages = installed / "lib" / VERSION / "site-packages"
    (packages / "sitecustomize.py").write_text("raise SystemExit('not today')")
    life = serve(systemd, installed, ["-S"])
    assert visit(life.address).status == 503
    life.until_logged("site: the app called sys.exit('not today')")


def test_libsystemd_may_lie_elsewhere(systemd, tmp_path):
    """As in an environment with the system's packages, and in this tree's."""
    (tmp_path / "look.py").write_text(APP)
    life = systemd(
        "look:app",
        directory=tmp_path,
        command=[sys.executable, "-P", "-S", str(ROOT / "spyglass/__main__.py")],
    )
    assert visit(life.address).status == 200
    life.until_ready()
    assert "Traceback" not in life.log, life.log


BUNDLED = """
import sys

def app(environ, start_response):
    start_response("200 OK", [])
    names = ("errors", "master.beginning", "zygote.main", "worker.main")
    return [" ".join(str(sys.modules[f"spyglass.{name}"].__doc__ is None) for name in names).encode()]
"""


def test_a_wake_reads_the_bundles_that_a_command_has_made(systemd, installed):
    """Which have no docstrings; a worker's own main module is in none."""
    (installed.parent / "app" / "look.py").write_text(BUNDLED)
    place = installed / "lib" / VERSION / "site-packages" / "spyglass" / "__pycache__"
    command = [installed / "bin/python3", "-S", installed / "bin/spyglass", "--version"]

    def made():
        subprocess.run(command, env={"PATH": os.environ["PATH"]}, timeout=30, check=True)
        return len(list(place.glob("*.bundle"))) == len(BUNDLES)

    assert not list(place.glob("*.bundle"))
    wait_until(made, 10.0, "not all bundles were made")  # not in the moment of the installation
    life = serve(systemd, installed, ["-S"], {"PYTHONPYCACHEPREFIX": "", "PYTHONPATH": ""})
    assert visit(life.address).text == "True True True False"
    life.until_ready()
    assert "Traceback" not in life.log, life.log


def test_the_command_works_without_it(installed):
    done = subprocess.run(
        [installed / "bin/python3", "-S", installed / "bin/spyglass", "--version"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("spyglass ")

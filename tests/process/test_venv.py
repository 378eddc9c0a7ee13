"""What an app in a virtual environment sees of its Python: what it would see if the
environment's own had started it, as gunicorn does.
"""

import json
import os
import subprocess
import sys
import venv

import pytest

from .fake_systemd import server_environ
from .visitor import visit

LOOK = """
import json, os, site, subprocess, sys, sysconfig
def look():
    return {
        "executable": os.path.realpath(os.path.dirname(sys.executable)), "prefixes": [sys.prefix, sys.exec_prefix, sys.base_prefix],
        "site": [site.PREFIXES, site.ENABLE_USER_SITE, site.getsitepackages()], "sysconfig": sysconfig.get_paths(),
        "scheme": sysconfig.get_preferred_scheme("prefix"), "path": [path for path in sys.path if path != os.getcwd()],
    }
"""
APP = """
import multiprocessing, shutil
import looking, inside
def where(): return sys.executable, sys.prefix
import sys
def app(environ, start_response):
    import subprocess
    start_response("200 OK", [])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply_async(where).get(timeout=20)
    try:
        import pytest
        outside = True
    except ImportError:
        outside = False
    started = subprocess.run([sys.executable, "-c", "import sys, inside; print(sys.prefix)"], capture_output=True, text=True)
    seen = looking.look() | {
        "spawned": spawned, "started": started.stdout + started.stderr, "tool": shutil.which("tool"), "outside": outside,
        "environ": os.environ["VIRTUAL_ENV"],
    }
    return [looking.json.dumps(seen).encode()]
import os
"""


@pytest.fixture
def env(tmp_path):
    """A real one with a package and a command in it, and an app beside it."""
    root = tmp_path / "app" / "env"
    venv.create(root, symlinks=True)
    packages = (
        root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    )
    (packages / "inside.py").write_text("")
    (root / "bin" / "tool").write_text("#!/bin/sh\n")
    (root / "bin" / "tool").chmod(0o755)
    (tmp_path / "app" / "looking.py").write_text(LOOK)
    (tmp_path / "app" / "app.py").write_text(APP)
    return root


def test_it_is_what_the_environment_s_own_python_shows(systemd, tmp_path, pycache, env):
    life = systemd("app", directory=tmp_path / "app", venv="env", workers=1, idle_timeout=60)
    seen = json.loads(visit(life.address, patience=30).text)
    command = [env / "bin" / "python3", "-P", "-c", f"{LOOK}\nprint(json.dumps(look()))"]
    own = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path / "app",
        env=server_environ(pycache),
    )
    expected = json.loads(own.stdout)
    assert {name: seen[name] for name in expected} == expected
    assert seen["spawned"] == [str(env / "bin" / "python3"), str(env)]
    assert seen["started"] == f"{env}\n"
    assert seen["tool"] == str(env / "bin" / "tool")
    assert seen["environ"] == str(env)
    assert not seen["outside"], (
        "what is installed for the Python that runs Spyglass is not the app's"
    )
    assert "Traceback" not in life.log


def test_of_two_generations_each_has_its_own(systemd, tmp_path, env):
    """The Master's own Python is none of theirs: what one generation has made of it,
    the next does not find.
    """
    other = tmp_path / "app" / "other"
    os.symlink("env", other)
    settings = tmp_path / "site.toml"
    text = f'app = "app"\ndirectory = "{tmp_path / "app"}"\nworkers = 1\nidle_timeout = 60\nvenv = '
    settings.write_text(f'{text}"env"\n')
    life = systemd(None, arguments=["--config", str(settings)])
    assert json.loads(visit(life.address, patience=30).text)["prefixes"][0] == str(env)
    settings.write_text(f'{text}"other"\n')
    assert life.reload().wait(20) == 0
    seen = json.loads(visit(life.address, patience=30).text)
    assert seen["prefixes"][0] == str(other)
    assert seen["tool"] == str(other / "bin" / "tool")

"""What an app makes at import, on each release's own Python: told in the journal as a
warning, found by the command, and mended by the remedies.
"""

from __future__ import annotations

import json

import pytest
from instance import Instance
from machine import Machine
from process.visitor import visit

SOURCE = """
import json, os, sqlite3, threading, time, warnings
warnings.simplefilter("error")  # Python warns of a fork with threads since 3.12; an app may want to hear of everything

def begin():
    global database
    database = sqlite3.connect(os.path.join(os.environ.get("STATE_DIRECTORY", "/tmp"), "app.db"), check_same_thread=False)
    threading.Thread(target=time.sleep, args=(3600,), name="ticker", daemon=True).start()

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(sorted(thread.name for thread in threading.enumerate())).encode()]

"""
CASES = {
    "trap": ("begin()\n", {}),
    "after": ("post_fork = begin\n", {}),
    "each": ("begin()\n", {"preload": False}),
}
WARNINGS = [
    "zygote: created by the app's import: a thread, 'ticker': no worker has it",
    "zygote: created by the app's import: an SQLite database, ",
    "zygote: create it after the fork, in a function post_fork() of app, or set preload = false; for more, run `spyglass check`",
]


@pytest.mark.parametrize("name", CASES)
def test_what_is_made_at_import(machine: Machine, name: str) -> None:
    end, settings = CASES[name]
    instance = Instance(
        machine, name, source=SOURCE + end, settings={"idle_timeout": 1, "workers": 2} | settings
    ).start()
    answer = visit(instance.unix)
    assert answer.status == 200
    threads = json.loads(answer.body)
    machine.wait_until(instance.asleep, what="it sleeps")
    assert ("ticker" in threads) == (name != "trap")
    said = [
        record["MESSAGE"]
        for record in machine.records(instance.service)
        if record["PRIORITY"] <= "4"
    ]
    expected = WARNINGS if name == "trap" else []
    assert len(said) == len(expected), said
    assert all(message.startswith(start) for message, start in zip(said, expected, strict=True)), (
        said
    )
    checked = machine.run("spyglass", "check", "--name", name).stdout
    verdict = (
        "on, but this app is not ready for it"
        if name == "trap"
        else "on (no problems found)"
        if name == "after"
        else "off, as this app needs: "
    )
    assert f"\npreload: {verdict}" in checked
    assert ("created at app.py:" in checked) == (name != "after")

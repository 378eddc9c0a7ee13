"""What an app sets at import, or in post_fork(), in the context of its thread (PEP 567)
holds for every request, in whichever thread that is served.
"""

import json

import pytest

from .test_preload import PRELOAD, serve  # noqa: F401, a fixture
from .visitor import Crowd

CONTEXT = """
import contextvars, decimal, json, threading, time
at_import, in_post_fork, of_request = (contextvars.ContextVar(name, default="unset") for name in ("a", "b", "c"))
at_import.set("import")
decimal.getcontext().prec = 50
def post_fork():
    in_post_fork.set("post_fork")
def answer():
    time.sleep(0.02)  # long enough for the others to need threads of their own
    seen = [at_import.get(), in_post_fork.get(), of_request.get(), decimal.getcontext().prec]
    of_request.set("left behind")
    at_import.set("left behind")
    decimal.getcontext().prec = 3
    return json.dumps([threading.get_ident(), *seen])
"""


@PRELOAD
@pytest.mark.parametrize("threads", [1, 4])
def test_a_context_set_before_the_first_request_is_that_of_every_request(serve, preload, threads):  # noqa: F811
    life = serve(CONTEXT, preload=preload, workers=1, threads=threads)
    seen, idents = set(), set()
    with Crowd(life.address, count=6) as crowd:

        def enough():
            for answer in crowd.answers:
                ident, *values = json.loads(answer.text.split(" ", 1)[1])
                idents.add(ident)
                seen.add(tuple(values))
            return len(crowd.answers) > 30 and len(idents) >= min(threads, 2)

        life.until(enough, "the threads did not all serve")
    assert seen == {("import", "post_fork", "unset", 50)}

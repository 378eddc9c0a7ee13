"""PEP 3333, with a hand in the place of the connection: what an app may do, and what
becomes of it when it does otherwise.
"""

import sys
import tempfile
import traceback
from wsgiref.validate import validator

import pytest

from spyglass.gateway.environ import EnvironMaker, base_environ
from spyglass.gateway.file_wrapper import FileWrapper
from spyglass.gateway.wsgi import CutOff
from spyglass.http11.request import Request
from spyglass.http11.request_body import Body

from .fake_connection import Played, Result, answering, coded, length, play


def raised():
    try:
        raise KeyError("first")
    except KeyError:
        return sys.exc_info()


# The environ


@pytest.mark.parametrize(
    ("path", "decoded"),
    [
        ("/a%20b", "/a b"),
        ("/caf%C3%A9", "/caf\xc3\xa9"),
        ("/%", "/%"),
        ("/%zz%2f", "/%zz/"),
        ("/a+b", "/a+b"),
        ("/%00", "/\0"),
    ],
)
def test_the_path_is_decoded_to_bytes_that_travel_as_latin_1(path, decoded):
    request = Request("GET", path, (1, 1), {})
    assert EnvironMaker({}).make(request)["PATH_INFO"] == decoded


def test_what_else_stands_in_it():
    request = Request("PUT", "/a?b", (1, 0), {"HTTP_HOST": "a", "CONTENT_LENGTH": "2"})
    request.path, request.query, request.body = "/a", "b", Body(9)
    request.body.write(b"hi")
    environ = EnvironMaker(base_environ() | {"SERVER_PORT": "80"}).make(request)
    expected = {
        **dict(
            REQUEST_METHOD="PUT",
            SCRIPT_NAME="",
            PATH_INFO="/a",
            QUERY_STRING="b",
            REQUEST_URI="/a?b",
            SERVER_PROTOCOL="HTTP/1.0",
        ),
        **dict(HTTP_HOST="a", CONTENT_LENGTH="2", SERVER_PORT="80"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert expected.items() <= environ.items()
    assert environ["wsgi.input"].read() == b"hi"


def test_each_request_has_an_environ_of_its_own():
    base = base_environ()
    request, maker = Request("GET", "/", (1, 1), {}), EnvironMaker(base)
    first, second = maker.make(request), maker.make(request)
    first["mine"] = 1
    assert "mine" not in second
    assert "mine" not in base
    assert first["wsgi.input"] is not second["wsgi.input"]


# Bodies and their framing


def generator(*chunks):
    yield from chunks


@pytest.mark.parametrize(
    ("what", "result", "fields", "how", "body", "kept"),
    [
        ("a list has a length", [b"ab", b"c"], [], {}, b"abc", True),
        ("so has a tuple", (b"ab", b"", b"c"), [], {}, b"abc", True),
        ("and nothing", [], [], {}, b"", True),
        ("a large list goes in parts", [b"a" * 70_000, b"b"], [], {}, b"a" * 70_000 + b"b", True),
        ("a generator has none", generator(b"ab", b"", b"c"), [], {}, coded(b"ab", b"c"), True),
        ("nor for an old client", generator(b"ab", b"c"), [], {"version": (1, 0)}, b"abc", False),
        (
            "unless the app tells",
            generator(b"ab", b"c"),
            [length(3)],
            {"version": (1, 0)},
            b"abc",
            True,
        ),
        ("a generator of nothing is told apart", generator(b"", b""), [], {}, b"", True),
        ("HEAD of a list", [b"abc"], [], {"method": "HEAD"}, b"", True),
        ("HEAD of a generator", generator(b"abc"), [], {"method": "HEAD"}, b"", True),
        ("HEAD with a length", [b"abc"], [length(3)], {"method": "HEAD"}, b"", True),
        ("HEAD with a length and no body", [], [length(3)], {"method": "HEAD"}, b"", True),
        ("the client wants to go", [b"abc"], [], {"keep": False}, b"abc", False),
        ("we want to go", [b"abc"], [], {"willing": False}, b"abc", False),
    ],
)
def test_framing(what, result, fields, how, body, kept):
    played = play(answering(result, *fields), **how)
    assert (played.status, played.body, played.cut, played.journal.lines) == ("200", body, None, [])
    assert played.exchange.keep_alive is kept
    assert ("Connection: close" in played.head) is not kept


@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
@pytest.mark.parametrize("result", [[], [b"abc"], (b"abc", b"d")])
def test_responses_that_have_no_body_send_none_whatever_the_app_gives(status, result):
    played = play(answering(result, status=status))
    assert (played.status, played.body, played.cut, played.exchange.keep_alive) == (
        status[:3],
        b"",
        None,
        True,
    )


@pytest.mark.parametrize("how", [{"method": "HEAD"}, {"status": "304 Not Modified"}])
def test_a_generator_is_not_advanced_when_no_body_is_sent(how):
    result = Result(b"abc" for _ in range(1000))
    played = play(answering(result, status=how.pop("status", "200 OK")), **how)
    assert (played.body, result.asked, result.closed) == (b"", 1, 1)


def test_a_generator_is_never_ahead_of_its_reader():
    result = Result([b"a", b"b", b"c"])
    played = Played(answering(result))
    for asked in (1, 2, 3):
        played.take(1)
        assert result.asked == asked
    played.all()
    assert (result.asked, result.closed) == (4, 1)


def test_we_are_asked_whether_to_keep_the_connection_when_the_head_is_made():
    """An app may take its time, and the worker be told to drain meanwhile."""

    def app(environ, start_response):
        played.willing = False
        return answering([b"x"])(environ, start_response)

    played = Played(app)
    assert "Connection: close" in played.all().head


# start_response() and write()


def test_the_head_waits_for_the_first_byte_of_the_body():
    def app(environ, start_response):
        yield b""
        start_response("200 OK", [("X", "1")])
        yield b""
        start_response("404 Not Found", [("X", "2")], raised())
        yield b"gone"

    played = play(app)
    assert (played.status, played.body, played.exchange.keep_alive) == ("404", coded(b"gone"), True)
    assert "X: 2" in played.head
    assert "X: 1" not in played.head


def test_text_of_a_class_of_the_app_s_is_sent_as_what_it_holds():
    class Safe(str):
        def __format__(self, spec):
            return "\r\nX: forged"

        __str__ = __format__

    played = play(answering([b"x"], (Safe("Y"), Safe("z")), status=Safe("200 Fine")))
    assert played.head[0] == "HTTP/1.1 200 Fine"
    assert "Y: z" in played.head
    assert "forged" not in played.sent.decode()


def test_the_fields_are_those_of_the_moment():
    fields = [("X", "1")]

    def app(environ, start_response):
        start_response("200 OK", fields)
        fields.append(("Y", "2\r\n"))
        return [b"x"]

    assert "Y" not in play(app).sent.decode()


def test_exc_info_after_the_head_is_raised_and_cuts():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"half"
        start_response("500 Oops", [], raised())
        pytest.fail("exc_info was not raised")

    played = play(app)
    assert played.body == b"4\r\nhalf\r\n"
    assert "KeyError" in played.cut
    assert len(played.journal.lines) == 1


def test_exc_info_after_the_head_may_be_caught_by_the_app():
    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"half"
        try:
            start_response("500 Oops", [], raised())
        except KeyError as error:
            assert error.args == ("first",)
        yield b"done"

    assert play(app).body == coded(b"half", b"done")


def writing(*steps, result=(), fields=()):
    def app(environ, start_response):
        write = start_response("200 OK", list(fields))
        for step in steps:
            write(step)
        return result

    return app


@pytest.mark.parametrize(
    ("what", "app", "body"),
    [
        ("writes alone", writing(b"a", b"", b"bc"), coded(b"a", b"bc")),
        ("writes and a list", writing(b"a", result=[b"b", b"c"]), coded(b"a", b"b", b"c")),
        ("writes and a generator", writing(b"a", result=generator(b"b")), coded(b"a", b"b")),
        ("with a length", writing(b"a", b"b", result=[b"c"], fields=[length(3)]), b"abc"),
        ("of nothing", writing(b""), b""),
        ("of nothing, and a list", writing(b"", result=[b"x"]), coded(b"x")),
    ],
)
def test_write(what, app, body):
    played = play(app)
    assert (played.status, played.body, played.cut, played.journal.lines) == ("200", body, None, [])
    assert played.exchange.keep_alive


def test_write_sends_before_it_returns():
    sent_when_called = []

    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"now")
        sent_when_called.append(played.sent)
        return []

    played = Played(app)
    played.all()
    assert sent_when_called[0].endswith(b"3\r\nnow\r\n")


def test_write_of_a_head_request_sends_the_head_alone():
    played = play(writing(b"abc"), "HEAD")
    assert (played.status, played.body, played.exchange.keep_alive) == ("200", b"", True)


# Apps that break the rules: an error of theirs, told in the journal, and their client
# can tell


def start_twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


@pytest.mark.parametrize(
    "app",
    [
        lambda environ, start_response: [b"x"],
        lambda environ, start_response: [],
        lambda environ, start_response: generator(b"x"),
        lambda environ, start_response: generator(),
        lambda environ, start_response: FileWrapper(tempfile.TemporaryFile()),
        start_twice,
        answering(None),
        answering(7),
        answering(["text"]),
        answering("text"),
        answering([b"x", None]),
        answering(generator("text")),
        answering(generator(b"", bytearray(b"x"))),
        answering([], status="100 Continue"),
        answering([], status="200 OK\r\nX: y"),
        answering([], ("X", "a\r\nb")),
        answering([], ("Content-Length", "-1")),
        writing("text"),
        lambda: None,
        lambda environ, start_response: 1 / 0,
    ],
)
def test_before_the_head_it_is_a_500(app):
    played = play(app)
    assert (played.status, played.body, played.cut) == ("500", b"Internal Server Error\n", None)
    assert len(played.journal.lines) == 1
    assert played.journal.lines[0].startswith("GET /x: the app ")
    assert played.exchange.keep_alive  # the next request on the connection has done nothing wrong


class Safe(str):
    """As a template engine marks it."""


async def asynchronous(environ, start_response):
    return [b"x"]


async def asgi(scope, receive, send):
    pass


async def streaming(environ, start_response):
    yield b"x"


class Starlette:
    async def __call__(self, scope, receive, send):
        pass


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (answering(b"hello"), ["returned bytes", "iterable of bytes", "return [body]"]),
        (answering(bytearray(b"hello")), ["returned bytearray", "return [body]"]),
        (answering(b""), ["returned bytes", "return [body]"]),
        (answering("hello"), ["returned str", "return [text.encode()]"]),
        (answering(Safe("hello")), ["returned Safe", "return [text.encode()]"]),
        (answering({"a": 1}), ["returned dict", "json.dumps"]),
        (answering(None), ["returned None", "`return` missing"]),
        (answering(7), ["returned int", "iterable of bytes"]),
        (answering(["hello"]), ["yielded str as part", "text.encode()"]),
        (answering([b"x", 7]), ["yielded int as part", "requires bytes"]),
        (answering(generator("hello")), ["yielded str as part", "text.encode()"]),
        (
            lambda environ, start_response: [b"x"],
            ["without calling start_response(status, headers) first"],
        ),
        (
            lambda environ, start_response: generator(b"x"),
            ["without calling start_response(status, headers) first"],
        ),
        (
            lambda environ, start_response: generator(),
            ["without calling start_response(status, headers) first"],
        ),
        (
            lambda environ: [b"x"],
            ["cannot be called with (environ, start_response)", "takes 1 positional argument"],
        ),
        (
            asgi,
            [
                "cannot be called with (environ, start_response)",
                "missing 1 required positional argument: 'send'",
                'set interface = "asgi"',
            ],
        ),
        (
            Starlette(),
            ["cannot be called with (environ, start_response)", 'set interface = "asgi"'],
        ),
        (answering(answering([])), ["returned function", "if the app is a factory"]),
        (asynchronous, ["returned coroutine", 'set interface = "asgi"']),
        (streaming, ["returned async_generator", 'set interface = "asgi"']),
    ],
)
def test_a_common_mistake_is_named_and_how_to_put_it_right(app, words):
    """By one line of the journal: a traceback would tell of the server's own lines
    only.
    """
    played = play(app)
    (line,) = played.journal.lines
    assert line.startswith("GET /x: the app ")
    assert [word for word in words if word not in line] == []
    assert (played.status, played.journal.tracebacks) == ("500", [])


@pytest.mark.parametrize(
    ("app", "words"),
    [
        (answering([], status=200), 'a str like "200 OK", not int'),
        (answering([], status=b"200 OK"), 'a str like "200 OK", not bytes'),
        (answering([], status="OK"), 'like "200 OK"'),
        (
            answering([], ("X-Count", 7)),
            "the value of the header X-Count must be a str, not int: 7",
        ),
        (
            answering([], ("X-Count", None)),
            "the value of the header X-Count must be a str, not NoneType: None",
        ),
        (answering([], (b"X-Count", "7")), "the name of a header must be a str, not bytes"),
        (
            lambda environ, start_response: start_response("200 OK", {"X": "y"}),
            "the headers must be a list of (name, value), not dict",
        ),
    ],
)
def test_a_mistake_in_start_response_is_told_with_the_place_in_the_app(app, words):
    played = play(app)
    assert played.status == "500"
    assert words in str(played.journal.tracebacks[0])


def test_a_type_error_of_the_app_s_own_keeps_its_traceback():
    def app(environ, start_response):
        return len(7)

    played = play(app)
    assert played.journal.lines == ["GET /x: the app raised TypeError"]
    assert len(played.journal.tracebacks) == 1


def fails_when_iterated():
    class Result:
        def __iter__(self):
            return iter(7)

    return Result()


def one_of_its_own(environ, start_response):
    return len(7)


def loosely_wrapped(*args):
    return (list)(*args)


def while_it_yields(environ, start_response):
    start_response("200 OK", [])
    yield len(7)


@pytest.mark.parametrize(
    "app",
    [one_of_its_own, loosely_wrapped, while_it_yields, lambda *_: fails_when_iterated()],
)
def test_the_traceback_of_an_error_begins_with_the_app(app):
    played = play(app)
    assert played.status == "500"
    (error,) = played.journal.tracebacks
    assert type(error) is TypeError
    frames = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert frames[0] == __file__
    assert "spyglass/gateway" not in "".join(frames)


def test_headers_of_the_connection_are_dropped_with_one_line_for_debugging():
    played = play(
        answering(
            [b"hello"], ("Connection", "keep-alive"), ("X-A", "b"), ("Transfer-Encoding", "chunked")
        )
    )
    assert (played.status, played.body, played.journal.lines) == ("200", b"hello", [])
    assert [
        line
        for line in played.head
        if line.startswith(("Connection", "Transfer-Encoding", "X-A", "Content-Length"))
    ] == ["X-A: b", "Content-Length: 5"]
    assert len(played.journal.debugged) == 1
    assert played.journal.debugged[0].endswith("Connection, Transfer-Encoding")
    assert played.exchange.keep_alive


@pytest.mark.parametrize("value", ["close", "Close", "keep-alive, close"])
def test_an_app_may_wish_that_the_connection_ends(value):
    played = play(answering([b"hello"], ("Connection", value)))
    assert (played.status, played.body) == ("200", b"hello")
    assert [line for line in played.head if line.startswith("Connection")] == ["Connection: close"]
    assert not played.exchange.keep_alive


@pytest.mark.parametrize(
    "error",
    [
        ValueError,
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
        StopIteration,
        MemoryError,
        BaseException,
    ],
)
def test_nothing_that_an_app_raises_goes_further(error):
    def app(environ, start_response):
        raise error

    assert play(app).status == "500"
    result = Result([error()])
    if error is not StopIteration:
        played = play(answering(result))
        assert (played.status, result.closed) == ("500", 1)
        result = Result([b"x", error()])
        played = play(answering(result))
        assert (played.status, result.closed) == ("200", 1)
        assert error.__name__ in played.cut


def test_what_the_app_could_not_do_is_counted():
    def says(status):
        def app(environ, start_response):
            start_response(status, [])
            return [b""]

        return Played(app).all().errors

    def in_the_middle(environ, start_response):
        start_response("200 OK", [])
        yield b"a"
        raise LookupError

    def at_once(environ, start_response):
        raise LookupError

    assert [
        says(status) for status in ("200 OK", "404 Not Found", "500 Oh", "503 Later", "599")
    ] == [0, 0, 1, 1, 1]
    assert [Played(app).all().errors for app in (in_the_middle, at_once)] == [1, 1]


def test_a_500_takes_nothing_of_the_response_it_replaces():
    result = Result([b"", ValueError("secret")])
    played = play(
        answering(result, ("Content-Length", "999"), ("Set-Cookie", "a=b"), status="201 Created")
    )
    assert (played.status, played.body) == ("500", b"Internal Server Error\n")
    assert "Set-Cookie" not in played.sent.decode()


@pytest.mark.parametrize(("debug", "shown"), [(True, True), (False, False)])
def test_the_traceback_is_for_the_journal_unless_debug_is_on(debug, shown):
    played = play(answering(Result([ValueError("secret")])), debug=debug)
    assert (b"ValueError: secret" in played.body) is shown


def test_a_500_to_head_has_no_body():
    played = play(answering(None), "HEAD")
    assert (played.status, played.body) == ("500", b"")


@pytest.mark.parametrize(
    ("what", "result", "promised", "body"),
    [
        ("a list", [b"abc"], 5, b"abc"),
        ("nothing", [], 5, b""),
        ("a generator", generator(b"ab", b"c"), 5, b"abc"),
        ("a generator of nothing", generator(), 5, b""),
    ],
)
def test_less_than_content_length_cuts_the_connection(what, result, promised, body):
    """Or the next response would be read as the rest of this one."""
    played = play(answering(result, length(promised)))
    assert (played.body, played.cut) == (
        body,
        f"the app sent {len(body)} bytes, but its Content-Length is 5",
    )
    assert len(played.journal.lines) == 1


@pytest.mark.parametrize(
    "result",
    [[b"abcd"], [b"ab", b"cd"], (b"abc", b"d"), generator(b"ab", b"cd", b"ef"), generator(b"abcd")],
)
def test_more_than_content_length_never_leaves(result):
    """It would be read as the next response."""
    played = play(answering(result, length(3)))
    assert (played.body, played.cut) == (b"abc", None)
    assert played.journal.lines == ["GET /x: the app sent more than its Content-Length of 3 bytes"]


def test_an_app_that_exceeds_its_content_length_is_not_asked_for_more():
    result = Result(b"ab" for _ in range(1000))
    played = play(answering(result, length(3)))
    assert (played.body, result.closed) == (b"aba", 1)
    assert result.asked <= 3
    assert len(played.journal.lines) == 1


# close(): once, whatever happens


@pytest.mark.parametrize(
    ("what", "chunks", "how"),
    [
        ("the end", [b"a", b"b"], {}),
        ("nothing", [], {}),
        ("HEAD", [b"a", b"b"], {"method": "HEAD"}),
        ("an error before the head", [b"", ValueError()], {}),
        ("an error after it", [b"a", ValueError()], {}),
        ("a chunk that is none", ["text"], {}),
        ("one after good ones", [b"a", "text"], {}),
    ],
)
@pytest.mark.parametrize("close_raises", [None, ValueError("close"), SystemExit()])
def test_closed_once(what, chunks, how, close_raises):
    result = Result(chunks, close_raises)
    plain = play(answering(Result(chunks)), **how)
    played = play(answering(result), **how)
    assert result.closed == 1
    # What close() raises is told, and changes nothing: the response is out.
    assert (played.sent, played.cut is None) == (plain.sent, plain.cut is None)
    assert len(played.journal.lines) == len(plain.journal.lines) + (close_raises is not None)


def test_closed_once_where_the_app_returns_without_having_started():
    result = Result([b"x"])
    assert play(lambda environ, start_response: result).status == "500"
    assert result.closed == 1


@pytest.mark.parametrize(("promised", "chunks"), [(1, [b"abc", b"d"]), (9, [b"abc"])])
def test_closed_once_where_content_length_was_wrong(promised, chunks):
    result = Result(chunks)
    play(answering(result, length(promised)))
    assert result.closed == 1


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("close_raises", [None, ValueError("close")])
def test_closed_once_when_the_client_goes(pieces, close_raises):
    result = Result([b"a", b"b", b"c"], close_raises)
    played = Played(answering(result)).take(pieces)
    played.leave()
    played.exchange.abandon()
    assert (result.closed, result.asked) == (1, pieces)
    assert len(played.journal.lines) == (close_raises is not None)


def test_a_generator_sees_its_client_go_where_it_stands():
    seen = []

    def app(environ, start_response):
        start_response("200 OK", [])
        try:
            yield b"a"
            yield b"b"
        finally:
            seen.append("closed")

    played = Played(app).take(1)
    assert seen == []
    played.leave()
    assert seen == ["closed"]
    assert played.journal.lines == []


def test_an_exchange_that_was_never_asked_has_nothing_to_close():
    Played(lambda *_: pytest.fail("the app was called")).leave()


@pytest.mark.parametrize("write_raises", [CutOff("the client takes nothing")])
def test_closed_once_when_a_write_is_cut(write_raises):
    def push(data):
        raise write_raises

    closed = []

    class Body(Result):
        def __next__(self):
            self.write(b"x")

        def close(self):
            closed.append(1)

    def app(environ, start_response):
        body = Body([])
        body.write = start_response("200 OK", [])
        return body

    played = Played(app)
    played.push = push
    assert played.all().cut == "the client takes nothing"
    assert closed == [1]


# With a notary


def hello(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def streaming(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"a"
    yield b""
    yield b"b"


def reading(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(environ["wsgi.input"].read(3))
    return [*environ["wsgi.input"].readlines(), environ["wsgi.input"].readline()]


def failing(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError
    except ValueError:
        start_response("500 Oops", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"oops"]


@pytest.mark.parametrize(
    ("app", "body"),
    [
        (hello, coded(b"hello")),
        (streaming, coded(b"a", b"b")),
        (reading, coded(b"bod", b"y\n", b"2\n")),
        (failing, coded(b"oops")),
    ],
)
@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_wsgiref_validate_has_no_objection(app, body, method):
    played = Played(validator(app), method)
    played.request.fields = {"HTTP_HOST": "a"}
    played.request.body = Body(100)
    played.request.body.write(b"body\n2\n")
    played.exchange._environ = EnvironMaker(
        base_environ() | {"SERVER_NAME": "a", "SERVER_PORT": "80"}
    ).make(played.request)
    played.all()
    assert (played.journal.lines, played.cut) == ([], None)
    assert played.body == (b"" if method == "HEAD" else body)

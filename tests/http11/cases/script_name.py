"""An app below a path: what of the target is SCRIPT_NAME, what PATH_INFO (PEP 3333), and which requests are not the app's. The server
`below` has script_name = "/blog" and believes X-Forwarded-Prefix of trusted proxies; `credulous` believes it and has no script_name.
"""

from .case import EOF, Case, get, head, ok, post, refused

RULE = "ARCHITECTURE 10.6"
SCHEME = "RFC 3986 6.2.2"
BLOG = {"SCRIPT_NAME": "/blog"}


def below(name, rule, send, outcome, **more):
    return Case(name, rule, send, outcome, server="below", **more)


def told(prefix, target="/a", *fields):
    """A request of a proxy that has removed a prefix."""
    return get(target, *(f"X-Forwarded-Prefix: {each}" for each in ([prefix] if isinstance(prefix, str) else prefix)), *fields)


OUTSIDE = refused(404)

CASES = [
    # What is below it
    below("a path below it", "PEP 3333", get("/blog/a/b?c"), ok(PATH_INFO="/a/b", QUERY_STRING="c", REQUEST_URI="/blog/a/b?c", environ=BLOG)),
    below("its root with a slash", "PEP 3333", get("/blog/"), ok(PATH_INFO="/", environ=BLOG)),
    below("its root without a slash", "PEP 3333", get("/blog"), ok(PATH_INFO="", environ=BLOG)),
    below("its root and a query", "PEP 3333", get("/blog?a=/blog"), ok(PATH_INFO="", QUERY_STRING="a=/blog", environ=BLOG)),
    below("itself below itself", RULE, get("/blog/blog/a"), ok(PATH_INFO="/blog/a", environ=BLOG)),
    below("two slashes behind it", SCHEME, get("/blog//a"), ok(PATH_INFO="//a", environ=BLOG)),
    below("dot segments behind it are the app's", "PEP 3333", get("/blog/../a"), ok(PATH_INFO="/../a", environ=BLOG)),
    below("percent-encoding behind it", "RFC 3986 2.1", get("/blog/a%20b%2Fc"), ok(PATH_INFO="/a b/c", environ=BLOG)),
    below("unreserved letters encoded", SCHEME, get("/%62l%6F%67/a"), ok(PATH_INFO="/a", environ=BLOG)),
    below("a body", "PEP 3333", post(target="/blog/a"), ok(b"hello", PATH_INFO="/a", environ=BLOG)),
    below("HEAD", "PEP 3333", get("/blog/a", method="HEAD"), ok(body=b"")),
    below("HTTP/1.0", "PEP 3333", get("/blog/a", version="HTTP/1.0"), ok(PATH_INFO="/a", environ=BLOG, then=EOF)),
    below("absolute-form", "RFC 9112 3.2.2", get("http://b/blog/c"), ok(PATH_INFO="/c", HTTP_HOST="b", environ=BLOG)),
    below("OPTIONS *", "RFC 9112 3.2.4", get("*", method="OPTIONS"), ok(b"", PATH_INFO="/", REQUEST_URI="*", environ=BLOG)),
    below("OPTIONS of it", "RFC 9110 9.3.7", get("/blog", method="OPTIONS"), ok(b"", PATH_INFO="", environ=BLOG)),
    below(
        "several requests",
        RULE,
        get("/blog/1") + get("/blog") + get("/blog/3%20") + get("/blog/1"),
        ok(PATH_INFO="/1", environ=BLOG) + ok(PATH_INFO="", environ=BLOG) + ok(PATH_INFO="/3 ") + ok(PATH_INFO="/1", environ=BLOG),
    ),
    # What is outside
    *(
        below(f"outside: {target}", rule, get(target), OUTSIDE)
        for target, rule in (
            ("/", RULE),
            ("/a", RULE),
            ("/blogger", RULE),
            ("/blog.html", RULE),
            ("/blo", RULE),
            ("/a/blog/", RULE),
            ("/?/blog/", RULE),
            ("/Blog/", "RFC 3986 6.2.2.1"),
            ("//blog/", SCHEME),
            ("/./blog/", RULE),
            ("/a/../blog/", RULE),
            ("/blog%2Fa", "RFC 3986 2.2"),
            ("/%2Fblog/a", "RFC 3986 2.2"),
            ("/blog%", "RFC 3986 2.1"),
            ("/%2562log/", "RFC 3986 2.4"),
            ("/blog;a/", "RFC 3986 3.3"),
            ("http://b/", "RFC 9112 3.2.2"),
            ("http://b", "RFC 9112 3.2.2"),
            ("http://b/a", "RFC 9112 3.2.2"),
        )
    ),
    below("outside, with a body", RULE, post(target="/a"), OUTSIDE),
    below("outside, HEAD", RULE, get("/a", method="HEAD"), refused(404, head=True)),
    below("outside, behind one below", RULE, get("/blog/1") + get("/2"), ok(PATH_INFO="/1") + OUTSIDE),
    below("outside, OPTIONS /*", RULE, get("/*", method="OPTIONS"), OUTSIDE),
    # A proxy that removes the path, and says so
    below("a proxy has removed it", RULE, told("/blog"), ok(PATH_INFO="/a", environ=BLOG)),
    below("a proxy has removed another", RULE, told("/other"), ok(PATH_INFO="/a", SCRIPT_NAME="/other")),
    below("a proxy has removed it, and the rest begins with it", RULE, told("/blog", "/blog/a"), ok(PATH_INFO="/blog/a", environ=BLOG)),
    below(
        "by turns",
        RULE,
        told("/x") + get("/blog/a") + told("/x") + told("/y"),
        ok(SCRIPT_NAME="/x", PATH_INFO="/a") + ok(PATH_INFO="/a", environ=BLOG) + ok(SCRIPT_NAME="/x") + ok(SCRIPT_NAME="/y"),
    ),
    below("nonsense of a proxy is ignored", RULE, told("//evil", "/blog/a"), ok(PATH_INFO="/a", environ=BLOG)),
    # Without a script_name
    *(
        Case(f"X-Forwarded-Prefix: {given}", RULE, told(given), ok(PATH_INFO="/a", SCRIPT_NAME=name), server="credulous")
        for given, name in (
            ("/blog", "/blog"),
            ("/blog/", "/blog"),
            ("/a/b", "/a/b"),
            ("/caf%C3%A9", "/caf\xc3\xa9"),
            ("/", ""),
            ("blog", ""),
            ("//evil.example", ""),
            ("/\\evil.example", ""),
            ("/%2Fevil.example", ""),
            ("/%5Cevil.example", ""),
            ("/a//b", ""),
            ("/../a", ""),
            ("/%2e%2E/a", ""),
            ("/a?b", ""),
            ("/a#b", ""),
            ("/a b", ""),
            ("/a%0d%0aX:b", ""),
            ("/%zz", ""),
            ("https://evil.example/", ""),
            ("/<script>", ""),
            # Each proxy appends what it removes. One has told its client's address at most, so the last part is its own.
            ("/evil, /blog", "/blog"),
            ("/blog, //evil", ""),
        )
    ),
    Case("X-Forwarded-Prefix in two lines", RULE, told(["/evil", "/blog"]), ok(SCRIPT_NAME="/blog"), server="credulous"),
    Case(
        "X-Forwarded-Prefix of two proxies",
        RULE,
        told("/evil, /outer, /inner", "/a", "X-Forwarded-For: 192.0.2.1, ::1"),
        ok(PATH_INFO="/a", SCRIPT_NAME="/outer/inner", REMOTE_ADDR="192.0.2.1"),
        server="credulous",
    ),
    Case("X-Forwarded-Prefix that is not named", RULE, told("/blog"), ok(PATH_INFO="/a", SCRIPT_NAME="", HTTP_X_FORWARDED_PREFIX=None)),
    Case("X-Forwarded-Prefix of a stranger", RULE, told("/blog"), ok(SCRIPT_NAME="", HTTP_X_FORWARDED_PREFIX=None), server="strangers"),
    Case("Script-Name is no header of a proxy", RULE, head("GET / HTTP/1.1", "Host: a", "Script-Name: /x"), ok(SCRIPT_NAME=""), server="credulous"),
]

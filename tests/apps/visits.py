"""What people do in a guest book, with or without systemd around it: both apps, all
servers, the same visits.

`VISITS` are functions of a browser, each for itself and in any order. `sign` and
`find_again` are for before and after a sleep.
"""

import hashlib
import html
import http.client
import http.cookies
import random
import re
import time
import urllib.parse

STYLE = b"body { font: 17px/1.5 system-ui, sans-serif; max-width: 38em; margin: 10vh auto }\n"
LARGE = 20 << 20
BOUNDARY = "guest-book-boundary"


class Answer:
    """`first` is the monotonic time at which the first byte of the body was there."""

    def __init__(self, response):
        self.status = response.status
        self.fields = response.headers
        start = response.read1(1)
        self.first = time.monotonic()
        self.body = start + response.read()

    @property
    def text(self):
        return self.body.decode()


class Browser:
    """`connect` (function) gives a connected socket; each request has one of its own.
    Cookies are kept and sent, redirects are not followed.
    """

    def __init__(self, connect):
        self.connect = connect
        self.cookies = http.cookies.SimpleCookie()

    def another(self):
        """Somebody else's."""
        return Browser(self.connect)

    def get(self, target, **fields):
        return self.ask("GET", target, None, fields)

    def ask(self, method, target, body=None, fields=None, client=None):
        """`client` is for who wants to ask again on the same connection."""
        connection = client or self.client()
        fields = {name.replace("_", "-"): value for name, value in (fields or {}).items()}
        if self.cookies:
            fields["Cookie"] = "; ".join(
                f"{name}={morsel.coded_value}" for name, morsel in self.cookies.items()
            )
        try:
            connection.request(
                method, target, body, fields, encode_chunked="Transfer-Encoding" in fields
            )
            answer = Answer(connection.getresponse())
        finally:
            if not client:
                connection.close()
        for line in answer.fields.get_all("Set-Cookie", []):
            self.cookies.load(line)
        return answer

    def client(self):
        client = http.client.HTTPConnection("localhost", timeout=30)
        client.sock = self.connect()
        return client

    def token(self):
        """Name and value of the hidden field without which no form is taken."""
        page = self.get("/")
        assert page.status == 200, page.text
        found = re.search(r'name="(csrf\w*)" value="([^"]+)"', page.text)
        assert found, page.text
        return found.groups()

    def post(self, target, form):
        fields = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", target, urllib.parse.urlencode(form), fields)


def a_static_file(browser):
    style = browser.get("/static/style.css")
    assert style.status == 200
    assert style.fields["Content-Type"].startswith("text/css")
    assert style.body == STYLE
    again = browser.get("/static/style.css", If_Modified_Since=style.fields["Last-Modified"])
    assert (again.status, again.body) == (304, b"")
    head = browser.ask("HEAD", "/static/style.css")
    assert (head.status, head.body, head.fields["Content-Length"]) == (200, b"", str(len(STYLE)))
    assert browser.get("/static/nothing.css").status == 404


def a_form(browser):
    sign(browser, "<b>Grüße</b> & more")
    page = browser.get("/").text
    assert "<li>&lt;b&gt;Grüße&lt;/b&gt; &amp; more</li>" in page


def a_form_that_somebody_else_made(browser):
    name, token = browser.token()
    entry = {"text": "forged"}
    assert browser.post("/", entry).status == 403
    assert browser.post("/", entry | {name: "x" * len(token)}).status == 403
    assert browser.another().post("/", entry | {name: token}).status == 403
    assert "forged" not in browser.get("/").text


def an_upload(browser):
    upload(browser, chunked=False)


def an_upload_of_unknown_length(browser):
    upload(browser, chunked=True)


def upload(browser, *, chunked):
    data = random.Random(LARGE).randbytes(LARGE)
    name, token = browser.token()
    start = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{token}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="holidays.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    body = start.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    if chunked:
        fields["Transfer-Encoding"] = "chunked"
        pieces = (body[at : at + (1 << 16)] for at in range(0, len(body), 1 << 16))
        answer = browser.ask("POST", "/upload", pieces, fields)
    else:
        answer = browser.ask("POST", "/upload", body, fields)
    assert (answer.status, answer.fields["X-File"]) == (200, "holidays.jpg"), answer.text
    assert answer.text == hashlib.sha256(data).hexdigest()


def a_stream(browser):
    answer = browser.get("/stream")
    pieces = [line.split(" ", 1) for line in answer.text.splitlines()]
    assert [text for _, text in pieces] == [f"{number} of /stream" for number in range(10)]
    made = [float(when) for when, _ in pieces]
    # It was here before the last piece was even made: nobody on the way has waited for
    # the whole.
    assert answer.first < made[-1]


def a_redirect(browser):
    answer = browser.get("/old")
    assert (answer.status, answer.fields["Location"]) == (301, "/")


def two_visitors_at_a_time(browser):
    other = browser.another()
    seen = [
        re.search("Visit (\\d+)", each.get("/").text)[1]
        for each in (browser, browser, other, browser, other)
    ]
    assert seen == ["1", "2", "1", "3", "2"]


def a_broken_page(browser):
    answer = browser.get("/broken")
    assert answer.status == 500
    assert "this page is broken" not in answer.text
    assert browser.get("/").status == 200


def several_pages_on_one_connection(browser):
    client = browser.client()
    try:
        answers = [
            browser.ask("GET", target, client=client)
            for target in ("/", "/static/style.css", "/stream", "/nothing", "/")
        ]
        assert [answer.status for answer in answers] == [200, 200, 200, 404, 200]
        assert "Visit 2" in answers[-1].text
    finally:
        client.close()


VISITS = [
    a_static_file,
    a_form,
    a_form_that_somebody_else_made,
    an_upload,
    an_upload_of_unknown_length,
    a_stream,
    a_redirect,
    two_visitors_at_a_time,
    a_broken_page,
    several_pages_on_one_connection,
]


def sign(browser, text):
    name, token = browser.token()
    answer = browser.post("/", {"text": text, name: token})
    assert answer.status in (302, 303), answer.text
    assert answer.fields["Location"] == "/"


def find_again(browser, text):
    """The entry of `sign`, and a visitor who is known: that was this browser's second
    page.
    """
    page = browser.get("/").text
    assert f"<li>{html.escape(text)}</li>" in page
    assert "Visit 2" in page

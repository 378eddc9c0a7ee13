"""The welcome page: what it tells is so, and looked at in Chromium it counts, darkens,
asks for nothing and complains of nothing.
"""

import html.parser
import re
import time

import pytest

import spyglass
from spyglass import welcome
from spyglass.wake_record import Wake

from .chromium import Chromium
from .fake_systemd import FakeSystemd
from .visitor import visit

LARGEST = 10 << 10  # bytes


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.end()


@pytest.fixture(scope="module")
def life(tmp_path_factory, pycache):
    """One for all who only look."""
    life = FakeSystemd(tmp_path_factory.mktemp("systemd"), pycache, workers=1)
    yield life
    life.close()


class Text(html.parser.HTMLParser):
    """The words of a page, and its tags, each closed in order."""

    def __init__(self, page):
        super().__init__()
        self.words, self.open, self.links = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words += data.split()


# Without a browser


def test_it_tells_how_it_was_woken(systemd):
    life = systemd(None)
    before = time.time()
    answer = visit(life.address)
    after = time.time()
    text = " ".join(Text(answer.text).words)
    host, port = life.address
    assert f"somebody connected to {host}:{port} , and" in text
    [clock] = set(re.findall(r"\d\d:\d\d:\d\d UTC", text))
    assert clock in [
        time.strftime("%H:%M:%S UTC", time.gmtime(when))
        for when in range(int(before - 0.02), int(after) + 1)
    ]
    [(number, unit)] = set(re.findall(r"and ([0-9.]+) (ms|s) later", text))
    assert 0 < float(number) * {"ms": 0.001, "s": 1.0}[unit] <= after - before + 0.1
    assert f"Spyglass {spyglass.__version__}" in text
    assert "Left alone, asleep in" in text
    assert "40 s" in text  # header_timeout and idle_timeout


def test_it_is_small_and_of_one_piece(life):
    answer = visit(life.address)
    assert len(answer.body) < LARGEST
    assert all(link.startswith("data:") for link in Text(answer.text).links)
    assert "<script" not in answer.text
    assert not re.search(r"url\((?!#)|@import|\bon\w+=|\bstyle=", answer.text)


def test_its_policy_lets_nothing_in_but_its_own_style(life):
    first, second = visit(life.address), visit(life.address)
    policy = first.fields["content-security-policy"]
    [nonce] = re.findall(r"style-src 'nonce-([0-9a-f]{24})'", policy)
    assert policy.startswith("default-src 'none'; ")
    assert f'<style nonce="{nonce}">' in first.text
    assert nonce not in second.text
    assert first.fields["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/", 200),
        ("POST", "/", 405),
        ("GET", "/favicon.ico", 204),
        ("GET", "/x", 404),
        ("HEAD", "/x", 404),
        ("GET", "/?a=b", 200),
    ],
)
def test_other_questions(life, method, path, status):
    answer = visit(life.address, path, method=method)
    assert answer.status == status
    assert bool(answer.body) == (method != "HEAD" and status != 204)
    assert answer.fields.get("allow") == ("GET, HEAD" if status == 405 else None)


def test_started_by_hand(systemd):
    life = systemd(None, idle_timeout=0)
    life.start()
    life.until_ready()
    text = " ".join(Text(visit(life.address).text).words)
    assert "with nobody waiting" in text
    assert "Asleep in never" in text


NASTY = '<script>alert("&")</script>'


@pytest.mark.parametrize(
    ("wake", "says"),
    [
        (None, "nothing else to say"),
        (
            Wake("blog", "unix:/run/spyglass/blog.sock", 0.0, 0.084),
            "unix:/run/spyglass/blog.sock , and 84 ms later",
        ),
        (Wake("blog", "", 0.0, 1.26), "/etc/spyglass/blog.toml : app ="),
        (Wake(NASTY, NASTY, 0.0, 7200), f"somebody connected to {NASTY} , and 120 min later"),
    ],
)
def test_whatever_it_shows(monkeypatch, wake, says):
    monkeypatch.setattr(spyglass, "last_wake", lambda: wake)
    page = welcome.page("0" * 24)
    assert says in " ".join(Text(page).words)
    assert "<script" not in page
    assert not re.search(r"@[A-Z]+@", page)


# In Chromium


def url(life):
    return f"http://127.0.0.1:{life.address[1]}/"


SET_TIME = (
    "document.getAnimations().forEach(each => {{ each.pause(); each.currentTime = {} * 1000 }})"
)
LEFT = "+getComputedStyle(document.querySelector('.count')).getPropertyValue('--left')"


def shown(name):
    """Which of the two words is."""
    return f"getComputedStyle(document.querySelector('dl .{name}')).visibility"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_asks_for_nothing_and_complains_of_nothing(life, chromium, scheme):
    chromium.open(url(life), scheme=scheme)
    assert chromium.evaluate("document.title") == "Spyglass is awake"
    assert chromium.evaluate("document.readyState") == "complete"
    assert chromium.requests == [url(life)]
    assert chromium.complaints == []


def test_it_counts_down_by_itself(life, chromium):
    chromium.open(url(life))
    first = chromium.evaluate(LEFT)
    chromium.until(f"{LEFT} < {first}")
    assert 0 < first <= 40
    assert chromium.requests == [url(life)]


@pytest.mark.parametrize(
    ("seconds", "left", "now", "then"),
    [
        (0, 40, "visible", "hidden"),
        (15, 25, "visible", "hidden"),
        (39.5, 1, "visible", "hidden"),
        (41, 0, "hidden", "visible"),
    ],
)
def test_it_counts_until_it_is_asleep(life, chromium, seconds, left, now, then):
    chromium.open(url(life))
    chromium.evaluate(SET_TIME.format(seconds))
    assert chromium.evaluate(LEFT) == left
    assert (chromium.evaluate(shown("now")), chromium.evaluate(shown("then"))) == (now, then)


def test_it_counts_by_the_settings(systemd, chromium):
    life = systemd(None, idle_timeout=90, header_timeout=3, keepalive_timeout=5)
    chromium.open(url(life))
    chromium.evaluate(SET_TIME.format(0))
    assert chromium.evaluate(LEFT) == 95
    assert (
        chromium.evaluate(
            "+getComputedStyle(document.querySelector('.count')).getPropertyValue('--min')"
        )
        == 1
    )


def test_reduced_motion_leaves_none_but_the_count(life, chromium):
    chromium.open(url(life), motion="reduce")
    moving = chromium.evaluate("document.getAnimations().map(each => each.animationName)")
    assert set(moving) == {"count", "go", "come"}


# WCAG 2.1, "contrast ratio" and "relative luminance".
CONTRAST = """(() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[0-9.]+/g).map(part => part / 255).map(part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
        return .2126 * r + .7152 * g + .0722 * b
    }
    const behind = element => {
        const colour = getComputedStyle(element).backgroundColor
        return colour == "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : colour
    }
    const found = []
    for (const element of document.querySelectorAll("h1, h2, p, dt, dd, li, b, code, pre, i, .count")) {
        const [a, b] = [light(getComputedStyle(element).color), light(behind(element))]
        found.push((Math.max(a, b) + .05) / (Math.min(a, b) + .05))
    }
    return [Math.min(...found), light(behind(document.querySelector("main")))]
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night(life, chromium, scheme):
    chromium.open(url(life), scheme=scheme)
    contrast, paper = chromium.evaluate(CONTRAST)
    assert contrast >= 4.5  # level AA
    assert (paper > 0.5) == (scheme == "light")


@pytest.mark.parametrize("width", [320, 390, 768, 1400])
def test_it_fits(life, chromium, width):
    chromium.open(url(life), size=(width, 800))
    assert chromium.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(("width", "scheme"), [(320, "dark"), (1600, "light")])
def test_the_503_page_fits_and_wraps_the_reason(systemd, chromium, tmp_path, width, scheme):
    """It has the colours of the welcome page, and fetches nothing either."""
    (tmp_path / "broken.py").write_text(f"import no_such_{'module_' * 20}")
    life = systemd("broken:app", directory=tmp_path, arguments=["--debug"])
    chromium.open(url(life), size=(width, 800), scheme=scheme)
    assert chromium.evaluate("document.documentElement.scrollWidth") == width
    assert chromium.requests == [url(life)]
    assert "ModuleNotFoundError" in chromium.evaluate("document.querySelector('h2').innerText")
    assert "ModuleNotFoundError" in chromium.evaluate("document.querySelector('pre').innerText")
    contrast, paper = chromium.evaluate(CONTRAST)
    assert contrast >= 4.5
    assert (paper > 0.5) == (scheme == "light")

"""The documentation: what is made of the code is up to date, every link leads
somewhere, and the site fetches nothing of anybody else's.
"""

import html.parser
import os
import pathlib
import re
import subprocess
import sys

import pytest
from code_blocks import prose
from process.chromium import Chromium

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), ROOT / "tests" / "README.md", *DOCS.rglob("*.md"))
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` builds it: the least complaint is an error."""
    site = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--site-dir", site]
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return site


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_what_is_made_of_the_code_is_up_to_date(tmp_path, name):
    subprocess.run(
        [sys.executable, "-B", ROOT / "packaging" / "manual", "--reference", tmp_path],
        check=True,
        timeout=60,
    )
    assert (DOCS / name).read_text() == (tmp_path / name).read_text(), (
        "run `make docs`, and commit what it has changed"
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    """Also where the pages are read in the repository, and in those that are not part
    of the site.
    """
    path = ROOT / page
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if not re.match(r"https?://", target):
            name, _, anchor = target.partition("#")
            page = path.parent / name if name else path
            assert page.is_file(), target
            assert not anchor or anchor in anchors(page), target


def anchors(page):
    """The anchors of a page's headings, as GitHub and mkdocs make them of plain ones."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text()), flags=re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", each.lower()).strip().replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES)
def test_columns_of_tables_have_names(page):
    """Except the first of three or more, which names the rows."""
    headers = re.findall(r"^\|(.*)\|\n\|[-:| ]+\|$", prose((ROOT / page).read_text()), re.MULTILINE)
    for header in headers:
        first, *others = [cell.strip() for cell in header.split("|")]
        assert all(others), header
        assert first or len(others) > 1, header


class Fetched(html.parser.HTMLParser):
    """What a browser fetches for a page, without being asked by anybody."""

    def __init__(self, page):
        super().__init__()
        self.links = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.links += [
            attributes[name] for name in ("src", "data", "poster") if attributes.get(name)
        ]
        if tag == "link" and attributes.get("rel") not in ("canonical", "next", "prev"):
            self.links.append(attributes["href"])


def test_nothing_is_fetched_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        fetched = Fetched(page.read_text()).links
        assert fetched
        for link in fetched:
            assert not re.match(r"(https?:)?//", link), f"{page.name}: {link}"
            assert (
                (page.parent / link.partition("?")[0].partition("#")[0]).exists()
                or link.startswith("data:")
                or page.name == "404.html"
            )
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s*)['\"]?(https?:)?//", sheet.read_text())


def test_browser_asks_no_other_host(site, tmp_path):
    chromium = Chromium(tmp_path)
    try:
        for page in ("index.html", "how-it-works.html"):
            chromium.open(f"file://{site / page}")
            assert len(chromium.requests) > 3
            assert [url for url in chromium.requests if not url.startswith(f"file://{site}/")] == []
    finally:
        chromium.end()


def test_colours_follow_the_system_after_the_first_visit(site, tmp_path):
    chromium = Chromium(tmp_path)
    try:
        for scheme, name in (("light", "default"), ("dark", "slate"), ("light", "default")):
            chromium.open(f"file://{site}/start.html", scheme=scheme)
            chromium.until(f"document.body.getAttribute('data-md-color-scheme') === '{name}'")
    finally:
        chromium.end()


def test_no_page_is_wider_than_a_phone(site, tmp_path):
    """Wide tables and blocks of code are moved within their own frames."""
    chromium = Chromium(tmp_path)
    try:
        for page in sorted(site.rglob("*.html")):
            if page.name != "404.html":  # its links begin at the site's root
                chromium.open(f"file://{page}", size=(390, 844))
                assert chromium.evaluate("document.documentElement.scrollWidth") == 390, page
    finally:
        chromium.end()


def test_search_works_from_a_disk(site, tmp_path):
    chromium = Chromium(tmp_path)
    try:
        chromium.open(f"file://{site}/guides/nginx.html")
        chromium.evaluate("document.querySelector('[data-md-toggle=search]').click()")
        chromium.evaluate(
            "(field => { field.focus(); field.value = 'keepalive_timeout';"
            " field.dispatchEvent(new Event('input', { bubbles: true }));"
            " field.dispatchEvent(new KeyboardEvent('keyup', { bubbles: true })); })"
            "(document.querySelector('[data-md-component=search-query]'))"
        )
        chromium.until("document.querySelectorAll('.md-search-result__link').length > 2")
        assert "file:///" in chromium.evaluate(
            "document.querySelector('.md-search-result__link').href"
        )
        assert [url for url in chromium.requests if not url.startswith(f"file://{site}/")] == []
    finally:
        chromium.end()


def test_every_picture_says_what_is_to_be_seen(site):
    for page in site.rglob("*.html"):
        for picture in re.findall(r"<img[^>]*>", page.read_text()):
            assert re.search(r'alt="[^"]{10,}"|alt="logo"', picture), picture

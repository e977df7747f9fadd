"""The report in a headless Chromium: what people do with it, in every setting that they may have."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.report_project import HOSTILE, PICTURES, ReportProject

playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM:
    pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)", allow_module_level=True)

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
QUIET += ["--disable-sync", "--no-first-run"]
AXE = Path("assets/axe-core/axe.min.js").absolute()
PHONE, DESKTOP = {"width": 375, "height": 800}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield found
        found.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return ReportProject(tmp_path_factory.mktemp("report")).report()


@pytest.fixture
def opened(browser, report) -> Iterator:
    """Opens the report in a context of its own; nothing may be complained of or asked of a network until the end."""
    contexts, complaints, requests = [], [], []

    def open_page(viewport=DESKTOP, scheme="light", scripts=True, bypass=False):
        options = {"viewport": viewport, "color_scheme": scheme, "java_script_enabled": scripts, "bypass_csp": bypass}
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(report.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def column(page, heading: str) -> list[str]:
    """The texts of the column of that heading in the first table that has it."""
    table = page.locator("table.values", has=page.locator("th", has_text=heading)).first
    number = (
        table.locator("thead th")
        .all_inner_texts()
        .index(next(text for text in table.locator("thead th").all_inner_texts() if heading in text))
    )
    return [row.locator("th, td").nth(number).inner_text().split("\n")[0] for row in table.locator("tbody tr").all()]


def test_texts_of_users_stay_texts(opened):
    page = opened()
    assert page.title() == "Experiment tiny: results"
    assert page.locator("script").count() == 1 and page.locator("img[src=x]").count() == 0
    assert HOSTILE in page.locator(".picture h3").first.inner_text()
    assert HOSTILE in page.locator("dd", has_text="onerror").first.text_content()


def test_a_click_on_a_heading_sorts_and_says_so(opened):
    page = opened()
    header = page.locator("table.values th", has_text="PSNR").first
    button = header.locator("button")
    button.click()
    assert header.get_attribute("aria-sort") == "ascending" and column(page, "PSNR") == ["20.00", "21.00"]
    button.click()
    assert header.get_attribute("aria-sort") == "descending" and column(page, "PSNR") == ["21.00", "20.00"]


def test_a_number_leads_to_what_was_asked_and_answered(opened):
    page = opened()
    page.locator("#table1_classification td a").first.click()
    place = page.evaluate("document.getElementById(location.hash.slice(1)).open")
    assert place
    shown = page.locator(f"[id='{page.evaluate('location.hash.slice(1)')}']")
    assert shown.locator(".answers > li").count() == 3 and "3 of 4 answers" in shown.inner_text()
    shown.locator(".answers details summary").first.click()
    assert "token ids 5 5 5" in shown.locator("pre").first.inner_text()
    assert HOSTILE in shown.locator("pre.output").first.inner_text()


def test_every_link_has_its_place(opened):
    page = opened()
    links = page.eval_on_selector_all("a[href^='#']", "links => links.map(link => link.getAttribute('href').slice(1))")
    places = set(page.eval_on_selector_all("[id]", "found => found.map(one => one.id)"))
    assert links and set(links) <= places
    assert page.evaluate("document.querySelectorAll('[id]').length") == len(places)
    measured = [text for text in page.locator("table.values td.number").all_inner_texts() if text.strip() != "–"]
    assert len(measured) == 18 and page.locator("table.values td.number > a").count() == 18


def test_the_gallery_shows_one_picture_at_a_time(opened):
    page = opened()
    pictures, visible = page.locator(".picture"), page.locator(".picture:visible")
    assert pictures.count() == 2 and visible.count() == 1
    page.get_by_role("button", name="Next").click()
    assert PICTURES[1] in visible.inner_text()
    page.locator(".thumbnails a").first.click()
    assert PICTURES[0] in visible.inner_text() and visible.count() == 1
    captions = [text.split("\n")[0] for text in visible.locator("figcaption").all_inner_texts()]
    assert captions[:3] == ["original", "v2l", "vqgan"] and captions[3:5] == ["original", "input"]


def test_everything_works_by_keyboard(opened):
    page = opened()
    page.locator(".thumbnails a").first.focus()
    page.keyboard.press("ArrowRight")
    assert PICTURES[1] in page.locator(".picture:visible").inner_text()
    page.locator(".picture:visible summary").first.focus()
    page.keyboard.press("Tab")
    word = page.locator(".picture:visible .token-map button:focus .word")
    assert word.inner_text() == "<b>" and word.evaluate("found => getComputedStyle(found).opacity") == "1"
    page.keyboard.press("ArrowRight")
    assert word.inner_text() == "sky"
    page.keyboard.press("ArrowDown")
    assert word.inner_text() == "␣"
    button = page.locator("table.values th button").first
    button.focus()
    page.keyboard.press("Space")
    assert page.locator("table.values th[aria-sort='ascending']").count() == 1
    page.locator("table.values td a").first.focus()
    page.keyboard.press("Enter")
    page.locator("#answers summary:focus").wait_for()


def test_the_skip_link_comes_first_and_skips(opened):
    page = opened()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#main:focus").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_down_only(opened, scheme):
    page = opened(PHONE, scheme)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_dark_is_dark(opened):
    shades = {}
    for scheme in ("light", "dark"):
        colour = opened(scheme=scheme).evaluate("getComputedStyle(document.body).backgroundColor")
        shades[scheme] = sum(map(int, colour[4:-1].split(",")))
    assert shades["dark"] < 150 and shades["light"] > 600


def test_without_scripts_everything_is_there(opened):
    page = opened(scripts=False)
    assert page.locator("table.values").first.is_visible() and page.locator("#figures img").is_visible()
    assert page.locator(".picture:visible").count() == 2
    page.locator("#answers summary").first.click()
    assert page.locator("#answers details details").first.is_visible()


@pytest.mark.parametrize(("scheme", "viewport"), [("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE)])
def test_axe_finds_nothing_serious(opened, scheme, viewport):
    if not AXE.is_file():
        pytest.skip("axe-core is not there (`make test` fetches it)")
    page = opened(viewport, scheme, bypass=True)
    page.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    page.add_script_tag(path=str(AXE))
    found = page.evaluate("axe.run().then(result => result.violations)")
    grave = [(one["id"], one["nodes"][0]["html"][:200]) for one in found if one["impact"] in ("serious", "critical")]
    assert grave == []

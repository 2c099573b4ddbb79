"""The report in a real browser: it opens from disk, sorts, filters, works by keyboard, and keeps to the rules of access."""

import shutil

import pytest

from tests.report.folders import write_run
from wallcheck import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NEEDED = (
    "needs a browser: apt-get install chromium (or Chrome), and pip install 'wallcheck[dev]' for playwright and axe"
)
FOUND = next(filter(None, map(shutil.which, BROWSERS)), None)

pytest.importorskip("playwright", reason=NEEDED)
pytest.importorskip("axe_playwright_python", reason=NEEDED)
pytestmark = pytest.mark.skipif(FOUND is None, reason=NEEDED)

TABLE = "#table .pair:not([hidden])"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        # Without a sandbox, as root in a container has none; the page is our own.
        started = driver.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return report.write(write_run(tmp_path_factory.mktemp("audit")))


@pytest.fixture
def opened(browser, written):
    """Opens the report with settings of a browser's context; nothing may be complained of or asked of the network."""
    contexts, complaints = [], []

    def open_page(**settings):
        contexts.append(browser.new_context(**settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url)
        )
        page.goto(written.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def methods(page) -> list[str]:
    """Names in the rows of the table that is shown, in order."""
    return page.eval_on_selector_all(f"{TABLE} tbody tr:not([hidden])", "rows => rows.map(row => row.dataset.method)")


def test_it_opens_from_disk_with_the_verdict_first(opened):
    page = opened()
    assert page.url.startswith("file://")
    assert page.locator("h2").first.inner_text() == "Verdict"
    # Grad-CAM and Grad-CAM++ of the six that are no controls; the second at half of what the constant map scores
    assert page.locator(".headline").inner_text().split(";")[0] == (
        "2 of 6 methods light up what walled provably cannot see (STACK-MIX, 8 images)"
    )
    assert "1 of them as much as a constant map" in page.locator(".headline").inner_text()
    broken = page.locator("img, image").evaluate_all("all => all.filter(one => one.complete === false).length")
    assert broken == 0 and page.locator("#pictures image").count() > 0


def test_the_table_sorts_by_number_and_by_name_with_empty_ones_last(opened):
    page = opened()
    heading = page.locator(f"{TABLE} thead th", has_text="cells")
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    rising = methods(page)
    # cells: HiResCAM and seen_only 0, Grad-CAM++ 1/4, constant 1/2, Grad-CAM 3/4; then empty, failed, without cells
    assert rising[2:5] == ["gradcampp", "constant", "gradcam"] and set(rising[:2]) == {"hirescam", "seen_only"}
    assert set(rising[5:]) == {"eigencam", "scorecam", "inputxgradient"}
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert methods(page)[:3] == ["gradcam", "constant", "gradcampp"]
    assert set(methods(page)[5:]) == {"eigencam", "scorecam", "inputxgradient"}
    page.locator(f"{TABLE} thead button", has_text="method").click()
    assert heading.get_attribute("aria-sort") == "none"
    assert methods(page) == [
        "constant",
        "eigencam",
        "gradcam",
        "gradcampp",
        "hirescam",
        "inputxgradient",
        "scorecam",
        "seen_only",
    ]


def test_the_filters_choose_rows_distributions_and_pictures_alike(opened):
    page = opened()
    page.get_by_label("Method or family").fill("grad-cam")
    assert methods(page) == ["gradcam", "gradcampp"]
    assert page.locator("#shown").inner_text() == "2 of 8 methods shown"
    for section in ("#distributions", "#pictures"):
        shown = page.locator(f"{section} .pair:not([hidden]) .one:visible").evaluate_all(
            "all => all.map(one => one.dataset.method)"
        )
        assert shown == ["gradcam", "gradcampp"], section
    page.locator("select[name=verdict]").select_option("lit")
    assert methods(page) == ["gradcampp"]
    page.get_by_role("button", name="Show all").click()
    page.locator("#shown", has_text="8 of 8").wait_for()  # a function would be refused by the page's own policy
    page.locator("select[name=family]").select_option("control")
    assert methods(page) == ["constant", "seen_only"]


def test_it_works_by_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    page.locator("input[name=net]").first.focus()
    page.keyboard.press("ArrowRight")  # to the contrast
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")  # to STACK-GEN
    told = page.locator(f"{TABLE} h3").all_inner_texts()
    assert told == ["unwalled (contrast: it sees what walled cannot) on STACK-GEN"]
    page.keyboard.press("Tab")
    page.keyboard.type("hires")
    assert methods(page) == ["hirescam"]
    button = page.locator(f"{TABLE} thead button").first
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator(f"{TABLE} thead th").first.get_attribute("aria-sort") == "ascending"
    slider = page.get_by_label("From image to map")
    slider.focus()
    page.keyboard.press("Home")
    drawn = "name => getComputedStyle(document.querySelector('#pictures .tile .' + name)).opacity"
    assert slider.get_attribute("aria-valuetext") == "image alone"
    assert (page.evaluate(drawn, "photo"), page.evaluate(drawn, "map")) == ("1", "0")
    page.keyboard.press("End")
    assert (page.evaluate(drawn, "photo"), page.evaluate(drawn, "map")) == ("0", "1")


def test_what_was_measured_elsewhere_is_told_apart(opened):
    """A method that failed is named with its error as text, one without cells has a dash for cells."""
    page = opened()
    gaps = page.locator("#verdict li", has_text="Score-CAM").first.inner_text()
    assert "attribution is <b>NaN</b> & nothing else" in gaps and "8 images" in gaps
    cells = page.locator(f"{TABLE} tr[data-method=inputxgradient] td.n").first.inner_text()
    assert cells.strip() == "–"


@pytest.mark.parametrize("settings", [{}, {"color_scheme": "dark"}, {"viewport": {"width": 400, "height": 800}}])
def test_axe_finds_no_serious_fault(opened, settings):
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(opened(**settings)).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def test_narrow_and_printed_pages_lose_nothing_at_the_side(opened):
    page = opened(viewport={"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(f"{TABLE} tbody tr").first.is_visible()


def test_without_scripts_all_is_shown(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("#table .pair").count() == 4 == page.locator("#table .pair:visible").count()
    assert not page.locator(".controls").is_visible()

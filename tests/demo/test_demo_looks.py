"""The browser demo: what is in sight, accessible, and in the user's language."""

import re

import pytest
from demo_page import User, expect

pytestmark = pytest.mark.slow
pytest_plugins = ["demo_page"]


SIZES = [(1280, 900), (390, 844), (320, 640)]
# Whether the middle of an element is on the screen, and nothing lies over it.
IN_SIGHT = """(e) => {
  const { left, right, top, bottom } = e.getBoundingClientRect();
  const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
  const inside = top >= 0 && left >= 0 && bottom <= innerHeight && right <= innerWidth;
  return inside && (e.contains(over) || over?.contains(e));
}"""


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_result_and_its_buttons_are_in_sight(visit, size):
    user = visit(size)
    result = [
        *(user.page.get_by_role("button", name=n) for n in ("1 Source", "Play or pause", "Repeat")),
        user.page.get_by_role("link", name="Download", exact=True),
        user.page.get_by_label("Format of the file"),
        user.page.locator(".player .made"),
    ]
    actions = [
        ("Convert", user.convert, result),
        ("Convert", user.page.get_by_role("button", name="a man's sentence"), result),
        ("Repair", user.page.get_by_role("button", name="a telephone call"), result[1:]),
        ("Look inside", user.page.get_by_role("button", name="one long sound"), result[1:]),
        ("Look inside", user.page.get_by_role("button", name="Put together", exact=True), result[1:]),
    ]
    for tab, button, seen in actions:
        user.open_tab(tab)
        user.press(button)
        for element in seen:
            element = element.locator("visible=true")
            user.page.wait_for_function(IN_SIGHT, arg=element.element_handle())
    for tab, name in (("Live", "Start"), ("Files", "Convert all")):
        user.page.evaluate("scrollTo(0, 0)")
        user.open_tab(tab)
        assert user.page.get_by_role("button", name=name).evaluate(IN_SIGHT)


NAMELESS = """[...document.querySelectorAll("button, input, select, textarea, [role=slider]")]
    .filter(e => e.checkVisibility() && !e.ariaLabel && !e.innerText?.trim() && !e.title && !e.labels?.length
              && !e.getAttribute("aria-labelledby") && e.type !== "file")
    .map(e => e.outerHTML.slice(0, 200))"""


TABS = {"Convert": "3. Listen", "Files": "3. Convert them", "Live": "1. Speak", "Look inside": "Recording B"}
TABS |= {"Repair": "3. Before and after", "Read": "3. Hear it"}


# A dark page has other colours only, so that one size of it will do.
@pytest.mark.parametrize(("scheme", "sizes"), [("light", SIZES), ("dark", SIZES[:1])])
def test_all_tabs_fit_and_are_accessible(visit, scheme, sizes):
    """No sideways scrolling, names for everything that can be used, and no violation that axe-core finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    user = visit(scheme=scheme)
    user.press(user.convert)
    for tab, heading in TABS.items():
        user.open_tab(tab)
        expect(user.page.get_by_role("heading", name=heading)).to_be_visible()
        if tab == "Look inside":
            user.press(user.page.get_by_role("button", name="A in B's voice"))
        if tab == "Read":
            user.press(user.page.get_by_role("button", name="Speak"))
        if tab == "Repair":
            user.press(user.page.get_by_role("button", name="Repair", exact=True))
        for width, height in sizes:
            user.page.set_viewport_size({"width": width, "height": height})
            assert user.page.evaluate("document.scrollingElement.scrollWidth") <= width
            found = axe.run(user.page, options={"rules": {"target-size": {"enabled": True}}}).response
            assert [(v["id"], n["html"]) for v in found["violations"] for n in v["nodes"]] == []
        user.page.set_viewport_size({"width": 1280, "height": 900})
        assert user.page.evaluate(NAMELESS) == []


@pytest.mark.parametrize("locale", ["en-US", "de-DE", "es-ES", "zh-CN"])
@pytest.mark.parametrize("size", SIZES[1:], ids=str)
def test_all_tabs_are_in_sight_on_a_phone(visit, size, locale):
    user = visit(size, locale=locale)
    tabs = user.page.get_by_role("tab").locator("visible=true")
    expect(tabs).to_have_count(len(TABS))
    for tab in tabs.all():
        assert tab.evaluate(IN_SIGHT), tab.inner_text()
        box = tab.bounding_box()
        assert min(box["width"], box["height"]) >= 24
    user.press(user.convert)
    assert user.page.evaluate("document.scrollingElement.scrollWidth") <= size[0]
    assert user.player.evaluate(CUT) == []


# What is wider than the player.
CUT = """(e) => [...e.querySelectorAll("button, a, select, p")].filter((each) => each.checkVisibility()
    && each.getBoundingClientRect().right > e.getBoundingClientRect().right).map((each) => each.innerText)"""
TEXTS = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.querySelector(".gradio-container"), NodeFilter.SHOW_ALL);
  for (let node; (node = walker.nextNode()); ) {
    const box = node.nodeType === Node.TEXT_NODE ? node.parentElement : node;
    if (!box.checkVisibility?.() || box.closest("script, style, footer, [translate=no]")) continue;
    if (node === box)
      for (const name of ["aria-label", "title", "placeholder"]) found.push(box.getAttribute(name) ?? "");
    else found.push(node.data);
    if (box.matches("input[aria-haspopup]")) found.push(box.value);
  }
  return found.map((text) => text.trim());
}"""
EVERYWHERE = {"WAV", "FLAC", "MP0", "Opus", "M0A", "A", "B", "0 ms"}
ALSO = {"de": {"Live", "Start", "Format"}}


def seen(user, tabs):
    """All texts of the first tabs, before and after the action of each."""
    texts = set()
    for tab in user.page.get_by_role("tab").locator("visible=true").all()[:tabs]:
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true")
        texts |= set(user.page.evaluate(TEXTS))
        user.page.locator(".go button.primary").locator("visible=true").click()
        ended = ".outcome .player .made, .outcome .error, [data-live=in]"
        expect(user.page.locator(ended).locator("visible=true").first).to_be_visible()
        user.page.wait_for_timeout(500)  # until the pictures are there, too
        texts |= set(user.page.evaluate(TEXTS))
    words = {re.sub(r"\d+", "0", text) for text in texts}
    return {text for text in words if re.search(r"[^\W\d]{2}|^[A-Z]$", text)}


@pytest.fixture(scope="module")
def english(browser, server):
    user = User(browser, server.url)
    texts = seen(user, len(TABS))
    user.context.close()
    return texts


@pytest.mark.parametrize(("locale", "tabs"), [("de-DE", len(TABS)), ("es-ES", 1), ("zh-CN", 1)])
def test_the_page_speaks_the_language_of_the_browser(visit, english, locale, tabs):
    user = visit(locale=locale)
    texts = seen(user, tabs)
    assert len(texts) > 50
    assert texts & english - EVERYWHERE - ALSO.get(locale[:2], set()) == set()


def test_an_error_about_a_file_is_in_the_language_of_the_page(visit):
    user = visit(locale="de-DE")
    message = "silent.wav: is silent; give a recording of speech"
    user.page.locator(".outcome").first.evaluate("(e, text) => e.append(text)", message)
    expect(user.page.locator(".outcome").first).to_contain_text("silent.wav: ist stumm; eine Aufnahme mit")

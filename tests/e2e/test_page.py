"""The page in Chromium on the real API: the story a viewer lives, and what may go wrong."""

import re
from uuid import uuid4

import pytest
from playwright.sync_api import Page, Route, expect
from tests.e2e.conftest import ROOT, Api, Open

pytestmark = pytest.mark.browser

CARDS = ".grid > [data-film]"
SHELVES = ".shelf:has([data-film])"
AXE = ROOT / "frontend" / "node_modules" / "axe-core" / "axe.min.js"


def person(user_id: int) -> dict[str, str]:
    """Be this person; each test is somebody else, so that none disturbs another."""
    return {"viewer": f'{{"person": "{user_id}"}}'}


def nobody() -> dict[str, str]:
    return {
        "viewer": '"newcomer"',
        "newcomer": f'{{"id": "new-{uuid4().hex[:12]}", "liked": []}}',
    }


def films(page: Page) -> list[str]:
    return page.eval_on_selector_all(CARDS, "cards => cards.map((card) => card.dataset.film)")


def say(page: Page, film: str, act: str) -> None:
    page.click(f'[data-film="{film}"] [data-act={act}]')


def test_ten_cards_with_reasons_and_what_made_them(open_page: Open) -> None:
    page = open_page("ko", kept=person(1))
    expect(page.locator(CARDS)).to_have_count(10)
    heading = page.locator("h1").inner_text()
    assert heading.endswith(" 님이 좋아할 만한 콘텐츠")
    assert page.title() == heading
    assert page.locator(".card-reason").count() == 10
    expect(page.locator(".why summary")).to_contain_text(
        re.compile(r"개인화 · sequence_linear v1 · 스냅샷 \S+ · [\d.]+ ms")
    )
    page.click(".why summary")
    assert re.fullmatch(r"[\w.-]+", page.locator(".why code").inner_text())
    expect(page.locator(".origin summary")).to_contain_text("지어낸 영화")
    loaded = "images => images.every((image) => image.complete && image.naturalWidth > 0)"
    page.wait_for_function(f"({loaded})([...document.querySelectorAll('.card img')].slice(0, 5))")


def test_a_like_changes_the_list_and_undo_brings_it_back(open_page: Open) -> None:
    page = open_page("ko", kept=person(2))
    before = films(page)
    say(page, before[0], "like")
    expect(page.locator(f'[data-film="{before[0]}"]')).to_have_count(0)
    expect(page.locator(CARDS)).to_have_count(10)
    assert films(page) != before[1:]
    page.click(".undo button")
    expect(page.locator(f'[data-film="{before[0]}"]')).to_have_count(1)
    assert films(page) == before
    expect(page.locator(".undo")).to_have_count(0)


@pytest.mark.parametrize("act", ["dislike", "watch"])
def test_what_is_said_stays_said(open_page: Open, act: str) -> None:
    page = open_page("en", kept=person(3 if act == "watch" else 4))
    first = films(page)[0]
    say(page, first, act)
    expect(page.locator(f'[data-film="{first}"]')).to_have_count(0)
    expect(page.locator(CARDS)).to_have_count(10)
    page.reload()
    page.wait_for_selector(CARDS)
    assert first not in films(page)


def test_the_other_language_changes_heading_titles_and_reasons(open_page: Open) -> None:
    page = open_page("ko", kept=person(5))
    before, titles = films(page), page.locator(".card-title").all_inner_texts()
    page.click("text=EN")
    expect(page.locator("h1")).to_contain_text("Picked for ")
    expect(page.locator(".card-reason").first).to_contain_text(re.compile(r"[A-Za-z]+ "))
    expect(page.locator(".card-title").first).not_to_have_text(titles[0])
    assert films(page) == before
    assert page.locator("html").get_attribute("lang") == "en"
    page.reload()
    expect(page.locator("h1")).to_contain_text("Picked for ")


def test_a_new_viewer_tells_three_films(open_page: Open) -> None:
    page = open_page("en", kept=person(6))
    page.click(".switch-button")
    page.click("text=Start as a new viewer")
    expect(page.locator("h1")).to_have_text("Picked for you")
    starters = page.locator(".starter button")
    expect(starters.first).to_be_visible()
    expect(page.locator(".why summary")).to_contain_text("newcomer")
    for count in (1, 2):
        before = films(page)
        starters.nth(count).click()
        expect(page.locator(".starter [role=status]")).to_have_text(f"{count} of 3")
        expect(page.locator(".why summary")).to_contain_text("personal")
        page.wait_for_function(
            "before => [...document.querySelectorAll('.grid > [data-film]')]"
            ".map((card) => card.dataset.film).join() !== before",
            arg=",".join(before),
        )
    starters.nth(3).click()
    expect(page.locator(".starter")).to_have_count(0)
    expect(page.locator(CARDS)).to_have_count(10)
    page.reload()  # this browser remembers the newcomer
    expect(page.locator(".why summary")).to_contain_text("personal")


def test_another_person_has_another_list(open_page: Open) -> None:
    page = open_page("en", kept=person(7))
    before, heading = films(page), page.locator("h1").inner_text()
    page.click(".switch-button")
    page.locator(".person:not([aria-current=true])").nth(8).click()
    expect(page.locator("h1")).not_to_have_text(heading)
    page.wait_for_selector(CARDS)
    assert films(page) != before


def test_search_finds_titles_in_both_languages(open_page: Open) -> None:
    page = open_page("en", kept=person(8))
    title = page.locator(".card-title").first.inner_text()
    page.keyboard.press("/")
    page.keyboard.type(title[:12])
    expect(page.locator("h1")).to_contain_text(title[:12].strip())
    expect(page.locator(".card-title", has_text=title)).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("h1")).to_contain_text("Picked for ")
    page.fill("input[type=search]", "zzzz zzzz")
    expect(page.locator(".blank")).to_be_visible()


def test_the_whole_story_from_the_keyboard(open_page: Open) -> None:
    page = open_page("ko", kept=person(9))
    before = films(page)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the link that skips the header
    page.focus(f'[data-film="{before[0]}"] [data-act=like]')
    page.keyboard.press("Enter")
    expect(page.locator(f'[data-film="{before[0]}"]')).to_have_count(0)
    focused = "document.activeElement.closest('[data-film]')?.dataset.film"
    assert page.evaluate(focused) == films(page)[0]  # the focus stays in its place
    page.keyboard.press("z")
    expect(page.locator(f'[data-film="{before[0]}"]')).to_have_count(1)
    assert films(page) == before
    heading = page.locator("h1").inner_text()
    page.focus(".switch-button")
    page.keyboard.press("Enter")
    for _ in range(5):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).not_to_have_text(heading)
    expect(page.locator("#people")).not_to_be_visible()


def test_a_refused_act_brings_the_card_back_and_says_why(
    open_page: Open, errors: list[str]
) -> None:
    page = open_page("en", kept=person(10))
    before = films(page)

    def refuse(route: Route) -> None:
        body = '{"detail": "too many writes from this address", "status": 429}'
        route.fulfill(status=429, body=body, content_type="application/problem+json")

    page.route("**/api/v1/events/user-interaction", refuse)
    say(page, before[2], "like")
    card = page.locator(f'[data-film="{before[2]}"]')
    expect(card.get_by_role("alert")).to_contain_text("too many writes from this address")
    expect(card).not_to_have_attribute("data-settled", "like")
    assert films(page) == before
    assert all("429" in error for error in errors)
    errors.clear()  # Chromium itself writes the 429 into the console


def test_the_last_list_stays_while_the_api_is_gone(
    open_page: Open, api: Api, errors: list[str]
) -> None:
    page = open_page("en", kept=person(11))
    before = films(page)
    api.stop()
    try:
        page.click("text=한국어")
        expect(page.get_by_role("alert")).to_contain_text("마지막으로 받은 목록입니다")
        assert films(page) == before
        with page.expect_request("**/api/v1/recommendations?*"):
            page.click(".notice button")
        expect(page.get_by_role("alert")).to_contain_text("마지막으로 받은 목록입니다")
    finally:
        api.start()
    expect(page.get_by_role("alert")).to_have_count(0)  # the page asks again by itself
    assert films(page) == before
    assert all("ERR_CONNECTION" in error for error in errors)
    errors.clear()


@pytest.mark.parametrize("language", ["ko", "en"])
def test_shelves_beneath_the_list_show_each_film_once(open_page: Open, language: str) -> None:
    page = open_page(language, kept=person(13))
    page.wait_for_selector(SHELVES)
    titles = page.locator(".shelf h2").all_inner_texts()
    assert {"ko": "이번 주 인기 콘텐츠", "en": "Popular this week"}[language] in titles
    assert len(titles) == len(set(titles)) >= 3
    every = page.eval_on_selector_all(
        "[data-film]", "cards => cards.map((card) => card.dataset.film)"
    )
    assert len(every) == len(set(every)) > 30
    page.locator(SHELVES).last.scroll_into_view_if_needed()
    page.wait_for_function(
        """() => {
          const image = document.querySelector('.shelf:last-child img');
          return image.complete && image.naturalWidth > 0;
        }"""
    )


@pytest.mark.parametrize("width", [390, 1440])
def test_shelves_to_come_have_the_size_of_shelves(open_page: Open, width: int) -> None:
    page = open_page("en", width=width, kept=person(17))
    page.wait_for_selector(SHELVES)
    held: list[Route] = []
    page.route("**/api/v1/home?**", lambda route: held.append(route))
    page.reload()
    expect(page.locator(".shelf")).to_have_count(3)
    expect(page.locator(CARDS)).to_have_count(10)
    tops = "shelves => shelves.slice(0, 3).map((shelf) => shelf.getBoundingClientRect().top)"
    before = page.eval_on_selector_all(".shelf", tops)
    held[0].continue_()
    page.wait_for_selector(SHELVES)
    assert page.eval_on_selector_all(".shelf", tops) == pytest.approx(before, abs=2)


def test_a_shelf_acts_as_the_list_does(open_page: Open) -> None:
    page = open_page("en", kept=person(14))
    page.wait_for_selector(SHELVES)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.partition("?")[0][-8:]))
    shelf = page.locator(SHELVES, has=page.get_by_text("Popular this week"))
    first = shelf.locator("[data-film]").first.get_attribute("data-film")
    assert first
    say(page, first, "dislike")
    expect(page.locator(f'[data-film="{first}"]')).to_have_count(0)
    page.wait_for_load_state("networkidle")
    assert asked.count("/v1/home") == 1
    page.click(".undo button")
    expect(shelf.locator("[data-film]").first).to_have_attribute("data-film", first)


def test_a_shelf_is_walked_by_keys_and_by_arrows(open_page: Open) -> None:
    page = open_page("en", kept=person(15))
    page.wait_for_selector(SHELVES)
    shelf = page.locator(SHELVES).first
    cards = shelf.locator("[data-film]")
    cards.first.locator("[data-act=like]").focus()
    for _ in range(cards.count()):
        page.keyboard.press("ArrowRight")
    expect(cards.last.locator("[data-act=like]")).to_be_focused()
    expect(cards.last).to_be_in_viewport(ratio=0.9)
    on, back = (shelf.locator(f".shelf-arrows button:{place}-child") for place in ("last", "first"))
    expect(on).to_have_attribute("aria-disabled", "true")
    back.click()
    expect(back).to_have_attribute("aria-disabled", "true")
    expect(cards.first).to_be_in_viewport(ratio=0.9)


def test_the_page_does_without_shelves(open_page: Open, errors: list[str]) -> None:
    page = open_page("en", kept=person(16))
    page.route("**/api/v1/home?**", lambda route: route.abort())
    page.reload()
    expect(page.locator(CARDS)).to_have_count(10)
    expect(page.locator(".shelf")).to_have_count(0)
    expect(page.get_by_role("alert")).to_have_count(0)
    assert all("ERR_FAILED" in error for error in errors)
    errors.clear()


@pytest.mark.parametrize(
    ("language", "theme", "width"),
    [("ko", "light", 1440), ("en", "dark", 1440), ("ko", "dark", 390), ("en", "light", 390)],
)
def test_axe_finds_nothing(open_page: Open, language: str, theme: str, width: int) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed; `npm ci` in frontend/ installs it")
    page = open_page(language, theme, width, nobody())
    page.wait_for_selector(".starter img")
    page.wait_for_selector(SHELVES)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(AXE.read_text())
    page.click(".why summary")
    page.click(".origin summary")
    assert violations(page) == []
    page.click(".switch-button")
    assert violations(page) == []


def violations(page: Page) -> list[str]:
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['id']}: {node['html'][:160]} {node.get('failureSummary', '')}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_moves_while_the_page_comes(open_page: Open, width: int) -> None:
    page = open_page("en", width=width, kept=person(12))
    page.wait_for_selector(SHELVES)
    page.wait_for_load_state("networkidle")
    shift = """() => new Promise((told) => {
      let sum = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) sum += entry.value;
      }).observe({type: 'layout-shift', buffered: true});
      setTimeout(() => told(sum), 200);
    })"""
    assert page.evaluate(shift) < 0.01

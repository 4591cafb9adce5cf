"""The status page in a browser, before a site that says what the test wants."""

import json
from typing import Any

import pytest
from selenium.webdriver import Keys

from tests.browser import PHONE, WIDE, Browser
from tests.status.fake_site import FakeSite, fake_site, nursery, task
from trio_services.status.task_tree import TaskNode

ITEM = "#tree [aria-label='{}']"

HOSTILE = "<img src=x onerror=document.title='broken'><b>bold</b>"

LONG = "x" * 300


async def open_page(browser: Browser, site: FakeSite) -> None:
    """Open the page and wait until it has drawn a snapshot."""
    await browser.open(site.url)
    await browser.until("return document.body.dataset.state === 'live'")


async def labels(browser: Browser, css: str = "#tree [role=treeitem]:not(.gone)") -> list[str]:
    """Return what a screen reader says of the items of the tree, in order."""
    script = "return [...document.querySelectorAll(arguments[0])].map(item => item.ariaLabel)"
    found: list[str] = await browser.run(script, css)
    return found


def tree_of(*tasks: TaskNode) -> TaskNode:
    """Return a tree with these tasks in one nursery."""
    return task("main", 1, [nursery(2, tasks, "work")])


async def test_shows_a_snapshot(browser: Browser) -> None:
    """Figures, the tree and the counters are those of the snapshot, and the console is silent."""
    async with fake_site() as site:
        await open_page(browser, site)
        meters = await browser.text("#meters")
        for text in ("1,401", "p50 12 µs · p99 88 µs", "2.5", "1 waiting · 2 workers", "54.0 MiB"):
            assert text in meters
        assert await labels(browser) == ["task main", "nursery everything", "task signals"]
        assert "2 tasks" in await browser.text("#nursery-title")
        assert "dns rcodes NXDOMAIN" in await browser.text("#counters")
        assert await browser.text("#about") == "Python 3.11.7 · process 4711 · up 12.0 s"
        assert await browser.console() == []


async def test_text_of_peers_stays_text(browser: Browser) -> None:
    """HTML in the name of a task, in an error or in a reply is shown as it is, and nothing runs."""
    recent = [{"at": 0, "kind": kind, "text": HOSTILE} for kind in ("error", HOSTILE)]
    async with fake_site(tree=tree_of(task(HOSTILE, 3)), recent=recent) as site:
        site.replies["/query"] = 200, json.dumps({"rcode": "NOERROR", "answer": [HOSTILE]})
        await open_page(browser, site)
        await browser.click("#ask button")
        await browser.shows("#ask output", HOSTILE)
        assert HOSTILE in await browser.text("#tree")
        assert (await browser.text("#recent")).count(HOSTILE) == 3
        assert await browser.run("return document.querySelectorAll('img, #tree b').length") == 0
        assert await browser.run("return document.title") == "trio-services"


async def test_elements_live_as_long_as_their_tasks(browser: Browser) -> None:
    """A task's element, its frames and the focus on it outlive the siblings that come and go."""
    async with fake_site(tree=tree_of(task("b", 5))) as site:
        await open_page(browser, site)
        await browser.click(ITEM.format("task b") + " .name")
        await browser.shows(".frames", "app.py:12 serve")
        await site.show(tree=tree_of(task("a", 7), task("b", 5), task("c", 6)))
        await browser.until("return document.querySelectorAll('#tree .came').length === 2")
        await browser.shows(".frames", "app.py:12 serve")
        await site.show(tree=tree_of(task("b", 5, count=3)))
        await browser.until("return document.querySelectorAll('#tree .task').length === 2")
        assert await labels(browser) == ["task main", "nursery work", "task b × 3"]
        assert await browser.run("return document.activeElement.ariaLabel") == "task b × 3"
        await browser.shows(".frames", "app.py:12 serve")


async def test_several_are_still_the_same_several(browser: Browser) -> None:
    """When the first of several equal tasks ends, those that are left are not shown as new."""
    async with fake_site(tree=tree_of(task("a", 3, count=9), task("b", 4))) as site:
        await open_page(browser, site)
        await site.show(tree=tree_of(task("a", 5, count=8), task("b", 6)))
        await browser.until(
            "return document.querySelector(arguments[0])", ITEM.format("task a × 8")
        )
        assert await labels(browser, "#tree .came") == ["task b"]


async def test_focus_of_what_goes_moves_up(browser: Browser) -> None:
    """When the task that has the focus ends, the nursery that owned it has it."""
    async with fake_site(tree=tree_of(task("a", 3), task("b", 4))) as site:
        await open_page(browser, site)
        await browser.click(ITEM.format("task b") + " .name")
        await site.show(tree=tree_of(task("a", 3)))
        await browser.until("return document.activeElement.ariaLabel === 'nursery work'")


async def test_says_what_a_scope_does(browser: Browser) -> None:
    """Deadlines, shields and cancellations are in words, and the last is told to screen readers."""
    async with fake_site() as site:
        await open_page(browser, site)
        inner = nursery(2, [], "work", deadline=3.21, shielded=True, cancel_called=True)
        await site.show(tree=task("main", 1, [inner], starting=True))
        await browser.shows("#tree .nursery .notes", "cancel called · shielded · deadline in 3.2 s")
        assert await labels(browser) == [
            "task main starting",
            "nursery work cancel called shielded",
        ]


@pytest.mark.parametrize("folded", [True, False])
async def test_draws_a_bounded_part_of_a_large_tree(browser: Browser, folded: bool) -> None:
    """Of 10,000 tasks a hundred are drawn, or one that stands for them; the others are counted."""
    alike = [task("client", 10, count=10_000)]
    each = [task(f"client {number}", number) for number in range(10, 10_010)]
    async with fake_site(tree=tree_of(*(alike if folded else each))) as site:
        await open_page(browser, site)
        await browser.shows("#tree-size", "10,001 tasks")
        assert len(await labels(browser)) == 2 + (1 if folded else 100)
        if not folded:
            await browser.shows("#tree .more", "… and 9,900 more")


async def test_draws_a_bounded_part_of_a_deep_tree(browser: Browser) -> None:
    """Tasks within one another are all counted, and drawn to a depth that can be read."""
    tree = task("deepest", 2000)
    for number in range(99):
        tree = task("deep", number, [nursery(5000 + number, [tree])])
    async with fake_site(tree=tree) as site:
        await open_page(browser, site)
        await browser.shows("#tree-size", "100 tasks")
        await browser.shows("#tree .more", "… and 80 more")
        assert len(await labels(browser)) == 40
        assert await browser.overflow() == 0


async def test_keys_walk_and_fold(browser: Browser) -> None:
    """The tree is one stop of the Tab key, and the keys of the ARIA tree pattern move within it."""
    tree = tree_of(task("a", 3), task("b", 4))

    async def focus(*keys: str) -> str:
        await browser.press(*keys)
        return str(await browser.run("return document.activeElement.ariaLabel"))

    async with fake_site(tree=tree) as site:
        await open_page(browser, site)
        assert (
            await browser.run("return document.querySelectorAll('#tree [tabindex=\"0\"]').length")
            == 1
        )
        await browser.run("document.querySelector('#tree [tabindex=\"0\"]').focus()")
        assert await focus(Keys.ARROW_DOWN) == "nursery work"
        assert await focus(Keys.ARROW_RIGHT, Keys.ARROW_DOWN) == "task b"
        assert await focus(Keys.ARROW_DOWN) == "task b"
        assert await focus(Keys.HOME) == "task main"
        assert await focus(Keys.END, Keys.ARROW_UP) == "task a"
        await browser.press(Keys.ENTER)
        await browser.shows(".frames", "app.py:12 serve")
        assert await focus(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_DOWN) == "nursery work"
        await browser.until(
            "return document.querySelectorAll('#tree .task:not(.gone)').length === 1"
        )
        assert await focus(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT) == "task a"


async def test_says_that_it_drains(browser: Browser) -> None:
    """A server that is shutting down is shown as such, in words."""
    async with fake_site() as site:
        await open_page(browser, site)
        await site.show(draining=True)
        await browser.shows("#link", "draining: nothing new is accepted")
        await browser.shows("#spoken", "draining")


async def test_says_that_the_connection_is_lost_and_comes_back(browser: Browser) -> None:
    """A site that goes is lost, not frozen; when it is back, the page is live again by itself."""
    async with fake_site() as site:
        await open_page(browser, site)
        site.down = True
        await site.cut()
        await browser.shows("#link", "connection lost, trying again")
        site.down = False
        await browser.shows("#link", "live")
        assert site.streams == 2


async def test_looks_now_and_then_without_a_stream(browser: Browser) -> None:
    """A page that gets no stream, as too many are open, is not lost: it asks every few seconds."""
    async with fake_site() as site:
        site.streaming = False
        await open_page(browser, site)
        await browser.shows("#link", "live, every few seconds")
        site.state["memory"] = 99 * 1024**2
        await browser.shows("#meters", "99.0 MiB")


async def test_a_restarted_server_has_its_own_page(browser: Browser) -> None:
    """When another process answers, the page is loaded anew: it may be of another version."""
    async with fake_site() as site:
        await open_page(browser, site)
        await browser.run("document.body.id = 'old'")
        await site.show(pid=4712)
        await browser.until("return document.body.id !== 'old' && document.body.dataset.state")
        await browser.shows("#about", "process 4712")


async def test_tells_how_to_turn_control_on(browser: Browser) -> None:
    """Nothing that the server would refuse is offered; the option that allows it is told."""
    tree = task("main", 1, [nursery(2, [task("sort connection", 3)], "in_flight")])
    async with fake_site(tree=tree) as site:
        await open_page(browser, site)
        assert "--status-control" in await browser.text("#desk")
        assert await browser.run("return document.querySelectorAll('#tree button').length") == 0
        await site.show(control=True)
        await browser.until("return document.querySelector('#tree button.cancel')")
        assert "--status-control" not in await browser.text("#desk")
        assert await browser.text("#tree button.cancel") == "cancel"
        two = task("main", 1, [nursery(2, [task("sort connection", 3, count=2)], "in_flight")])
        await site.show(tree=two)
        await browser.shows("#tree button.cancel", "cancel one")


async def test_cancels_with_the_keyboard(browser: Browser) -> None:
    """The Delete key cancels the connection that has the focus, and the reply is told in words."""
    tree = task("main", 1, [nursery(2, [task("sort connection", 3)], "in_flight")])
    async with fake_site(tree=tree, control=True) as site:
        await open_page(browser, site)
        await browser.click(ITEM.format("task sort connection") + " .name")
        error = {"code": "no-such-task", "message": "none any more"}
        site.replies["/cancel"] = 404, json.dumps({"error": error})
        await browser.press(Keys.DELETE)
        await browser.shows("#tree-said", "sort connection: no-such-task: none any more")
        site.replies["/cancel"] = 200, "{}"
        await browser.press(Keys.DELETE)
        await browser.shows("#tree-said", "Cancelled sort connection.")
        await browser.press(Keys.HOME, Keys.DELETE)  # not what is no connection
        assert site.asked == ["POST /cancel HTTP/1.1"] * 2


async def test_shows_who_cancelled_whom(browser: Browser) -> None:
    """Each occurrence is told in words; what happened again and again is told once."""
    left = {"at": 2, "kind": "cancelled", "text": "sort connection was cancelled by signals"}
    busy = {"at": 1, "kind": "busy-loop", "text": "dns udp kept the loop busy"}
    async with fake_site() as site:
        await open_page(browser, site)
        await browser.shows("#recent-none", "None yet")
        await site.show(recent=[left, left, busy])
        await browser.shows("#recent", str(left["text"]))
        first, second = await browser.run(
            "return [...document.querySelectorAll('#recent li')].map((item) => item.innerText)"
        )
        assert "cancelled × 2" in first
        assert busy["text"] in second
        assert "×" not in second
        assert await browser.text("#recent-none") == ""


async def test_lists_copies(browser: Browser) -> None:
    """With several processes each has a row, also one that does not answer."""
    lag = {"now": 0.001, "p99": 0.002}
    copy = {"pid": 11, "uptime": 5.0, "draining": False, "memory": 1024**2, "loop_lag": lag}
    async with fake_site(copies=[copy, {"pid": 12, "missing": "too slow"}]) as site:
        await open_page(browser, site)
        rows = (await browser.text("#copies tbody")).splitlines()
        assert rows == ["11\tserving\t5.0 s\t1.0 MiB\t1.00 ms", "12\ttoo slow\t–\t–\t–"]


async def test_says_that_a_tree_is_too_large(browser: Browser) -> None:
    """Where the tree is left out, the page says so; the rest of it goes on."""
    async with fake_site(tree=None) as site:
        await open_page(browser, site)
        await browser.shows("#tree-size", "too large to be sent here")
        await browser.shows("#meters", "1,401")


async def test_is_not_chatty(browser: Browser) -> None:
    """A screen reader is told of changed jobs once in a while, not with each snapshot."""
    async with fake_site() as site:
        await open_page(browser, site)
        heard = "window.heard = []; new MutationObserver(() => heard.push(spoken.textContent))"
        await browser.run(
            f"{heard}.observe(document.querySelector('#spoken'), {{childList: true}})"
        )
        for running in range(20):
            await site.show(sort={"workers": {"running": running, "waiting": 0, "size": 2}})
        await browser.shows("#meters", "19")
        assert await browser.run("return heard.length") <= 5


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_can_be_read(browser: Browser, scheme: str) -> None:
    """All text has the contrast that WCAG 2.2 asks for (1.4.3, level AA), light and dark."""
    async with busy_site() as site:
        await browser.prefer(scheme)
        await open_page(browser, site)
        await browser.click("#ask button")
        await browser.shows("#ask output", "not here")
        await site.show(control=True)  # lets what had just come be lit, then calm
        await browser.until("return document.querySelector('#tree .cancel')")
        results = await browser.run(CONTRASTS)
        assert len(results) > 50
        assert {text: ratio for text, ratio in results if ratio < 4.5} == {}
        ground = await browser.run("return getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(17, 21, 25)") == (scheme == "dark")


@pytest.mark.parametrize("width", [320, PHONE, 768, WIDE, 2560])
async def test_never_scrolls_sideways(browser: Browser, width: int) -> None:
    """The page fits from a small phone to a wide screen, whatever names and texts come."""
    async with busy_site() as site:
        site.replies["/query"] = 200, json.dumps({"answer": [LONG]})
        await browser.resize(width)
        await open_page(browser, site)
        await browser.click("#ask button")
        await browser.shows("#ask output", LONG)
        await browser.click(ITEM.format(f"task {LONG}") + " .name")
        assert await browser.overflow() == 0


async def test_less_motion(browser: Browser) -> None:
    """Nothing is animated for readers who prefer less motion, and what comes is for others."""
    count = "window.moved = 0; document.addEventListener('animationstart', () => moved++)"
    async with fake_site() as site:
        for reduced in (False, True):
            await browser.prefer("light", reduced_motion=reduced)
            await open_page(browser, site)
            await browser.run(count)
            await site.show(tree=tree_of(task("new", 9)))
            await browser.until("return document.querySelector('#tree .came')")
            if reduced:
                assert await browser.run("return document.getAnimations().length + moved") == 0
            else:
                await browser.until("return moved")
            await site.show(tree=tree_of())


def busy_site() -> Any:
    """Serve a site that shows something of everything."""
    tree = task(
        "main",
        1,
        nurseries=[
            nursery(2, [task(LONG, 3), task("client", 4, count=7)], "in_flight"),
            nursery(5, [task("other", 6)], cancel_called=True, deadline=2.0),
        ],
    )
    recent = [{"at": 0, "kind": kind, "text": LONG} for kind in ("error", "cancelled", "busy-loop")]
    copies = [{"pid": 10**7, "missing": LONG}] * 2
    return fake_site(tree=tree, recent=recent, copies=copies, control=True)


CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => {
  const [r, g, b] = channels(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (element) => {
  const colour = getComputedStyle(element).backgroundColor;
  return channels(colour)[3] === 0 ? ground(element.parentElement) : colour;
};
document.getAnimations().forEach((animation) => animation.finish());
return [...document.querySelectorAll("body *")]
  .filter((element) => element.checkVisibility() && !element.closest("svg, .skip, :disabled"))
  .filter((element) => element.matches("input") ||
    [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
  .map((element) => {
    const [one, other] = [getComputedStyle(element).color, ground(element)].map(luminance);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    return [`${element.tagName} ${element.className} ${element.textContent.slice(0, 40)}`, ratio];
  });
"""

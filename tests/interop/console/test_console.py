"""The console in Chromium: without scripts, by keyboard, on a phone, light and dark.

The pictures lie in `AMLGATE_PICTURES`, if that is set, to be looked at.
"""

import os
import pathlib
import re

import pytest
import requests
from playwright.sync_api import expect, sync_playwright
from running import Sandbox

PAGES = ["access", "requests", "grants", "break-glass", "decisions", "audit", "lineage", "routes", "policies"]
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox")
    yield sandbox
    sandbox.stop()
    sandbox.record.verify()


def by_sam(sandbox, method, path, body=None):
    """What the gate answers to a call of Sam's below the workspace."""
    workspace = re.search(r"/subscriptions/\S+/workspaces/[\w-]+", sandbox.log.read_text())[0]
    url = f"{sandbox.gate}{workspace}{path}?api-version=2025-12-01"
    head = {"authorization": f"Bearer {sandbox.token('sam')}"}
    return requests.request(method, url, headers=head, json=body, verify=sandbox.ca, timeout=30)


@pytest.fixture(scope="session")
def console(sandbox):
    """The console's address; somebody was let in and somebody refused before."""
    for method, status in (("GET", 200), ("DELETE", 403)):
        assert by_sam(sandbox, method, "").status_code == status
    return f"http://{sandbox.layout['admin_address']}"


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ["AMLGATE_CHROMIUM"], args=["--no-sandbox", "--no-proxy-server"]
        )
        print(f"chromium {browser.version}")
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, console):
    """A browser in which somebody has signed in, with scripts switched off; whatever it complains of fails."""
    contexts, complaints = [], []

    def opened(person, viewport=DESK, scheme="light"):
        context = chromium.new_context(
            viewport=viewport, color_scheme=scheme, java_script_enabled=False, ignore_https_errors=True
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.goto(f"{console}/")
        page.get_by_role("button", name=person).click()
        expect(page).to_have_title(re.compile("amlgate$"))
        return page

    yield opened
    for context in contexts:
        context.close()
    # A refused page is one that its reader was shown on purpose.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def picture(page, name):
    if folder := os.environ.get("AMLGATE_PICTURES"):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESK, PHONE], ids=["desk", "phone"])
def test_every_page_fits_its_screen_and_is_read_by_its_colours(visit, console, device, scheme):
    page = visit("Pat", device, scheme)
    for name in PAGES:
        page.goto(f"{console}/{name}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("link", name=re.compile(".")).first).to_be_attached()
        picture(page, f"{name}-{device['width']}-{scheme}")
        room = page.locator("html").bounding_box()["width"]
        assert room <= device["width"], f"{name} is {room} wide"


def test_somebody_is_told_why_not_by_keyboard_alone(visit, console):
    page = visit("Sam")
    page.goto(f"{console}/access")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.get_by_label("Action").focus()
    page.keyboard.type("Microsoft.MachineLearningServices/workspaces/delete")
    page.keyboard.press("Tab")
    scope = page.locator("summary code").first.inner_text()
    page.keyboard.type(scope)
    page.keyboard.press("Enter")
    answer = page.get_by_role("status")
    expect(answer).to_contain_text("AuthorizationFailed")
    picture(page, "access-answer")


def test_an_operator_goes_from_a_refusal_to_the_line_and_asks_what_if(visit, console):
    page = visit("Pat")
    page.goto(f"{console}/decisions")
    picture(page, "decisions")
    page.get_by_role("link", name=re.compile("DELETE")).first.click()
    expect(page.get_by_role("heading", name="Decision")).to_be_visible()
    expect(page.locator("dd", has_text="no entry allows you")).to_be_visible()
    picture(page, "decision")
    page.goto(f"{console}/decisions")
    page.locator("td[data-label='Decided by'] a").first.click()
    expect(page.locator("article:target")).to_be_visible()
    picture(page, "policies-line")
    page.get_by_label("Method").select_option("DELETE")
    page.get_by_label("URL, with").fill("https://management.azure.com/subscriptions/1?api-version=1")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#answer .verdict")).to_be_visible()
    picture(page, "what-if")


def test_a_refused_call_is_asked_for_by_its_link_and_goes_on_when_another_approves(visit, sandbox):
    entry = "\n    who: [data-scientists]\n    actions: [Microsoft.MachineLearningServices/workspaces/jobs/write]\n    approval: {by: [{subject: platform}]}\n"
    sandbox.policies("require", "jobs need a second person", entry)
    workspace = re.search(r"/subscriptions/\S+/workspaces/[\w-]+", sandbox.log.read_text())[0]
    job = {"jobType": "Command", "command": "python train.py", "experimentName": "churn"}
    job["environmentId"] = f"{workspace}/environments/sklearn/versions/1"
    job["computeId"] = f"{workspace}/computes/cpu-cluster"
    refused = by_sam(sandbox, "PUT", "/jobs/asked-for", {"properties": job})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ApprovalRequired")
    link = re.search(r"http://\S+/requests/new\?decision=[\w-]+", refused.json()["error"]["message"])[0]
    sam, pat = visit("Sam"), visit("Pat")
    sam.goto(link)
    sam.get_by_label("Why").fill("to retrain before Friday")
    picture(sam, "ask")
    sam.get_by_role("button", name="Ask").click()
    expect(sam.get_by_role("button", name="Take it back")).to_be_visible()
    expect(sam.get_by_role("button", name="Approve")).to_have_count(0)
    pat.goto(link.split("/new")[0])
    picture(pat, "requests")
    pat.get_by_role("link", name=re.compile("jobs need a second person")).click()
    picture(pat, "request")
    pat.get_by_label("What you say to it").fill("go ahead")
    pat.keyboard.press("Enter")
    expect(pat.locator(".lead .tag")).to_have_text("approved")
    assert by_sam(sandbox, "PUT", "/jobs/asked-for", {"properties": job}).ok
    sam.goto(link.split("/requests")[0] + "/grants")
    expect(sam.get_by_text("1 of 1 used")).to_be_visible()
    picture(sam, "grants")


def test_the_glass_is_broken_confirmed_closed_and_reviewed_without_a_script(visit, console, sandbox):
    configuration = sandbox.home / "amlgate.yaml"
    glass = "break_glass: {who: [data-scientists], by: [{subject: platform}], max: 1h}\n"
    configuration.write_text(configuration.read_text() + glass)
    entry = "\n    who: [data-scientists, platform]\n    actions: [amlgate/break-glass/*]\n"
    sandbox.policies("allow", "people break the glass", entry)
    sam, pat = visit("Sam"), visit("Pat", PHONE, "dark")
    sam.goto(f"{console}/break-glass")
    sam.get_by_label("Why").fill("the cluster burns")
    sam.get_by_label("For how many minutes").fill("30")
    picture(sam, "break-glass-open")
    sam.get_by_role("button", name="Break the glass").click()
    expect(sam.locator(".tag", has_text="asked").first).to_be_visible()
    expect(sam.get_by_role("button", name="Confirm")).to_have_count(0)
    pat.goto(f"{console}/break-glass")
    pat.get_by_label("What you say to it").fill("go")
    picture(pat, "break-glass-confirm")
    pat.keyboard.press("Enter")
    expect(pat.locator(".tag", has_text="open").first).to_be_visible()
    sam.goto(f"{console}/break-glass")
    expect(sam.get_by_text("Open until")).to_be_visible()
    picture(sam, "break-glass-is-open")
    sam.get_by_role("button", name="Close it now").click()
    expect(sam.get_by_role("button", name="Close the review")).to_have_count(0)
    pat.goto(f"{console}/break-glass")
    pat.get_by_label("What the review found").fill("rightly")
    picture(pat, "break-glass-review")
    pat.get_by_role("button", name="Close the review").click()
    sam.goto(f"{console}/break-glass")
    expect(sam.get_by_text("The glass is whole.")).to_be_visible()
    expect(sam.locator("td", has_text="rightly")).to_be_visible()
    picture(sam, "break-glass-before")


def test_who_may_not_sees_why_and_whoever_signs_out_is_out(visit, console):
    page = visit("Sam")
    page.goto(f"{console}/audit")
    expect(page.get_by_role("heading", name="You may not see this")).to_be_visible()
    picture(page, "refused")
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{console}/access")
    expect(page.get_by_role("heading", name="Who are you?")).to_be_visible()

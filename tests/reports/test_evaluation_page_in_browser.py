"""The page of an evaluation as a browser shows it."""

import pytest

from distill.reports.evaluation_page import evaluation_page
from tests.reports.evaluation_reports import found_of, report_of, small_faces

NAMES = ("slim_resnet-hinton-T2-lambda0.9-0", "microexpnet-hinton-T4-lambda0.9-0", "microexpnet-labels-alone-0")
SCROLLS = "[document.documentElement.scrollWidth, window.innerWidth]"
LABELS = """[...document.querySelectorAll(".mark text")].map(text => {
  const box = text.getBoundingClientRect(); return [box.left, box.top, box.right, box.bottom]; })"""


@pytest.fixture
def shown(browser_page, tmp_path):
    """The page of three models, opened; their names are long."""
    faces = small_faces(class_names=("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral", "contempt"))
    models = [found_of(faces, name, seed=seed, bytes=260_000 + seed) for seed, name in enumerate(NAMES)]
    (tmp_path / "report.html").write_text(evaluation_page(report_of(faces, *models), faces), encoding="utf-8")
    browser_page.page.goto((tmp_path / "report.html").as_uri())
    return browser_page


def test_it_opens_without_a_problem_and_requests_nothing_else(shown):
    assert shown.problems == []
    assert [url for url in shown.requested if not url.startswith(("file:", "data:"))] == []
    assert shown.page.locator("h1").inner_text() == "3 models on faces"
    assert shown.page.locator("h2").all_inner_texts() == ["Overview", *NAMES]


def test_every_picture_is_seen(shown):
    widths = shown.page.eval_on_selector_all("img", "images => images.map(image => image.naturalWidth)")
    assert len(widths) == 15
    assert min(widths) > 0
    assert all(box["height"] > 100 for box in (each.bounding_box() for each in shown.page.locator("svg").all()))


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out(shown, width, scheme):
    shown.page.emulate_media(color_scheme=scheme)
    shown.page.set_viewport_size({"width": width, "height": 800})
    scrolls, inner = shown.page.evaluate(SCROLLS)
    assert scrolls <= inner


def test_the_labels_of_the_chart_lie_apart(shown):
    boxes = shown.page.evaluate(LABELS)
    assert len(boxes) == 3
    for number, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:number]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] + 1 or other[3] <= top + 1


def test_dark_mode_is_dark_and_paper_is_white(shown):
    background = "getComputedStyle(document.body).backgroundColor"
    shown.page.emulate_media(color_scheme="dark")
    assert shown.page.evaluate(background) == "rgb(20, 23, 26)"
    shown.page.emulate_media(color_scheme="dark", media="print")
    assert shown.page.evaluate(background) == "rgb(255, 255, 255)"

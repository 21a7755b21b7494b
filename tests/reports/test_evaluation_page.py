"""The page of an evaluation: what stands on it, and what must not."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from distill.reports.evaluation_page import evaluation_page
from tests.reports.evaluation_reports import found_of, report_of, small_faces


class Tags(HTMLParser):
    """Collects the tags of a page with their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def faces():
    return small_faces()


@pytest.fixture(scope="module")
def page(faces):
    return evaluation_page(report_of(faces, found_of(faces, "one"), found_of(faces, "two", seed=1)), faces)


def test_everything_is_on_the_page(faces, page):
    text = " ".join(Tags(page).text.split())
    found = found_of(faces, "one")
    for part in (
        *("2 models on faces", "81 validation split; 9 more without a label", "Some Processor", "python 3.11"),
        *("one", "two", *faces.class_names, "65,000 parameters", "260 kB", "0.050 ms", "20,000"),
        *(f"{100 * found['accuracy']:.1f} %", f"{found['macro_f1']:.3f}", "Compared with its teacher", "big"),
        *(
            f"Calibration error {100 * found['calibration']['error']:.1f} %",
            "exact or mirrored copies of training images",
        ),
    ):
        assert part in text, part
    assert "/somewhere" not in page, "a path of this machine"


def test_pictures_are_those_of_the_mistakes_and_have_a_description(faces, page):
    images = Tags(page).all("img")
    mistakes = [mistake for seed in (0, 1) for mistake in found_of(faces, "one", seed=seed)["mistakes"]]
    assert len(images) == len(mistakes) == 10
    rows = {sample_id: row for row, sample_id in enumerate(faces.ids.tolist())}
    for image, mistake in zip(images, mistakes, strict=True):
        content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        shown = np.asarray(Image.open(io.BytesIO(content)))
        np.testing.assert_array_equal(shown, faces.read([rows[mistake["id"]]])[0, ..., 0])
        assert image["alt"] == f"An image labelled {mistake['true']} that is predicted to be {mistake['predicted']}"
    assert [item["title"] for item in Tags(page).all("li")] == [mistake["id"] for mistake in mistakes]
    assert all(svg["aria-label"] and svg["role"] == "img" for svg in Tags(page).all("svg"))


def test_every_header_of_a_table_says_what_it_heads(page):
    assert {header.get("scope") for header in Tags(page).all("th")} == {"row", "col"}


def test_nothing_is_fetched_from_elsewhere(page):
    tags = Tags(page)
    for _, attrs in tags.tags:
        for name in ("src", "href", "srcset", "xlink:href"):
            assert re.match(r"data:|#|$", attrs.get(name) or ""), attrs
    assert not tags.all("script")
    assert "url(" not in page
    assert "@import" not in page


def test_ids_are_unique_and_every_reference_leads_to_one(page):
    tags = Tags(page)
    ids = [attrs["id"] for _, attrs in tags.tags if "id" in attrs]
    assert len(set(ids)) == len(ids)
    pointed = [attrs[name] for _, attrs in tags.tags for name in ("aria-labelledby",) if name in attrs]
    pointed += [link["href"][1:] for link in tags.all("a")]
    assert set(pointed) <= set(ids)


EVIL = '<b>x</b>"onload="alert(1)'


def test_whatever_a_user_names_is_text():
    faces = small_faces(class_names=(EVIL, "<script>alert(1)</script>", "items"))
    model = found_of(faces, EVIL, network=EVIL, latency=None, latency_unknown=EVIL, kind=EVIL)
    model["teachers"][0]["name"] = EVIL
    for mistake in model["mistakes"]:
        mistake["true"] = EVIL
    report = report_of(faces, model, found_of(faces, "other", kind=EVIL))
    report["data"]["name"] = EVIL
    report["machine"]["processor"] = EVIL
    page = evaluation_page(report, faces)
    tags = Tags(page)
    assert not tags.all("script")
    assert not [attrs for _, attrs in tags.tags if "onload" in attrs]
    assert len(tags.all("b")) == len(model["mistakes"]) + len(report["models"][1]["mistakes"])  # our own
    assert "<b>x</b>" in tags.text


def test_a_single_model_needs_no_comparison(faces):
    tags = Tags(evaluation_page(report_of(faces, found_of(faces, "one")), faces))
    assert len(tags.all("svg")) == 1
    assert not tags.all("a")


def test_a_model_without_bytes_is_in_no_chart_of_sizes(faces):
    function, file = found_of(faces, "function", bytes=0), found_of(faces, "file")
    charts = Tags(evaluation_page(report_of(faces, function, file), faces)).all("svg")
    assert len(charts) == 3
    page = evaluation_page(report_of(faces, function, function), faces)
    assert len(Tags(page).all("svg")) == 2  # of calibration alone
    assert "hollow" not in page


def test_what_is_not_known_is_said(faces):
    unknown = {
        "latency": None,
        "latency_unknown": "it cannot be converted",
        "parameters": None,
        "multiply_adds": None,
    }
    model = found_of(faces, "one", **unknown, copies=None, teachers=[], mistakes=[])
    page = evaluation_page(report_of(faces, model, model), faces)
    assert page.count("it cannot be converted") == 2 * (2 + 1)  # two cells of the table, and the section
    assert "hollow: not measured" in page
    for absent in ("Copies of training images", "Compared with its teacher", "most confident mistakes", "<img"):
        assert absent not in page


def test_an_empty_side_of_the_copies_is_none(faces):
    model = found_of(faces, "one", copies={"copies": None, "others": {"count": 81, "accuracy": 0.5}})
    assert "exact or mirrored copies of training images</th><td>none</td><td>–</td>" in evaluation_page(
        report_of(faces, model), faces
    )


def test_large_faces_in_colour_are_scaled_down():
    from dataclasses import replace

    from distill.data.dataset import ArrayImages

    faces = small_faces(count=30, channels=3)
    faces = replace(faces, images=ArrayImages(np.zeros((30, 400, 200, 3), np.uint8)))
    (image, *_) = Tags(evaluation_page(report_of(faces, found_of(faces, "one")), faces)).all("img")
    content = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as shown:
        assert (shown.mode, shown.size) == ("RGB", (80, 160))

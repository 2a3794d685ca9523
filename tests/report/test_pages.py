import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from pages import read

from polyp_lightning.report.document import Commands, Document, Link, Paragraph, Picture, Points, Section, Table
from polyp_lightning.report.html import to_html
from polyp_lightning.report.markdown import escape, to_markdown
from polyp_lightning.report.plotting import choose_looks, make_literal, open_figure, to_picture

NASTY = "<script>alert('x')</script> \"q\" & | `b` *c* _d_ $\\frac{1}$ 多発性 polyp ‮"


def nasty_document() -> Document:
    with open_figure(8, 4) as figure:
        figure.add_subplot().plot([0, 1], [0, 1], label=make_literal(NASTY))
        figure.legend()
        drawn = to_picture(figure, "one", NASTY, NASTY)
    blocks = [
        Paragraph(NASTY), Points([NASTY]), Table([NASTY, "n"], [[NASTY, "1"]], NASTY), drawn, Commands([NASTY, "```"]),
        Link(NASTY, "https://doi.org/10.1000/1"),
    ]  # fmt: skip
    return Document(NASTY, [Section(NASTY, blocks)], NASTY)


def test_to_html__nothing_of_the_text_becomes_a_tag() -> None:
    page = read(to_html(nasty_document()))
    assert not [tag for tag, _ in page.tags if tag in ("script", "i", "iframe", "object")]
    # The title twice, its section twice, table 3, and once each: paragraph, point, figure, command, link, footer.
    assert page.text.count(NASTY) == 13
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    assert image["alt"] == NASTY


def test_to_html__fetches_nothing_and_links_to_what_is_there() -> None:
    page = read(to_html(nasty_document()))
    addresses = [value for tag, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    anchors = [value for value in addresses if value and value.startswith("#")]
    ids = {attributes.get("id") for _, attributes in page.tags}
    assert anchors
    assert all(value[1:] in ids for value in anchors if value)
    rest = [value for value in addresses if value not in anchors]
    assert all(value and value.startswith(("data:", "https://doi.org/")) for value in rest)


def test_to_markdown__nothing_of_the_text_becomes_mark_up() -> None:
    text = to_markdown(nasty_document(), "figures")
    outside = re.sub(r"\n````\n.*?\n````\n", "", text, flags=re.DOTALL)
    assert not re.search(r"(?<!\\)<script", outside)
    table = [line for line in text.splitlines() if line.startswith("| ")]
    # Bars of the text are escaped, so that every row has two cells.
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table] == [3, 3, 3]
    # The fence is longer than the one in the text.
    assert text.count("\n````\n") == 2
    assert "(<figures/one.svg>)" in text


@pytest.mark.parametrize("text", ["# a", "a\n\nb", "[x](y)", "<b>", "a|b", "~~a~~"])
def test_escaped__one_line_that_begins_no_mark_up(text: str) -> None:
    result = escape(text)
    assert "\n" not in result
    assert not re.search(r"(?<!\\)[\[\]<>|#~]", result)
    assert re.sub(r"\\(.)", r"\1", result) == " ".join(text.split())


@pytest.mark.parametrize("label", [NASTY, "_hidden", "$a$", "a\x08b", "$\\frac$"])
def test_picture__any_label_is_drawn_as_it_is(label: str) -> None:
    with open_figure(8, 4) as figure:
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], label=make_literal(label))
        axes.legend()
        data = to_picture(figure, "x", "", "").data
    words = " ".join("".join(node.itertext()) for node in ET.fromstring(data).iter() if node.tag.endswith("}text"))  # noqa: S314
    wanted = "".join(char for char in label[:59] if char.isprintable() and not char.isspace())
    assert wanted in "".join(words.split()).replace("\ufffd", "").replace("\u200b", "")


def test_picture__the_same_numbers_give_the_same_bytes() -> None:
    def draw() -> Picture:
        with open_figure(3, 2) as figure:
            figure.add_subplot().plot([0, 1], [0, 1], "o-")
            return to_picture(figure, "x", "", "")

    assert draw() == draw()


def test_looks__no_two_of_32_are_alike_even_in_grey() -> None:
    found = choose_looks([str(i) for i in range(32)])
    assert len(set(found.values())) == 32
    assert len({(look.marker, look.dash) for look in found.values()}) == 32
    # The first 16, more than a study has criteria: where the colour comes back, all else is another.
    some = list(found.values())[:16]
    assert len({(look.colour, look.marker) for look in some}) == len({(look.colour, look.dash) for look in some}) == 16


def test_page__is_part_of_the_package() -> None:
    import polyp_lightning.report

    assert (Path(polyp_lightning.report.__file__).parent / "page.html.j2").is_file()

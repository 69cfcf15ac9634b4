"""Templates: escaping in HTML only, and no value that is missing."""

import jinja2
import pytest
from markupsafe import Markup

from textgen.reporting import rendering


@pytest.fixture(autouse=True)
def templates(monkeypatch):
    """Templates of one line in place of the real ones."""
    line = "{% if shown %}\n  {{ text | loud }}\n{% endif %}\n"
    loader = jinja2.DictLoader({"page.html.j2": line, "card.md.j2": line})
    monkeypatch.setattr(rendering, "PackageLoader", lambda package: loader)


def loud(text):
    return text + "!"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("page.html.j2", "<b>", "  &lt;b&gt;!\n"),
        ("page.html.j2", Markup("<b>"), "  <b>!\n"),
        ("card.md.j2", "<b>", "  <b>!\n"),
    ],
)
def test_html_is_escaped_and_markdown_is_not(name, text, expected):
    assert rendering.render_template(name, {"loud": loud}, shown=True, text=text) == expected


def test_a_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="shown"):
        rendering.render_template("page.html.j2", {"loud": loud}, text="")

"""Reads a report as a browser does."""

from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "hr", "input"}


class Page(HTMLParser):
    """What a browser sees: elements, ids, links, text and tables; every element must be closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.tables: list[list[list[str]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    @property
    def rows(self) -> list[list[str]]:
        """Rows of all tables, as the texts of their cells."""
        return [row for table in self.tables for row in table]

    def tables_with(self, *titles: str) -> list[list[list[str]]]:
        """The tables that have these columns, without their header row, which must have the same length as each row."""
        found = [table for table in self.tables if table and set(titles) <= set(table[0])]
        assert all(len(row) == len(table[0]) for table in found for row in table)
        return [table[1:] for table in found]

    @property
    def figures(self) -> set[str]:
        """Names of the figures."""
        return {name.removesuffix("-title") for name in self.ids if name.endswith("-title")}


def read(path):
    html = path.read_text(encoding="utf-8")
    return html, Page(html)

"""Lists of the coordinator come in pages, and are read to their end."""

from urllib.parse import parse_qs, urlsplit

from cachefs.transport.api import pages


class Pages:
    """A list of five, two in a page."""

    def __init__(self):
        self.asked = []

    def get(self, path):
        self.asked.append(path)
        query = parse_qs(urlsplit(path).query)
        first = int(query.get("first", ["0"])[0])
        return {
            "rows": [0, 1, 2, 3, 4][first : first + 2],
            "next": first + 2 if first < 3 else None,
        }


def test_all_pages_are_read_in_order():
    listed = Pages()
    found = pages(listed.get, "/v1/list", following="first", query={"name": "a b"})
    assert [row for page in found for row in page["rows"]] == [0, 1, 2, 3, 4]
    assert listed.asked == [
        "/v1/list?name=a+b",
        "/v1/list?name=a+b&first=2",
        "/v1/list?name=a+b&first=4",
    ]


def test_a_page_is_asked_for_when_it_is_wanted():
    listed = Pages()
    assert next(pages(listed.get, "/v1/list", following="first"))["rows"] == [0, 1]
    assert listed.asked == ["/v1/list"]

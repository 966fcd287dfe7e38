"""What a browser makes of a page."""

import html.parser


class Form(html.parser.HTMLParser):
    """The form of a page: where it goes, and what its fields hold."""

    def __init__(self, page):
        super().__init__()
        self.action, self.fields = None, {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "form":
            self.action = attributes["action"]
        if tag == "input" and attributes.get("name"):
            self.fields[attributes["name"]] = attributes["value"]

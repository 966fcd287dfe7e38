"""People who sign in with Microsoft's own libraries, or any OpenID client, to a sandbox of their own.

Nothing here knows amlgate: the clients have Azure's names, the gate's base URL and a browser.
"""

import os
import socket
import threading
import webbrowser

import pytest
import requests
from pages import Form
from running import Sandbox

real_getaddrinfo = socket.getaddrinfo
LOGIN = "login.microsoftonline.com"


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox")
    for name in [n for n in os.environ if n.startswith("AZURE_")]:
        del os.environ[name]
    os.environ.update(dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), sandbox.ca))
    yield sandbox
    sandbox.stop()
    sandbox.record.verify()


@pytest.fixture(scope="session", autouse=True)
def names(sandbox):
    """Of Azure's names only the login host exists, and it is the sandbox's."""
    host, port = sandbox.layout["azure_address"].rsplit(":", 1)

    def getaddrinfo(name, service, *args, **kwargs):
        text = name.decode() if isinstance(name, bytes) else name
        if text in ("localhost", "127.0.0.1", "::1", None):
            return real_getaddrinfo(name, service, *args, **kwargs)
        if text == LOGIN:
            return real_getaddrinfo(host, int(port), *args, **kwargs)
        raise socket.gaierror(socket.EAI_NONAME, f"`{text}` is not for callers of the gate")

    socket.getaddrinfo = getaddrinfo
    yield
    socket.getaddrinfo = real_getaddrinfo


class Browser:
    """Follows redirects and submits the form that a page sends by itself, as a browser does."""

    def __init__(self, sandbox):
        self.ca, self.pages = sandbox.ca, []

    def open(self, url, *_, **__):
        self.pages.append(url)

        def visit():
            page = requests.get(url, verify=self.ca, timeout=30)
            if (form := Form(page.text)).action:
                requests.post(form.action, data=form.fields, verify=self.ca, timeout=30)

        # The library answers the redirect only after the browser was opened.
        threading.Thread(target=visit, daemon=True).start()
        return True


@pytest.fixture
def browser(sandbox):
    browser = Browser(sandbox)
    webbrowser.register("sandbox", None, browser, preferred=True)
    return browser

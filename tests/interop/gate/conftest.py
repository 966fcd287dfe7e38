"""The whole of `amlgate sandbox`, and clients that know nothing of Azure but the gate's URL."""

import os
import socket

import pytest
from callers import STORAGE, Azure, Clients, Names, real_getaddrinfo
from running import Sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    sandbox = Sandbox(tmp_path_factory.mktemp("run") / "sandbox")
    # What a caller would have in the environment to sign in to Azure is not there.
    for name in [n for n in os.environ if n.startswith(("AZURE_TENANT", "AZURE_CLIENT"))]:
        del os.environ[name]
    os.environ.update(dict.fromkeys(("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"), sandbox.ca))
    yield sandbox
    sandbox.stop()
    sandbox.record.verify()
    # Neither the log nor the record holds anybody's token.
    written = sandbox.record.text() + sandbox.log.read_bytes()
    for token in sandbox.tokens.values():
        assert token.encode() not in written and token.rsplit(".", 1)[1].encode() not in written


@pytest.fixture(scope="session", autouse=True)
def names(sandbox):
    names = Names(sandbox.layout["azure_address"])
    socket.getaddrinfo = names.getaddrinfo
    yield names
    socket.getaddrinfo = real_getaddrinfo
    assert all(n.endswith(STORAGE) for n in names.direct), names.direct


@pytest.fixture(scope="module", autouse=True)
def whole_record(sandbox):
    """After every suite the record is whole."""
    yield
    sandbox.record.verify()


@pytest.fixture(scope="session")
def client(sandbox):
    """`MLClient` of a person: nothing differs from a client of Azure but the base URL."""
    return Clients(sandbox).of


@pytest.fixture(scope="session")
def azure(sandbox):
    return Azure(sandbox)

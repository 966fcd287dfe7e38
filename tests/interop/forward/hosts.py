"""What the documentation says of the hosts that clients contact, and what a run saw."""

import pathlib
import re

README = pathlib.Path(__file__).parent.parent / "README.md"
# The gate's own address: who asks there goes through no proxy.
OWN = "localhost"


def contacted(process):
    """The hosts that a gate refused, and those that it forwarded or tunnelled to, by what it wrote down."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", process.log.read_text())
    refused = set(re.findall(r"no passthrough has this host.*?host=(\S+)", text))
    entries = process.record.query()
    urls = (entry.record.get("http_request", {}).get("url", {}) for entry in entries)
    routed = {url["hostname"] for url in urls if url.get("hostname")} - {OWN}
    tunnelled = {entry.own["host"] for entry in entries if entry.own.get("event") == "tunnel_opened"}
    return {"refused": refused, "routed": routed - tunnelled, "tunnelled": tunnelled}


def every_host_is_listed(process):
    """A host of a run that the documentation does not name fails it; says which were contacted."""
    listed = re.findall(r"^\| `(\S+)` \| (routed|refused|tunnelled) \|", README.read_text(), re.MULTILINE)
    assert listed

    def is_listed(host, what):
        patterns = (re.escape(known).replace(r"\*", "[^.]+") for known, becomes in listed if becomes == what)
        return any(re.fullmatch(pattern, host) for pattern in patterns)

    found = contacted(process)
    for what, hosts in found.items():
        unlisted = sorted(host for host in hosts if not is_listed(host, what))
        assert unlisted == [], f"{what}, and not in {README.name}: {unlisted}"
    return found

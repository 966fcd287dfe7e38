"""Tokens of issuers that others wrote: what is accepted, what is refused, and what is said of it."""

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from running import wait_for
from simulated import WORKSPACE_ID

JOBS = f"{WORKSPACE_ID}/jobs?api-version=2025-12-01"


@pytest.fixture(params=["panva", "keycloak"])
def issuer(request, issuers):
    return issuers[request.param]


def encoded(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def decoded(token, part):
    text = token.split(".")[part]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def ask(gate, token):
    return gate.session.get(f"{gate.url}{JOBS}", headers={"Authorization": f"Bearer {token}"})


def test_a_token_is_accepted_as_whom_the_issuer_says(gate, issuer):
    token = issuer.good()
    answer = ask(gate, token)
    assert answer.status_code == 200, answer.text
    claims = decoded(token, 1)
    accepted, said = gate.explain(token)
    assert accepted and (said["issuer"], said["subject"]) == (issuer.name, claims["sub"]), said
    entry = gate.record.expect("--decision", answer.headers["x-amlgate-decision"])
    assert (entry.caller, entry.decision, entry.status) == (f"{issuer.name}:{claims['sub']}", "allow", 200)
    # Whoever is known may still do no more than the policies say.
    denied = gate.session.delete(
        f"{gate.url}{WORKSPACE_ID}?api-version=2025-12-01", headers={"Authorization": f"Bearer {token}"}
    )
    assert denied.status_code == 403 and "amlgate: no entry allows you" in denied.json()["error"]["message"]


def test_the_forms_of_these_issuers_differ_as_expected(issuers):
    panva, keycloak = (issuers[name].good() for name in ("panva", "keycloak"))
    assert decoded(panva, 0)["typ"] == "at+jwt" and "azp" not in decoded(panva, 1)
    assert decoded(panva, 1)["client_id"] == "training-job"
    assert decoded(keycloak, 0)["typ"] == "JWT" and decoded(keycloak, 1)["azp"] == "notebook"
    assert decoded(keycloak, 1)["groups"] == ["data-science"]


def refused(gate, token, check):
    """401, the same reason from `token verify`, and the reason in the record."""
    answer = ask(gate, token)
    assert answer.status_code == 401, (check, answer.text)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "the token is not accepted" in answer.json()["error"]["message"]
    accepted, said = gate.explain(token)
    assert not accepted and said["check"] == check, said
    assert said["message"] and said["hint"], said
    gate.record.expect(fits=lambda e: e.own.get("reason") == check)


def test_a_token_for_another_audience_is_refused(gate, issuer):
    token = issuer.machine("for-another")
    assert decoded(token, 1)["aud"] == "https://elsewhere.example"
    refused(gate, token, "audience")


def test_a_token_for_nobody_in_particular_is_refused(gate, issuers):
    token = issuers["keycloak"].machine("for-nobody")
    assert "aud" not in decoded(token, 1)
    refused(gate, token, "claim")


def test_an_expired_token_is_refused(gate, issuer):
    token = issuer.machine("short-lived")
    wait_for("expiry", lambda: time.time() > decoded(token, 1)["exp"] + 1)
    refused(gate, token, "expired")


def test_a_token_that_another_key_signed_is_refused(gate, issuer):
    import jwt

    token = issuer.good()
    header, claims = decoded(token, 0), decoded(token, 1)
    if issuer.algorithm == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 2048)
    forged = jwt.encode(claims, key, issuer.algorithm, {"kid": header["kid"], "typ": header["typ"]})
    refused(gate, forged, "signature")
    altered = ".".join((token.split(".")[0], encoded(claims | {"sub": "somebody-else"}), token.split(".")[2]))
    refused(gate, altered, "signature")


def test_a_token_without_a_signature_is_refused(gate, issuer):
    token = issuer.good()
    for algorithm in ("none", "None", "HS256"):
        header = decoded(token, 0) | {"alg": algorithm}
        signature = "" if algorithm != "HS256" else token.split(".")[2]
        unsigned = f"{encoded(header)}.{token.split('.')[1]}.{signature}"
        answer = ask(gate, unsigned)
        assert answer.status_code == 401, answer.text
        accepted, said = gate.explain(unsigned)
        assert not accepted and said["check"] in ("algorithm", "malformed"), said


def test_a_rotated_key_is_picked_up_and_a_withdrawn_one_ends(gate, issuers):
    panva = issuers["panva"]
    old = panva.good()
    assert ask(gate, old).status_code == 200
    assert len(panva.tell("rotate")) == 2
    new = panva.good()
    assert decoded(new, 0)["kid"] != decoded(old, 0)["kid"]
    # An unknown key is asked for at most every ten seconds, so that nobody can make the gate ask for ever.
    wait_for("the new key", lambda: ask(gate, new).status_code == 200)
    assert ask(gate, old).status_code == 200
    assert len(panva.tell("withdraw")) == 1
    assert not gate.explain(old)[0]
    # The running gate learns of it when it meets the next unknown key.
    panva.tell("rotate")
    newest = panva.good()
    wait_for("the newest key", lambda: ask(gate, newest).status_code == 200)
    wait_for("the withdrawn key's end", lambda: ask(gate, old).status_code == 401)
    refused(gate, old, "key")


def test_the_sandboxes_own_issuer_goes_on_beside_them(gate, sandbox):
    assert ask(gate, sandbox.token("sam")).status_code == 200
    assert ask(gate, sandbox.token("sam", "--forged")).status_code == 401

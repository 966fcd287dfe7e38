"""Tokens of Dex: who is who by the connector's own id, and whose tokens they are."""

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from running import wait_for
from simulated import WORKSPACE_ID
from test_issuers import ask, decoded, encoded, refused

VERSION = "api-version=2025-12-01"


def test_a_person_is_taken_in_by_the_id_that_the_connector_knows(gate, issuers):
    dex = issuers["dex"]
    answer = dex.signed_in()
    for token in (answer["id_token"], answer["access_token"]):
        claims = decoded(token, 1)
        assert claims["federated_claims"] == {"connector_id": "local", "user_id": dex.kim}
        assert (claims["aud"], claims["email_verified"]) == ("amlgate", True)
        allowed = ask(gate, token)
        assert allowed.status_code == 200, allowed.text
        accepted, said = gate.explain(token)
        assert accepted and (said["issuer"], said["subject"]) == ("dex", claims["sub"]), said
        entry = gate.record.expect("--decision", allowed.headers["x-amlgate-decision"])
        assert (entry.caller, entry.decision) == (f"dex:{claims['sub']}", "allow")
        denied = gate.session.delete(
            f"{gate.url}{WORKSPACE_ID}?{VERSION}", headers={"Authorization": f"Bearer {token}"}
        )
        assert denied.status_code == 403, denied.text


def test_somebody_of_another_connector_is_somebody_else(gate, issuers):
    token = issuers["dex"].through_connector()["id_token"]
    claims = decoded(token, 1)
    assert claims["federated_claims"]["connector_id"] == "mock" and claims["groups"] == ["authors"]
    answer = ask(gate, token)
    assert answer.status_code == 403 and "amlgate: no entry allows you" in answer.json()["error"]["message"]
    accepted, said = gate.explain(token)
    assert accepted and said["groups"] == ["authors"], said


def test_a_token_that_does_not_tell_the_connector_takes_nobody_in(gate, issuers):
    token = issuers["dex"].signed_in(scope="openid email")["id_token"]
    assert "federated_claims" not in decoded(token, 1)
    assert ask(gate, token).status_code == 403


def test_a_token_for_another_client_is_refused(gate, issuers):
    token = issuers["dex"].signed_in(client="for-another")["id_token"]
    assert decoded(token, 1)["aud"] == "for-another"
    refused(gate, token, "audience")


def test_a_token_that_another_key_signed_is_refused(gate, issuers):
    token = issuers["dex"].signed_in()["id_token"]
    header, claims = decoded(token, 0), decoded(token, 1)
    forged = jwt.encode(claims, rsa.generate_private_key(65537, 2048), "RS256", {"kid": header["kid"]})
    refused(gate, forged, "signature")
    head, _, signature = token.split(".")
    other = encoded(claims | {"federated_claims": {"connector_id": "local", "user_id": "somebody-else"}})
    refused(gate, f"{head}.{other}.{signature}", "signature")


def test_a_start_with_new_keys_is_picked_up_and_the_old_ones_end(gate, issuers):
    dex = issuers["dex"]
    old = dex.signed_in()["id_token"]
    assert ask(gate, old).status_code == 200
    dex.stop()
    # Nobody needs Dex whose token's key is known.
    assert ask(gate, old).status_code == 200
    dex.start()
    new = dex.signed_in()["id_token"]
    assert decoded(new, 0)["kid"] != decoded(old, 0)["kid"]
    wait_for("the new key", lambda: ask(gate, new).status_code == 200)
    refused(gate, old, "key")

"""What a real Backstage sends, and as whom the gate takes it."""

import base64
import json
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from running import wait_for
from simulated import WORKSPACE_ID

WORKSPACE = f"{WORKSPACE_ID}?api-version=2025-12-01"
JOBS = f"{WORKSPACE_ID}/jobs?api-version=2025-12-01"


@pytest.fixture(scope="module")
def sam(portal):
    """Of the group that may read."""
    return portal.sign_in("sam")


@pytest.fixture(scope="module")
def rita(portal):
    """Of another group."""
    return portal.sign_in("rita")


def decoded(token, part):
    text = token.split(".")[part]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def ask(gate, token, path=JOBS):
    """Without the portal: whoever took the token from there."""
    return gate.session.get(f"{gate.url}{path}", headers={"Authorization": f"Bearer {token}"})


def recorded(gate, headers):
    return gate.record.expect("--decision", headers["x-amlgate-decision"])


def refused(gate, token, check):
    accepted, said = gate.explain(token)
    assert not accepted and said["check"] == check, said


def test_a_person_of_the_portal_is_judged_by_her_groups_which_her_token_lacks(portal, gate, sam, rita):
    assert decoded(sam, 0)["typ"] == "vnd.backstage.user" and "ent" not in decoded(sam, 1)
    answer = portal.ask(f"proxy/amlgate{JOBS}", sam)
    assert answer.status_code == 200, answer.text
    assert {job["name"] for job in answer.json()["value"]}
    entry = recorded(gate, answer.headers)
    assert (entry.caller, entry.decision, entry.status) == ("portal:user:default/sam", "allow", 200)
    accepted, said = gate.explain(sam)
    assert accepted and (said["issuer"], said["subject"]) == ("portal", "user:default/sam"), said
    # Neither what she may not, nor who is of another group.
    for token, name, method, path in ((sam, "sam", "DELETE", WORKSPACE), (rita, "rita", "GET", JOBS)):
        denied = portal.ask(f"proxy/amlgate{path}", token, method)
        assert denied.status_code == 403, denied.text
        assert "amlgate: no entry allows you" in denied.json()["error"]["message"]
        entry = recorded(gate, denied.headers)
        assert (entry.caller, entry.decision) == (f"portal:user:default/{name}", "deny")


def test_who_is_linked_to_an_object_id_is_that_person_of_entra(portal, gate):
    pat = portal.sign_in("pat")
    answer = portal.ask(f"proxy/amlgate{JOBS}", pat)
    assert answer.status_code == 200, answer.text
    user = recorded(gate, answer.headers).record["actor"]["user"]
    assert user["uid"] == "portal:user:default/pat"
    assert user["uid_alt"].endswith("/5a000000-0000-4000-8000-000000000003") and user["uid_alt"].startswith("entra:")


def test_a_long_operation_begun_in_the_portal_is_polled_there(portal, gate):
    """Of Azure's headers only those come through that `allowedHeaders` of the endpoint lists."""
    pat = portal.sign_in("pat")
    compute = {
        "location": "westeurope",
        "properties": {"computeType": "AmlCompute", "properties": {
            "vmSize": "STANDARD_DS3_V2", "vmPriority": "Dedicated",
            "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 2},
        }},
    }
    path = f"{WORKSPACE_ID}/computes/portal?api-version=2025-12-01"
    begun = portal.ask(f"proxy/amlgate{path}", pat, "PUT", json=compute)
    assert begun.status_code in (201, 202), begun.text
    poll = begun.headers["azure-asyncoperation"]
    assert poll.startswith(f"{gate.url}/subscriptions/"), poll
    state = portal.ask(f"proxy/amlgate{poll.removeprefix(gate.url)}", pat)
    assert state.status_code == 200 and state.json()["status"], state.text
    assert recorded(gate, begun.headers).caller == "portal:user:default/pat"


def test_the_portal_itself_is_nobody(portal, gate, sam):
    """Without a sign-in Backstage refuses; where it keeps the token for itself, or sends its own, the gate does."""
    assert portal.ask(f"proxy/amlgate{JOBS}", None).status_code == 401
    kept = portal.ask(f"proxy/amlgate-require{JOBS}", sam)
    assert kept.status_code == 401 and kept.headers["www-authenticate"].startswith("Bearer"), kept.text
    static = portal.ask(f"proxy/amlgate{JOBS}", portal.static_token)
    assert static.status_code == 401 and static.headers["www-authenticate"].startswith("Bearer"), static.text


def test_a_plugin_that_calls_for_a_person_is_that_person(portal, gate, sam, rita):
    called = portal.through_a_plugin("azureml", "for-the-user", sam, JOBS)
    claims = decoded(called["token"], 1)
    assert decoded(called["token"], 0)["typ"] == "vnd.backstage.plugin"
    assert (claims["sub"], claims["aud"]) == ("azureml", "amlgate") and "iss" not in claims
    assert decoded(claims["obo"], 0)["typ"] == "vnd.backstage.limited-user"
    assert called["status"] == 200, called
    entry = recorded(gate, called["headers"])
    assert (entry.caller, entry.decision) == ("portal:user:default/sam", "allow")
    assert entry.record["actor"]["app_uid"] == "azureml"
    for token, name, method, path in ((sam, "sam", "DELETE", WORKSPACE), (rita, "rita", "GET", JOBS)):
        called = portal.through_a_plugin("azureml", "for-the-user", token, path, method)
        assert called["status"] == 403, called
        assert recorded(gate, called["headers"]).caller == f"portal:user:default/{name}"


def test_a_plugin_that_was_called_by_another_calls_for_the_same_person(portal, gate, sam):
    """`scratch` may not call the gate; `azureml` may, and has no more of her than her limited token."""
    between = portal.through_a_plugin("scratch", "by-way-of-azureml", sam, JOBS)
    assert decoded(between["token"], 1)["aud"] == "azureml"
    called = json.loads(between["text"])
    assert decoded(called["token"], 1)["obo"] == decoded(between["token"], 1)["obo"]
    assert called["status"] == 200, called
    entry = recorded(gate, called["headers"])
    assert (entry.caller, entry.record["actor"]["app_uid"]) == ("portal:user:default/sam", "azureml")


def test_a_plugin_that_calls_for_nobody_is_a_machine(portal, gate, sam):
    called = portal.through_a_plugin("azureml", "for-itself", sam, WORKSPACE)
    assert "obo" not in decoded(called["token"], 1)
    assert called["status"] == 200, called
    entry = recorded(gate, called["headers"])
    assert entry.caller == "portal:plugin:azureml" and "app_uid" in entry.record["actor"]
    # It has not the rights of her who made it call.
    called = portal.through_a_plugin("azureml", "for-itself", sam, JOBS)
    assert called["status"] == 403, called


def test_plugins_that_are_not_named_and_tokens_for_others_are_refused(portal, gate, sam):
    for plugin, way, check in (
        ("scratch", "for-the-user", "issuer"),
        ("scratch", "for-itself", "issuer"),
        ("azureml", "meant-for-another", "audience"),
    ):
        called = portal.through_a_plugin(plugin, way, sam, JOBS)
        assert called["status"] == 401, called
        assert "the token is not accepted" in called["text"], called
        refused(gate, called["token"], check)


def test_a_limited_token_is_no_bearer(portal, gate, sam):
    called = portal.through_a_plugin("azureml", "with-the-limited-token", sam, JOBS)
    assert decoded(called["token"], 0)["typ"] == "vnd.backstage.limited-user"
    assert called["status"] == 401 and "a limited Backstage user token is no bearer" in called["text"], called
    refused(gate, called["token"], "limited_user")
    # Nor is the one that anybody can cut out of hers, or out of a plugin's.
    header = {"typ": "vnd.backstage.limited-user", "alg": "ES256", "kid": decoded(sam, 0)["kid"]}
    claims = {name: decoded(sam, 1)[name] for name in ("sub", "iat", "exp")}
    cut = f"{encoded(header)}.{encoded(claims)}.{decoded(sam, 1)['uip']}"
    inner = decoded(portal.through_a_plugin("azureml", "for-the-user", sam, JOBS)["token"], 1)["obo"]
    assert cut == inner
    answer = ask(gate, cut)
    assert answer.status_code == 401 and "a limited Backstage user token is no bearer" in answer.text


def encoded(value):
    text = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def test_nobody_calls_the_portal_in_the_gates_name(portal, sam):
    """Backstage looks for the gate's keys as for any plugin's, and finds that it has none."""
    import jwt

    def claiming(plugin):
        now = int(time.time())
        claims = {"sub": plugin, "aud": "azureml", "iat": now, "exp": now + 60}
        headers = {"typ": "vnd.backstage.plugin", "kid": "any"}
        return jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256", headers)

    def said(plugin):
        answer = portal.ask(f"azureml/for-itself{JOBS}", claiming(plugin))
        assert answer.status_code == 401, answer.text
        return answer.json()["error"]["message"]

    assert said("amlgate") == "Failed plugin token verification"
    assert "JWKSNoMatchingKey" in portal.log.read_text()
    assert "does not have a JWKS endpoint" in said("unheard-of")


def test_a_portal_that_starts_anew_signs_with_new_keys_and_the_old_tokens_stand(portal, gate, sam):
    portal.stop()
    # Who is known stays known.
    assert ask(gate, sam).status_code == 200
    portal.start()
    again = portal.sign_in("sam")
    assert decoded(again, 0)["kid"] != decoded(sam, 0)["kid"]
    # An unknown key is asked for at most every ten seconds.
    wait_for("the new key", lambda: portal.ask(f"proxy/amlgate{JOBS}", again).status_code == 200)
    assert portal.ask(f"proxy/amlgate{JOBS}", sam).status_code == 200
    wait_for(
        "the plugin's new key",
        lambda: portal.through_a_plugin("azureml", "for-the-user", again, JOBS)["status"] == 200,
    )


def test_the_record_has_each_refusals_reason_and_nobodys_token(portal, gate, sam, rita):
    """Refusals are counted from one signed head to the next, which may be ten seconds later."""
    wanted = {"issuer", "audience", "limited_user", "no_credentials", "malformed"}

    def reasons():
        return {entry.own.get("reason") for entry in gate.record.query()}

    wait_for(f"records of {sorted(wanted)}", lambda: wanted <= reasons(), seconds=30)
    service = portal.through_a_plugin("azureml", "for-the-user", sam, JOBS)["token"]
    for token in (sam, rita, service, decoded(service, 1)["obo"], portal.static_token):
        last = token.rsplit(".", 1)[-1].encode()
        assert last not in gate.record.text() and last not in gate.log.read_bytes()

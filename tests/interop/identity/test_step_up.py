"""`require: step_up` against MSAL, azure-identity and an OpenID client, each as its vendor ships it."""

import base64
import json
import re
import secrets
import urllib.parse

import msal
import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.identity import InteractiveBrowserCredential
from azure.mgmt.authorization import AuthorizationManagementClient
from between import Between, Fault
from oauthlib.oauth2 import WebApplicationClient
from pages import Form
from running import Gate
from simulated import SUBSCRIPTION, TENANT, WORKSPACE_ID

SCOPE = "api://amlgate/.default"
AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"
JOBS = f"{WORKSPACE_ID}/jobs?api-version=2025-12-01"


@pytest.fixture(scope="module", autouse=True)
def policies(sandbox):
    """People of Entra read, and delete or read roles after a sign-in under the context `c1` only."""
    sandbox.policies("allow", "people of Entra read", "\n    who: [entra-people]\n    kinds: [read]\n"
        "subjects:\n  entra-people: [{issuer: entra, claims: {tid: " + TENANT + "}}]\n")
    sandbox.policies("require", "roles are read after a better sign-in",
        "\n    actions: [Microsoft.Authorization/roleDefinitions/read]\n    step_up: {acrs: c1}\n")


def claims_of(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def claims_challenge(answer):
    """The claims of a challenge, as Microsoft documents it for any web API."""
    header = answer.headers["WWW-Authenticate"]
    assert header.startswith("Bearer ") and 'error="insufficient_claims"' in header, header
    return base64.b64decode(re.search(r'claims="([^"]+)"', header).group(1)).decode()


def roles(credential, base):
    client = AuthorizationManagementClient(
        credential, SUBSCRIPTION, base_url=base, credential_scopes=[SCOPE], retry_total=0
    )
    return [role.role_name for role in client.role_definitions.list(WORKSPACE_ID)]


def test_an_azure_sdk_client_steps_up_by_itself(sandbox, browser):
    """One call; the SDK meets the challenge, the person signs in again, the call goes through."""
    credential = InteractiveBrowserCredential(tenant_id=TENANT, login_hint="rita@sandbox.example", timeout=30)
    before = claims_of(credential.get_token(SCOPE).token)
    assert "acrs" not in before and len(browser.pages) == 1
    assert "AzureML Data Scientist" in roles(credential, sandbox.gate)
    assert len(browser.pages) == 2
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.pages[1]).query)
    wanted = json.loads(asked["claims"][0])["access_token"]["acrs"]
    assert wanted == {"essential": True, "value": "c1"}
    refused = sandbox.record.expect("--phase", "denial", fits=lambda e: e.code == "StepUpRequired")
    assert refused.caller.endswith("5a000000-0000-4000-8000-000000000002")


def test_msal_passes_the_claims_on_and_comes_back_with_the_context(sandbox, browser):
    app = msal.PublicClientApplication(AZURE_CLI, authority=f"https://login.microsoftonline.com/{TENANT}")
    first = app.acquire_token_interactive([SCOPE], login_hint="sam@sandbox.example", timeout=30)
    url = f"{sandbox.gate}{WORKSPACE_ID}/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01"

    def ask(token):
        return requests.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=30)

    refused = ask(first["access_token"])
    assert refused.status_code == 401, refused.text
    claims = claims_challenge(refused)
    account = app.get_accounts()[0]
    # What it has does not help, and Entra says so: there is no way round the person.
    silent = app.acquire_token_silent_with_error([SCOPE], account, claims_challenge=claims)
    assert silent["error"] == "interaction_required" and "AADSTS50076" in silent["error_description"]
    second = app.acquire_token_interactive(
        [SCOPE], login_hint="sam@sandbox.example", claims_challenge=claims, timeout=30
    )
    assert claims_of(second["access_token"])["acrs"] == ["c1"]
    assert ask(second["access_token"]).status_code == 200
    # The context lasts with the sign-in: its refresh token brings it again.
    third = app.acquire_token_silent([SCOPE], account, force_refresh=True)
    assert ask(third["access_token"]).status_code == 200


@pytest.fixture(scope="module")
def acting(sandbox):
    """A gate that acts for the person, and something between it and Entra."""
    between = Between(sandbox, ["login.microsoftonline.com"])

    def change(settings):
        [own] = settings["credentials"]
        person = {**own, "name": "person", "address": between.address}
        person["on_behalf_of"] = {"client_secret": person.pop("client_secret")}
        settings["credentials"].append(person)
        [arm] = [route for route in settings["routes"] if route["protocol"] == "arm"]
        arm["credential"] = "person"

    gate = Gate(sandbox, "acting", change)
    yield gate, between
    gate.stop()
    between.stop()
    gate.record.verify()


def test_conditional_access_behind_an_exchange_reaches_the_person(sandbox, browser, acting):
    """Entra refuses the exchange with claims; the SDK takes them to the person, not to its caller."""
    gate, between = acting
    credential = InteractiveBrowserCredential(tenant_id=TENANT, login_hint="rita@sandbox.example", timeout=30)
    client = AuthorizationManagementClient(
        credential, SUBSCRIPTION, base_url=gate.url, credential_scopes=[SCOPE], retry_total=0
    )
    wanted = {"access_token": {"acrs": {"essential": True, "value": "c2"}}}
    refusal = {
        "error": "interaction_required",
        "error_description": "AADSTS50076: you must use multi-factor authentication to access the resource.",
        "error_codes": [50076],
        "claims": json.dumps(wanted),
        "suberror": "basic_action",
    }
    between.faults = [
        Fault("POST", "/oauth2/", 400, {"content-type": "application/json"}, body=json.dumps(refusal).encode())
    ]
    scopes = [a.scope for a in client.role_assignments.list_for_scope(WORKSPACE_ID)]
    assert scopes and not between.faults
    # Signed in, sent back by Entra, signed in with what it wanted; and that token was exchanged.
    assert len(browser.pages) == 2
    asked = urllib.parse.parse_qs(urllib.parse.urlsplit(browser.pages[1]).query)
    assert json.loads(asked["claims"][0])["access_token"]["acrs"] == wanted["access_token"]["acrs"]
    assert len(between.at("/oauth2/")) == 2


def test_who_cannot_be_asked_is_told_in_words(sandbox):
    """A credential without a browser gets the 401 itself, and its message says what is missing."""

    class Fixed:
        def __init__(self, token):
            self.token = token

        def get_token(self, *_, **options):
            from azure.core.credentials import AccessToken

            return AccessToken(self.token, 9_999_999_999)

    token = sandbox.token("pat")
    with pytest.raises(HttpResponseError) as refused:
        roles(Fixed(token), sandbox.gate)
    assert refused.value.status_code == 401 and refused.value.error.code == "StepUpRequired"


def test_an_openid_client_steps_up_as_rfc_9470_says(sandbox):
    """An OAuth library that knows nothing but the standards, at an issuer that is not Entra."""
    session = requests.Session()
    session.verify = sandbox.ca
    issuer = session.get(f"{sandbox.layout['issuer']}/.well-known/openid-configuration").json()
    client = WebApplicationClient("any-openid-client")
    redirect = "http://127.0.0.1:1/back"

    def sign_in(person, **more):
        verifier = secrets.token_urlsafe(48)
        challenge = client.create_code_challenge(verifier, "S256")
        page = client.prepare_request_uri(
            issuer["authorization_endpoint"],
            redirect,
            scope=["openid"],
            state="s",
            code_challenge=challenge,
            code_challenge_method="S256",
            **more,
        )
        form = Form(session.get(page).text)
        chosen = session.post(
            urllib.parse.urljoin(page, form.action),
            data={**form.fields, "person": person},
            allow_redirects=False,
        )
        back = client.parse_request_uri_response(chosen.headers["Location"].replace("http:", "https:", 1), "s")
        body = client.prepare_request_body(
            code=back["code"], redirect_uri=redirect, code_verifier=verifier, include_client_id=True
        )
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = session.post(issuer["token_endpoint"], data=body, headers=headers)
        return client.parse_request_body_response(answer.text)["access_token"]

    url = f"{sandbox.gate}{WORKSPACE_ID}/providers/Microsoft.Authorization/roleDefinitions?api-version=2022-04-01"

    def ask(token):
        return session.get(url, headers={"Authorization": f"Bearer {token}"})

    refused = ask(sign_in("rita"))
    assert refused.status_code == 401, refused.text
    header = refused.headers["WWW-Authenticate"]
    assert 'error="insufficient_user_authentication"' in header, header
    wanted = dict(re.findall(r'(acr_values|max_age)="([^"]*)"', header))
    assert wanted == {"acr_values": "c1"}
    accepted = ask(sign_in("rita", **wanted))
    assert accepted.status_code == 200, accepted.text

"""Clients of a deployment that streams: OpenAI's, a WebSocket's; and callers who hang up."""

import ssl

import openai
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ML = "Microsoft.MachineLearningServices/workspaces"


def chat(sandbox, key, **options):
    client = openai.OpenAI(base_url=f"{sandbox.gate}/endpoints/churn/v1", api_key=key, max_retries=0)
    return client.chat.completions.create(
        model="churn-chat", stream=True, messages=[{"role": "user", "content": "hello there"}], **options
    )


def test_openai_streams_with_the_callers_own_token(sandbox):
    text = "".join(event.choices[0].delta.content or "" for event in chat(sandbox, sandbox.token("sam")))
    assert text.strip() == "You said: hello there"
    entry = sandbox.record.expect(
        "--caller", "user-sam", "--phase", "outcome", fits=lambda e: "chat/completions" in (e.path or "")
    )
    assert (entry.action, entry.decision, entry.status) == (f"{ML}/onlineEndpoints/score/action", "allow", 200)
    assert entry.ending == "completed" and entry.agent.startswith("OpenAI/Python")


def test_openai_streams_with_a_handle_where_the_key_would_stand(sandbox, client):
    handle = client("sam").online_endpoints.get_keys("churn").primary_key
    text = "".join(event.choices[0].delta.content or "" for event in chat(sandbox, handle))
    assert text.strip() == "You said: hello there"


def test_openai_is_told_why_it_is_refused(sandbox):
    with pytest.raises(openai.PermissionDeniedError, match="amlgate: no entry allows you"):
        chat(sandbox, sandbox.token("rita"))
    with pytest.raises(openai.AuthenticationError, match="the token is not accepted"):
        chat(sandbox, sandbox.token("sam", "--forged"))


def test_a_caller_who_hangs_up_is_recorded_as_such(sandbox):
    stream = chat(sandbox, sandbox.token("ci"), max_tokens=10_000_000)
    assert next(iter(stream)).choices[0].delta.content
    stream.close()
    entry = sandbox.record.expect(
        "--caller", "repo:contoso/vision", fits=lambda e: e.ending not in (None, "completed")
    )
    assert (entry.status, entry.ending) == (200, "client_gone")


def websocket(sandbox, token):
    return connect(
        f"{sandbox.gate.replace('https', 'wss')}/endpoints/churn/ws",
        additional_headers={"Authorization": f"Bearer {token}"},
        ssl=ssl.create_default_context(),
    )


def test_a_websocket_flows_both_ways_and_its_end_is_recorded(sandbox):
    with websocket(sandbox, sandbox.token("sam")) as socket:
        socket.send("hello")
        assert socket.recv() == "hello"
        socket.send(b"x" * 500_000)
        assert socket.recv() == b"x" * 500_000
        sandbox.record.expect("--caller", "user-sam", fits=lambda e: (e.path or "").endswith("/ws"))
    ended = sandbox.record.expect(
        "--caller", "user-sam", fits=lambda e: (e.path or "").endswith("/ws") and e.ending == "ended"
    )
    assert ended.status == 101


def test_a_websocket_without_a_right_is_refused_at_its_handshake(sandbox):
    for token, status in ((sandbox.token("rita"), 403), (sandbox.token("sam", "--forged"), 401)):
        with pytest.raises(InvalidStatus) as refused:
            websocket(sandbox, token)
        assert refused.value.response.status_code == status
        assert b"amlgate" in refused.value.response.body

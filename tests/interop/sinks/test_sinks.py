"""What receivers understand of a gate's record: all of it, in order, at least once."""

import json

from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from running import wait_for
from standardwebhooks import Webhook

from conftest import WEBHOOK_SECRET


def recorded(gate):
    """The records so far: what is exported is compared with them."""
    return [entry.record for entry in gate.record.query()]


def in_order(positions):
    """Without what was sent twice."""
    kept = []
    for position in positions:
        if not kept or position > kept[-1]:
            kept.append(position)
    return kept


def test_rsyslog_understands_every_message_and_misses_none_over_its_own_restart(gate, rsyslog):
    assert gate.list().status_code == 200 and gate.delete().status_code == 403
    # The record of a plain read, or of a denial, is written a little after the answer.
    wait_for("records", lambda: len(recorded(gate)) >= 3)
    records = recorded(gate)
    wait_for("messages", lambda: len(rsyslog.messages()) >= len(records))
    first = rsyslog.messages()[0]
    assert (first["hostname"], first["programname"], first["msgid"]) == ("amlgate-sinks", "amlgate", "started")
    assert (first["syslogfacility"], first["syslogseverity"]) == ("13", "6")
    rsyslog.stop()
    for _ in range(5):
        assert gate.list().status_code == 200
    rsyslog.start()
    records = recorded(gate)

    def data():
        return [json.loads(m["msg"].lstrip("\ufeff \xef\xbb\xbf")) for m in rsyslog.messages()]

    # The pauses grow to some seconds meanwhile.
    wait_for("the rest", lambda: data()[-1] == recorded(gate)[-1], seconds=60)
    positions = []
    for message in rsyslog.messages():
        data = message["structured-data"]
        positions.append(int(data.split('position="')[1].split('"')[0]))
    assert in_order(positions) == list(range(len(recorded(gate))))
    denial = next(m for m in rsyslog.messages() if m["msgid"] == "denial")
    assert 'reason="AuthorizationFailed"' in denial["structured-data"] and denial["syslogseverity"] == "4"


def test_a_webhook_is_verified_by_the_standards_own_library_and_its_events_are_read(gate, hook):
    hook.answers += [503, 429]
    assert gate.list().status_code == 200

    def ids(of=(200, 429, 503)):
        return [{n.lower(): v for n, v in h.items()}["webhook-id"] for _, h, _, status in hook.got if status in of]

    # What was refused is sent again, under the same id.
    wait_for("the events again", lambda: ids((503,)) and ids((503,))[0] in ids((200,)), seconds=60)
    wait_for("events", lambda: len(hook.taken()) >= len(recorded(gate)), seconds=60)
    assert ids().count(ids((503,))[0]) == 3
    verifier = Webhook(WEBHOOK_SECRET)
    events = []
    for path, headers, body in hook.taken():
        lower = {name.lower(): value for name, value in headers.items()}
        verifier.verify(body, lower)
        assert path == "/in"
        events.append(from_structured_event(HTTPMessage(headers=lower, body=body)))
    assert [event.get_data() for event in events] == recorded(gate)[: len(events)]
    assert {event.get_type() for event in events} == {"dev.amlgate.record.v1"}
    assert {event.get_source() for event in events} == {"//amlgate/amlgate-sinks"}
    assert in_order(int(event.get_id()) for event in events) == list(range(len(events)))


def test_opentelemetry_s_own_messages_hold_what_is_sent(gate, collector):
    assert gate.list().status_code == 200 and gate.delete().status_code == 403
    wait_for("a denial", lambda: any(record.get("action_id") == 2 for record in recorded(gate)))
    records = recorded(gate)

    def logs():
        found = []
        for _, _, body in collector.taken():
            # Unknown fields and wrong types are errors here.
            request = json_format.Parse(body, ExportLogsServiceRequest())
            for resource in request.resource_logs:
                named = {a.key: a.value.string_value for a in resource.resource.attributes}
                assert named["service.name"] == "amlgate" and named["service.instance.id"] == "amlgate-sinks"
                found += [record for scope in resource.scope_logs for record in scope.log_records]
        return found

    wait_for("log records", lambda: len(logs()) >= len(records))
    assert [json.loads(record.body.string_value) for record in logs()][: len(records)] == records
    denials = [record for record in logs() if record.severity_text == "WARN"]
    attributes = {a.key: a.value.string_value for a in denials[0].attributes}
    assert attributes["error.type"] == "AuthorizationFailed" and attributes["user.id"] == "sandbox:user-sam"
    assert denials[0].time_unix_nano == next(r for r in records if r.get("action_id") == 2)["time"] * 1_000_000
    assert {path for path, _, _ in collector.taken()} == {"/v1/logs"}


def test_an_opentelemetry_collector_hands_on_every_record_over_its_own_restart(gate, opentelemetry, behind):
    def handed_on():
        found = []
        for path, headers, body in behind.taken():
            assert path == "/v1/logs" and headers["Content-Type"] == "application/x-protobuf"
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs:
                found += [record for scope in resource.scope_logs for record in scope.log_records]
        return found

    def positions():
        attributes = ({a.key: a.value for a in record.attributes} for record in handed_on())
        return [named["amlgate.position"].int_value for named in attributes]

    assert gate.list().status_code == 200 and gate.delete().status_code == 403
    wait_for("records", lambda: len(handed_on()) >= len(recorded(gate)), seconds=60)
    # What the next one does not take, the collector has not taken, and is sent again.
    behind.answers += [503]
    assert gate.list().status_code == 200
    wait_for("the refusal", lambda: not behind.answers, seconds=60)
    opentelemetry.stop()
    for _ in range(5):
        assert gate.list().status_code == 200
    opentelemetry.start()
    # The pauses grow to some seconds meanwhile.
    wait_for("the rest", lambda: len(set(positions())) >= len(recorded(gate)), seconds=90)
    records = recorded(gate)
    found = positions()
    assert in_order(found) == list(range(len(in_order(found)))) and len(in_order(found)) >= len(records)
    bodies = {position: json.loads(record.body.string_value) for position, record in zip(found, handed_on())}
    assert [bodies[position] for position in range(len(records))] == records


def test_a_file_of_cloudevents_is_read_line_by_line(gate, sandbox):
    assert gate.list().status_code == 200
    file = sandbox.home / "var/export.ndjson"
    records = recorded(gate)
    wait_for("lines", lambda: file.exists() and len(file.read_text().splitlines()) >= len(records))
    headers = {"content-type": "application/cloudevents+json"}
    lines = file.read_text().splitlines()
    events = [from_structured_event(HTTPMessage(headers=headers, body=line.encode())) for line in lines]
    assert [event.get_data() for event in events][: len(records)] == records

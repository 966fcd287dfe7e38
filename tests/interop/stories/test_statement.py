"""What a model comes with: a statement of where it came from, which others can check and nobody can change."""

import base64
import copy
import hashlib
import json
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from google.protobuf import json_format
from history import OBJECT_IDS
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from running import AMLGATE
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from story import PROJECT


def key_of(story):
    """The public key, under the id that amlgate says it has: the SHA-256 of its DER."""
    public = serialization.load_pem_public_key((story.sandbox.home / "certs/evidence.pub").read_bytes())
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(public, keyid=hashlib.sha256(der).hexdigest())


@pytest.fixture(scope="module")
def bundle(run, story):
    """The envelopes of the model's statement, as the gate hands them out."""
    statement = run.stated()["properties"]["tags"]["amlgate.statement"]
    answer = story.api(f"/lineage/statements/{statement}")
    assert (answer.status_code, answer.headers["x-amlgate-verified"]) == (200, "true"), answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_the_statement_is_accepted_by_a_stock_verifier_and_says_what_happened(run, story, bundle):
    for one in bundle:
        assert list(Envelope.from_dict(copy.deepcopy(one)).verify([key_of(story)], 1)) == [key_of(story).keyid]
    stated = json.loads(base64.b64decode(bundle[0]["payload"]))
    assert stated["predicateType"] == "https://slsa.dev/provenance/v1"
    json_format.ParseDict(stated["predicate"], provenance_pb2.Provenance())
    whole = json.dumps(stated)
    assert stated["subject"][0]["name"].lower().endswith("/models/vision-ci/versions/" + run.model()["name"]), stated["subject"]
    for part in (run.commit, run.name, f"/c/{PROJECT}/+/{run.change.number}", OBJECT_IDS["bo"]):
        assert part in whole, (part, whole)


def test_a_changed_statement_is_refused_by_both(story, bundle, tmp_path):
    payload = bytearray(base64.b64decode(bundle[0]["payload"]))
    payload[len(payload) // 2] ^= 1
    changed = bundle[0] | {"payload": base64.b64encode(payload).decode()}
    with pytest.raises(VerificationError):
        Envelope.from_dict(copy.deepcopy(changed)).verify([key_of(story)], 1)
    key = str(story.sandbox.home / "certs/evidence.pub")
    for name, one, code in (("good", bundle[0], 0), ("changed", changed, 1)):
        file = tmp_path / f"{name}.intoto.jsonl"
        file.write_text(json.dumps(one) + "\n")
        done = subprocess.run([AMLGATE, "lineage", "verify", str(file), "--key", key], capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr


def test_the_chain_is_drawn_in_the_terminal(run, story):
    done = story.amlgate("lineage", f"vision-ci:{run.stated()['name']}", "--workspace", "vision")
    assert done.returncode == 0, done.stderr
    for part in (run.name, run.commit[:12], str(run.change.number)):
        assert part in done.stdout, done.stdout
    listed = story.amlgate("lineage", "list", "--verified")
    assert listed.returncode == 0 and "vision-ci" in listed.stdout, listed.stderr

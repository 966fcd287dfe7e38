"""Statements of where models came from, before in-toto's own readers, and theirs before amlgate."""

import base64
import copy
import hashlib
import json
import pathlib
import subprocess

import pytest
import rfc8785
from cryptography.hazmat.primitives import serialization
from google.protobuf import json_format
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.predicates.vsa.v1 import vsa_pb2
from in_toto_attestation.v1 import resource_descriptor_pb2, statement_pb2
from in_toto_attestation.v1.statement import Statement
from running import AMLGATE
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

GOLDEN = pathlib.Path(__file__).resolve().parents[3] / "src/lineage/tests/golden"
SIGNED = ["ed25519", "p256"]
TYPE = "application/vnd.in-toto+json"


def key_of(name):
    """The public key, under the id that amlgate says it has: the SHA-256 of its DER."""
    public = serialization.load_pem_public_key((GOLDEN / f"{name}.pem").read_bytes())
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return SSlibKey.from_crypto(public, keyid=hashlib.sha256(der).hexdigest())


def envelope_of(name):
    return json.loads((GOLDEN / f"provenance.{name}.dsse.json").read_bytes())


def read(envelope):
    # What it is given is changed by it.
    return Envelope.from_dict(copy.deepcopy(envelope))


def amlgate(*arguments):
    done = subprocess.run([AMLGATE, "lineage", "verify", "-o", "json", *map(str, arguments)], capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


@pytest.mark.parametrize("name", SIGNED)
def test_a_stock_verifier_accepts_what_the_gate_signed(name):
    envelope = read(envelope_of(name))
    assert list(envelope.verify([key_of(name)], 1)) == [key_of(name).keyid]
    assert envelope.payload_type == TYPE
    code, verdicts, said = amlgate(GOLDEN / f"provenance.{name}.dsse.json", "--key", GOLDEN / f"{name}.pem")
    assert code == 0 and verdicts[0]["verified"], said


@pytest.mark.parametrize("name", SIGNED)
def test_both_refuse_every_byte_that_was_changed(name, tmp_path):
    good = envelope_of(name)
    payload = base64.b64decode(good["payload"])
    lines = []
    for at in range(0, len(payload), 7):
        changed = bytearray(payload)
        changed[at] ^= 1
        tampered = {**good, "payload": base64.b64encode(changed).decode()}
        with pytest.raises(VerificationError):
            read(tampered).verify([key_of(name)], 1)
        lines.append(json.dumps(tampered))
    with pytest.raises(VerificationError):
        read({**good, "payloadType": "application/json"}).verify([key_of(name)], 1)
    for number in range(0, len(lines), 60):
        file = tmp_path / "tampered.jsonl"
        file.write_text("\n".join(lines[number : number + 60]) + "\n")
        code, verdicts, _ = amlgate(file, "--key", GOLDEN / f"{name}.pem")
        assert code == 1 and not any(one["verified"] for one in verdicts), verdicts


@pytest.mark.parametrize(
    ("file", "predicate", "kind"),
    [
        ("provenance.json", provenance_pb2.Provenance, "https://slsa.dev/provenance/v1"),
        ("summary.json", vsa_pb2.VerificationSummary, "https://slsa.dev/verification_summary/v1"),
    ],
)
def test_statements_are_of_the_published_form_and_canonical(file, predicate, kind):
    text = (GOLDEN / file).read_bytes()
    stated = json.loads(text)
    assert rfc8785.dumps(stated) == text
    assert stated["_type"] == "https://in-toto.io/Statement/v1" and stated["predicateType"] == kind
    # The members that these know, and no others.
    message = json_format.ParseDict(stated, statement_pb2.Statement())
    Statement.copy_from_pb(message).validate()
    # SLSA has a list of levels; the message of this version of the package has one string.
    levels = stated["predicate"].pop("verifiedLevels", None)
    assert levels is None or levels == ["AMLGATE_REVIEWED_SOURCE"]
    json_format.ParseDict(stated["predicate"], predicate())
    [subject] = stated["subject"]
    json_format.ParseDict(subject, resource_descriptor_pb2.ResourceDescriptor())
    # Azure gave no digest of the content, and none is made up.
    folded = hashlib.sha256(subject["name"].lower().encode()).hexdigest()
    assert subject["digest"] == {"azuremlAssetId": folded} and subject["annotations"] == {"digestOf": "id"}


def test_the_summary_names_the_provenance_that_it_rests_on():
    summary = json.loads((GOLDEN / "summary.json").read_bytes())
    [evidence] = summary["predicate"]["inputAttestations"]
    envelope = (GOLDEN / "provenance.ed25519.dsse.json").read_bytes()
    assert evidence["digest"] == {"sha256": hashlib.sha256(envelope).hexdigest()}
    assert not any(level.startswith("SLSA_") for level in summary["predicate"]["verifiedLevels"])


@pytest.mark.parametrize("make", [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa])
def test_the_gate_accepts_what_a_stock_signer_signed_and_no_stranger(make, tmp_path):
    signer, stranger = make(), make()
    envelope = Envelope((GOLDEN / "summary.json").read_bytes(), TYPE, {})
    envelope.sign(signer)
    file, keys = tmp_path / "summary.json", {}
    file.write_text(json.dumps(envelope.to_dict(), indent=2))
    for name, one in (("signer", signer), ("stranger", stranger)):
        public = one.public_key._crypto_key()
        keys[name] = tmp_path / f"{name}.pem"
        keys[name].write_bytes(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    code, verdicts, said = amlgate(file, "--key", keys["signer"])
    assert code == 0 and verdicts[0]["predicate_type"].endswith("/verification_summary/v1"), said
    code, verdicts, _ = amlgate(file, "--key", keys["stranger"])
    assert code == 1 and "no signature is of a key that is trusted here" in verdicts[0]["problem"]

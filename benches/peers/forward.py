"""The forward proxy beside squid with ssl-bump and a bare hyper interceptor: same machine, interleaved rounds.

    python3 benches/peers/forward.py [--rounds 5] [--seconds 3] [--connections 4] [--tunnels 1000]

Needs Debian's `haproxy` and `squid-openssl`, PyPI's `cryptography`, and `dist` builds of the gate and
of the bench that holds the bare interceptor and the load maker:

    cargo build --profile dist && cargo bench --bench end_to_end --profile dist --no-run

Every proxy runs on core 0, alone; load and upstream on core 1. Each ends TLS for the same host with
the same interception authority, asks the same upstream over TLS and keeps connections to it. The gate
also verifies the caller's token, names the operation, decides by 100 entries, swaps the token and
records. `new` is a TCP connection, a CONNECT, a whole TLS handshake and one request; `kept` one more
request in an open tunnel. CPU ratios of a round are the result, rates are company.
"""

import argparse
import base64
import getpass
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from run import PATH, WORKSPACE, Certificates, Keys, Peer, free_port, serve_documents

HOST = "management.azure.com"
CERTGEN = "/usr/lib/squid/security_file_certgen"
PROXY_CORE, LOAD_CORE = "0", "1"


class Proxy(Peer):
    """A proxy on its core, whose port is open once it is ready."""

    def __init__(self, name, command, port, **more):
        super().__init__(name, ["taskset", "-c", PROXY_CORE, *map(str, command)], port, None, **more)
        self.address = f"127.0.0.1:{port}"


def upstream(folder, tls):
    port = free_port()
    (folder / "upstream.cfg").write_text(f"""
global
  nbthread 1
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend up
  bind 127.0.0.1:{port} ssl crt {tls.both}
  http-request return status 200 content-type application/json string '{{"value":[]}}'
""")
    return Peer("upstream", ["taskset", "-c", LOAD_CORE, "haproxy", "-db", "-f", folder / "upstream.cfg"], port, None), port


def squid(folder, tls, authority, key):
    home = folder / "squid"
    home.mkdir()
    port = free_port()
    subprocess.run([CERTGEN, "-c", "-s", home / "ssl_db", "-M", "4MB"], check=True, capture_output=True)
    (home / "hosts").write_text(f"127.0.0.1 {HOST}\n")
    user = getpass.getuser()
    if os.getuid() == 0:
        # It refuses to be root: Debian's package has a user for it.
        user = "proxy"
        key = shutil.copy(key, home / "authority.key")
    (home / "squid.conf").write_text(f"""
http_port 127.0.0.1:{port} ssl-bump cert={authority} key={key} generate-host-certificates=on dynamic_cert_mem_cache_size=4MB
sslcrtd_program {CERTGEN} -s {home}/ssl_db -M 4MB
sslcrtd_children 2 startup=2
ssl_bump bump all
tls_outgoing_options cafile={tls.ca}
http_access allow all
cache deny all
access_log none
cache_log {home}/cache.log
cache_store_log none
pid_filename {home}/squid.pid
coredump_dir {home}
hosts_file {home}/hosts
pinger_enable off
cache_effective_user {user}
shutdown_lifetime 1 seconds
max_filedescriptors 16384
""")
    if user == "proxy":
        for path in [home, *home.rglob("*")]:
            shutil.chown(path, user, user)
    return Proxy("squid ssl-bump", ["squid", "-N", "-f", home / "squid.conf"], port)


def bare(bench, up, tls, authority, key):
    port = free_port()
    command = [bench, "--interceptor", f"127.0.0.1:{port}", f"127.0.0.1:{up}", authority, key, tls.ca]
    return Proxy("bare interceptor", command, port)


def amlgate(folder, up, documents, binary, tls):
    home = folder / "amlgate"
    home.mkdir()
    port, health = free_port(), free_port()
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
    (home / "amlgate.yaml").write_text(f"""
version: 1
listen:
  forward: {{address: "127.0.0.1:{port}", insecure_plaintext: true, interception_ca: {{certificate: certs/interception-ca.pem, private_key: {{file: certs/interception-ca.key}}}}}}
  health: {{address: "127.0.0.1:{health}"}}
issuers: [{{name: corp, oidc: {{issuer: "https://issuer.example", jwks_uri: "http://127.0.0.1:{documents}/keys", audiences: [amlgate]}}, address: "127.0.0.1:{documents}"}}]
credentials: [{{name: gate, tenant: 72f988bf-86f1-41af-91ab-2d7cd011db47, client_id: 22222222-2222-2222-2222-222222222222, client_secret: {{env: GATE_SECRET}}, authority: "http://127.0.0.1:{documents}", address: "127.0.0.1:{documents}"}}]
routes: [{{name: arm, upstream: "https://{HOST}:{up}", address: "127.0.0.1:{up}", protocol: arm, credential: gate, trust: {{ca: {tls.ca}}}}}]
policies: policies/
audit: {{name: bench, directory: audit, signing_key: {{file: certs/audit.key}}}}
keys: {{seal: [{{file: certs/seal.key}}]}}
limits: {{connections: 20000, connections_per_peer: 20000}}
""")
    made = [binary, "certs", "init", "--dir", home / "certs", "--config", home / "amlgate.yaml"]
    subprocess.run(made, check=True, capture_output=True)
    peer = Proxy("amlgate, everything on", [binary, "serve", "--config", home / "amlgate.yaml"], port,
                 cwd=home, env=os.environ | {"GATE_SECRET": "secret", "RUST_LOG": "error"})
    peer.health = f"http://127.0.0.1:{health}/metrics"
    return peer, home / "certs"


class Load:
    def __init__(self, bench, up, trust, token):
        self.bench, self.target, self.trust = bench, f"{HOST}:{up}", trust
        self.authorization = "Basic " + base64.b64encode(f"token:{token}".encode()).decode()

    def command(self, mode, proxy, amount, connections):
        return ["taskset", "-c", LOAD_CORE, self.bench, "--tunnels", mode, proxy.address, self.target, PATH,
                self.trust, self.authorization, str(amount), str(connections)]

    def round(self, mode, proxy, seconds, connections):
        before = proxy.cpu()
        done = subprocess.run(self.command(mode, proxy, seconds, connections), capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"a round of {proxy.name} failed:\n{done.stderr[-2000:]}")
        count, took = done.stdout.split()
        return (proxy.cpu() - before) * 1e6 / int(count), int(count) / float(took)

    def ready(self, proxy):
        for _ in range(200):
            if proxy.process.poll() is not None:
                break
            done = subprocess.run(self.command("kept", proxy, 0, 1), capture_output=True, text=True)
            if not done.returncode:
                return
            time.sleep(0.1)
        proxy.log.seek(0)
        sys.exit(f"{proxy.name} does not answer 200:\n{done.stderr[-1500:]}\n{proxy.log.read().decode()[-3000:]}")

    def held_kib(self, proxy, tunnels):
        """What each of so many open tunnels holds, once those that can be parked are."""
        before = proxy.pss_mib()
        command = self.command("hold", proxy, tunnels, 1)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            count = int((holder.stdout.readline() or sys.exit(f"{proxy.name} holds no {tunnels} tunnels")).split()[0])
            time.sleep(4)
            held = (proxy.pss_mib() - before) * 1024 / count
            holder.stdin.close()
        return held


def leaves_minted(proxy):
    text = urllib.request.urlopen(proxy.health, timeout=5).read().decode()
    return sum(float(n) for n in re.findall(r"^amlgate_leaves_minted_total(?:{[^}]*})? (\S+)", text, re.M))


def report(mode, peers, rounds):
    print(f"\n{mode:<24} {'CPU us':>9} {'to squid':>9} {'worst':>7} {'to bare':>9} {'worst':>7} {'a second':>10} {'to squid':>9}")
    names = [peer.name for peer in peers]
    reference = {name: [r[name] for r in rounds] for name in names}
    squids, floor = reference["squid ssl-bump"], reference["bare interceptor"]
    for name in names:
        cpu = [c for c, _ in reference[name]]
        to_squid = [c / s for c, (s, _) in zip(cpu, squids)]
        to_floor = [c / f for c, (f, _) in zip(cpu, floor)]
        faster = [r / s for (_, r), (_, s) in zip(reference[name], squids)]
        print(f"{name:<24} {statistics.median(cpu):>9.1f} {statistics.median(to_squid):>9.2f} {max(to_squid):>7.2f} "
              f"{statistics.median(to_floor):>9.2f} {max(to_floor):>7.2f} "
              f"{statistics.median(r for _, r in reference[name]):>10.0f} {statistics.median(faster):>9.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--tunnels", type=int, default=1000, help="open tunnels; each takes a file of either side")
    parser.add_argument("--amlgate", default="target/dist/amlgate")
    parser.add_argument("--bench", help="the bench `end_to_end`; the newest of target/dist/deps, if it is not given")
    options = parser.parse_args()
    found = sorted(pathlib.Path("target/dist/deps").glob("end_to_end-*[!.d]"), key=lambda p: p.stat().st_mtime)
    bench = pathlib.Path(options.bench or found[-1]).resolve()
    if not shutil.which("squid") or not os.access(CERTGEN, os.X_OK):
        sys.exit("no squid with ssl-bump: apt-get install squid-openssl")
    keys = Keys()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        tls = Certificates(folder, HOST)
        up, port = upstream(folder, tls)
        gate, certs = amlgate(folder, port, serve_documents(keys), pathlib.Path(options.amlgate).resolve(), tls)
        authority, key = certs / "interception-ca.pem", certs / "interception-ca.key"
        peers = [squid(folder, tls, authority, key), bare(bench, port, tls, authority, key), gate]
        load = Load(bench, port, authority, keys.token())
        for peer in peers:
            load.ready(peer)
        for mode in ("new", "kept"):
            rounds = []
            for _ in range(options.rounds):
                rounds.append({p.name: load.round(mode, p, options.seconds, options.connections) for p in peers})
            report(mode, peers, rounds)
        print(f"\nleaves minted: {leaves_minted(gate):.0f}")
        for peer in peers:
            print(f"{peer.name}: {load.held_kib(peer, options.tunnels):.1f} KiB of PSS for each of {options.tunnels} open tunnels")
        for peer in [*peers, up]:
            peer.stop()


if __name__ == "__main__":
    main()

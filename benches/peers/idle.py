"""What an idle connection keeps of memory, and what a large body does.

    python3 benches/peers/idle.py [--amlgate target/dist/amlgate] [--connections 2000] [--pace 0] [--gib 2]

Starts `amlgate sandbox --without-gate` and `amlgate serve` on its configuration (TLS, and once more in
plaintext), sends one request with a token on each connection, waits until they are parked, and prints
the growth of the gate's PSS for each. Connections come as fast as they can, which is a burst whose peak
the allocator keeps, or `--pace` seconds apart. Then streams a body through the echo endpoint and prints by how
much the gate's peak of memory grew, and the rate.
"""

import argparse
import json
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request


def pss_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])


def peak_kib(pid):
    return int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def ready(address):
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://{address}/readyz", timeout=1) as answer:
                if answer.status == 200:
                    return
        except OSError:
            pass
        time.sleep(0.1)
    sys.exit("the gate does not get ready")


def idle(pid, address, context, head, count, pace):
    connections = []

    def connect():
        stream = socket.create_connection(address)
        if context:
            stream = context.wrap_socket(stream, server_hostname="localhost")
        stream.sendall(head)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += stream.recv(65536)
        status = answer[9:12]
        if status != b"200":
            sys.exit(answer.decode())
        length = int(re.search(rb"(?i)content-length: (\d+)", answer)[1])
        body = answer.split(b"\r\n\r\n", 1)[1]
        while len(body) < length:
            body += stream.recv(65536)
        connections.append(stream)

    for _ in range(50):
        connect()
    time.sleep(4)
    before = pss_kib(pid)
    for _ in range(count):
        connect()
        time.sleep(pace)
    time.sleep(4)
    after = pss_kib(pid)
    for stream in connections:
        stream.close()
    return (after - before) / count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--amlgate", default="target/dist/amlgate")
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--pace", type=float, default=0)
    parser.add_argument("--gib", type=int, default=2)
    options = parser.parse_args()
    binary = str(pathlib.Path(options.amlgate).resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        world = subprocess.Popen([binary, "sandbox", "--without-gate", "--dir", folder / "sandbox"],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        home = folder / "sandbox"
        for _ in range(100):
            if (home / "sandbox.json").exists():
                break
            time.sleep(0.1)
        layout = json.loads((home / "sandbox.json").read_text())
        token = subprocess.run([binary, "sandbox", "token", "sam", "--dir", home], check=True,
                               capture_output=True, text=True).stdout.strip()
        text = (home / "amlgate.yaml").read_text()
        text += "\nlimits: {connections_per_peer: 100000, connections: 100000}\n"
        plain = re.sub(r"(?m)^    tls: .*\n", "", text).replace(layout["gate"], layout["gate"].replace("https", "http"))
        port = int(layout["reverse_address"].rsplit(":", 1)[1])
        address = ("127.0.0.1", port)
        for name, configuration in [("plain HTTP/1.1", plain), ("TLS", text)]:
            file = home / f"{name.split()[0]}.yaml"
            file.write_text(configuration)
            gate = subprocess.Popen([binary, "serve", "--config", file], cwd=home, stderr=subprocess.DEVNULL)
            ready(layout["health_address"])
            head = (f"GET /endpoints/churn/ HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {token}\r\n\r\n").encode()
            context = ssl.create_default_context(cafile=home / "certs/ca.pem") if name == "TLS" else None
            each = idle(gate.pid, address, context, head, options.connections, options.pace)
            print(f"{name}: {each:.1f} KiB for each of {options.connections} idle connections; base {pss_kib(gate.pid) / 1024:.1f} MiB PSS after")
            if name == "TLS":
                before, start = peak_kib(gate.pid), time.monotonic()
                size = options.gib << 30
                sent = subprocess.run(
                    f"head -c {size} /dev/zero | curl -sS --http1.1 --cacert {home}/certs/ca.pem -o /dev/null -w '%{{size_download}}' "
                    f"-X POST -H 'Authorization: Bearer {token}' -H 'Content-Type: application/octet-stream' -H 'Expect:' "
                    f"-T - https://localhost:{port}/endpoints/churn/echo", shell=True, check=True, capture_output=True, text=True).stdout
                took = time.monotonic() - start
                if int(float(sent)) != size:
                    sys.exit(f"{sent} bytes came back of {size}")
                print(f"a body of {options.gib} GiB there and back: {(peak_kib(gate.pid) - before) / 1024:.1f} MiB more at the peak, "
                      f"{size / took / (1 << 20):.0f} MiB/s each way")
            gate.terminate()
            gate.wait(60)
        world.terminate()
        world.wait(60)


if __name__ == "__main__":
    main()

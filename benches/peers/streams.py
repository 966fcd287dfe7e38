"""Large bodies and slow readers: rate, CPU and memory, beside HAProxy.

    python3 benches/peers/streams.py [--gib 10] [--rounds 3] [--readers 300] [--amlgate target/dist/amlgate]

Needs Debian's `haproxy`, PyPI's `cryptography`, and a `dist` build of the gate. One body is streamed out through
each proxy in turn, round by round, over plain HTTP/1.1; what counts is the rate and the CPU beside HAProxy's in
the same round, and by how much the proxy's peak of memory grew. Then so many readers ask each for 100 MiB, take
their answer's head and 64 KiB, and stop: what counts is the memory that each of them holds, that it does not
grow while they read a little now and then, and how long others wait meanwhile.
"""

import argparse
import os
import pathlib
import re
import socket
import statistics
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import run

MIB = 1 << 20


class Upstream:
    """Answers each GET with as many zero bytes as its query's `length` says; 12 bytes of JSON without."""

    def __init__(self):
        self.zeros = os.memfd_create("zeros")
        os.ftruncate(self.zeros, 64 * MIB)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            stream, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def serve(self, stream):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        try:
            while True:
                while b"\r\n\r\n" not in head:
                    read = stream.recv(65536)
                    if not read:
                        return
                    head += read
                wanted = re.search(rb"[?&]length=(\d+)", head)
                head = b""
                if not wanted:
                    stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{\"value\":[]}")
                    continue
                left = int(wanted[1])
                if left < 1 << 30:
                    # Hundreds of them: the kernel's own buffers are not what is measured.
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10)
                stream.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % left)
                while left:
                    left -= os.sendfile(stream.fileno(), self.zeros, 0, min(left, 64 * MIB))
        except OSError:
            pass
        finally:
            stream.close()


def ask(port, token, length):
    """A connection whose answer's head has come, and what came with it of the body."""
    stream = socket.socket()
    if length:
        # What the kernel holds for a slow reader is not the proxy's.
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10 if length < 1 << 30 else 4 * MIB)
    stream.settimeout(60)
    stream.connect(("127.0.0.1", port))
    query = f"&length={length}" if length else ""
    stream.sendall(f"GET {run.PATH}{query} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += stream.recv(16 << 10) or sys.exit(f"closed after {answer!r}")
    head, body = answer.split(b"\r\n\r\n", 1)
    if not head.startswith(b"HTTP/1.1 200"):
        sys.exit(answer.decode())
    return stream, len(body)


def port_of(peer):
    return int(peer.base.rsplit(":", 1)[1])


def peak_mib(peer):
    text = pathlib.Path(f"/proc/{peer.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", text)[1]) / 1024


def stream(peer, token, length):
    """Seconds and CPU seconds of one body, none of which is kept or copied here."""
    cpu, start = peer.cpu(), time.monotonic()
    connection, got = ask(port_of(peer), token, length)
    place = bytearray(MIB)
    while got < length:
        # Thrown away by the kernel.
        read = connection.recv_into(place, MIB, socket.MSG_TRUNC)
        if not read:
            sys.exit(f"{peer.name} broke off after {got} of {length} bytes")
        got += read
    connection.close()
    if got != length:
        sys.exit(f"{peer.name} sent {got} bytes of {length}")
    return time.monotonic() - start, peer.cpu() - cpu


def waits_ms(peer, token, count=400):
    """How long small requests wait, sorted, in milliseconds."""
    waited = []
    for _ in range(count):
        start = time.monotonic()
        connection, _ = ask(port_of(peer), token, 0)
        waited.append((time.monotonic() - start) * 1e3)
        connection.close()
    return sorted(waited)


def settled_mib(peer):
    """PSS once it no longer moves."""
    last = peer.pss_mib()
    for _ in range(20):
        time.sleep(1)
        now = peer.pss_mib()
        if abs(now - last) < 1:
            return now
        last = now
    return last


def slow(peer, token, readers):
    quiet, before = waits_ms(peer, token), settled_mib(peer)
    connections = []

    def read(connection, length):
        while length > 0:
            try:
                got = connection.recv(min(length, 64 << 10))
            except TimeoutError:
                got = b""
            if not got:
                sys.exit(f"{peer.name} sent nothing more to {connection.getsockname()} for a minute, or closed")
            length -= len(got)

    for _ in range(readers):
        connection, got = ask(port_of(peer), token, 100 * MIB)
        read(connection, (64 << 10) - got)
        connections.append(connection)
    held = settled_mib(peer) - before
    meanwhile = waits_ms(peer, token)
    # They go on reading, a little now and then: each buffer has been full and emptied several times.
    for _ in range(8):
        for connection in connections:
            read(connection, 256 << 10)
    later = settled_mib(peer) - before
    for connection in connections:
        connection.close()
    after = settled_mib(peer) - before
    at = lambda sorted_, q: sorted_[int((len(sorted_) - 1) * q)]
    print(f"{peer.name}: {held * 1024 / readers:.0f} KiB for each of {readers} slow readers, {later * 1024 / readers:.0f} KiB after "
          f"2 MiB more of each were read; {after:.1f} MiB kept once they are gone; others wait {at(quiet, .5):.2f} ms (p99 {at(quiet, .99):.2f}) "
          f"before, {at(meanwhile, .5):.2f} ms (p99 {at(meanwhile, .99):.2f}) meanwhile")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--amlgate", default="target/dist/amlgate")
    parser.add_argument("--gib", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", type=int, default=300)
    options = parser.parse_args()
    keys, up = run.Keys(), Upstream()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        documents = run.serve_documents(keys)
        many = "limits: {connections_per_peer: 100000, connections: 100000}"
        peers = [run.haproxy(folder, keys, up.port, None),
                 run.amlgate(folder, keys, up.port, documents, pathlib.Path(options.amlgate).resolve(), None, many)]
        token, length = keys.token(), int(options.gib * (1 << 30))
        for peer in peers:
            peer.ready(token)
            stream(peer, token, 256 * MIB)
        results, grown = {peer.name: [] for peer in peers}, {}
        for _ in range(options.rounds):
            for peer in peers:
                before = peak_mib(peer)
                results[peer.name].append(stream(peer, token, length))
                grown[peer.name] = max(grown.get(peer.name, 0), peak_mib(peer) - before)
        first = results[peers[0].name]
        for peer in peers:
            mine = results[peer.name]
            rates = [base[0] / own[0] for own, base in zip(mine, first)]
            cpus = [own[1] / base[1] for own, base in zip(mine, first)]
            gib = statistics.median(cpu for _, cpu in mine) / options.gib
            print(f"{peer.name}: {length / statistics.median(took for took, _ in mine) / MIB:.0f} MiB/s, rate to the first "
                  f"{statistics.median(rates):.2f}, worst {min(rates):.2f}; {gib * 1e3:.0f} ms CPU a GiB, to the first "
                  f"{statistics.median(cpus):.2f}; {grown[peer.name]:.1f} MiB more at the peak")
        for peer in peers:
            if options.readers:
                slow(peer, token, options.readers)
        for peer in peers:
            peer.stop()


if __name__ == "__main__":
    main()

"""What one request costs, counted instead of timed: instructions, allocations, system calls.

    python3 benches/peers/meter.py [--amlgate target/dist/amlgate] [--floor PATH] [--requests 1000] [--top 40]

Needs Debian's `valgrind` and `strace`, and builds with symbols:

    export CARGO_PROFILE_DIST_STRIP=none CARGO_PROFILE_DIST_DEBUG=line-tables-only
    cargo bench --profile dist --bench end_to_end --no-run    # builds the gate and the floor

The gate runs with everything on, as in `run.py`; the floor is the bare hyper pass-through of the
bench `end_to_end`. Each gets the same request again and again on one connection, in a process of its
own: once under callgrind, for instructions and calls of the allocator, and once under strace, with
eight connections. These figures hold on a busy machine, so a change can be judged by them. callgrind
knows no SHA instructions: what the journal's thread hashes costs less in earnest.
"""

import argparse
import collections
import glob
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import run

ALLOCATES = re.compile(r"^(mi_(malloc|zalloc|calloc|realloc|new|heap_malloc)\w*|malloc|calloc|realloc|posix_memalign|aligned_alloc)$")
INSIDE = re.compile(r"^(_?mi_|__rust_|__rdl_)")


def call(port, head, requests):
    """Sends the request so often on one connection and reads every answer."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            stream.sendall(head)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += stream.recv(65536) or sys.exit("the connection was closed")
            if not answer.startswith(b"HTTP/1.1 200"):
                sys.exit(answer.decode())
            top, body = answer.split(b"\r\n\r\n", 1)
            left = int(re.search(rb"(?i)content-length: (\d+)", top)[1]) - len(body)
            while left > 0:
                left -= len(stream.recv(65536))


class World:
    """The upstream, the issuer, and one peer under a tool."""

    def __init__(self, folder, peer, options, wrapper):
        self.keys = run.Keys()
        documents = run.serve_documents(self.keys)
        self.up, onward = run.upstream(folder, None)
        self.token = self.keys.token()
        wrap(wrapper)
        if peer == "gate":
            self.peer = run.amlgate(folder, self.keys, onward, documents, pathlib.Path(options.amlgate).resolve(), None)
        else:
            port = run.free_port()
            self.peer = run.Peer("floor", [options.floor, "--floor", f"127.0.0.1:{port}", f"127.0.0.1:{onward}"], port, None)
        wrap([])
        for _ in range(600):
            if self.peer.status(self.token) == 200:
                break
            if self.peer.process.poll() is not None:
                self.peer.log.seek(0)
                sys.exit(self.peer.log.read().decode())
            time.sleep(0.1)
        self.port = int(self.peer.base.rsplit(":", 1)[1])
        self.head = (f"GET {run.PATH} HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\nauthorization: Bearer {self.token}\r\n"
                     "accept: application/json\r\nuser-agent: azsdk-python-mgmt/1.0\r\n"
                     "x-ms-client-request-id: 0b1f6471-1bf0-4dda-aec3-000000000001\r\n\r\n").encode()

    def call(self, requests, connections=1):
        clients = [threading.Thread(target=call, args=(self.port, self.head, requests)) for _ in range(connections)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()

    def stop(self):
        self.peer.process.send_signal(signal.SIGTERM)
        self.peer.process.wait(60)
        self.up.stop()


POPEN = subprocess.Popen


def wrap(wrapper):
    """Programs that are started from now on run under `wrapper`."""
    subprocess.Popen = (lambda command, **more: POPEN([*wrapper, *map(str, command)], **more)) if wrapper else POPEN


def callgrind(folder, peer, options):
    out = folder / "callgrind.out"
    tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes", "--compress-strings=yes",
            f"--callgrind-out-file={out}"]
    (folder / peer).mkdir()
    world = World(folder / peer, peer, options, tool)
    world.call(50)
    control = lambda *what: subprocess.run(["callgrind_control", *what, str(world.peer.process.pid)], check=True,
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    control("--instr=on")
    world.call(50)
    control("-z")
    world.call(options.requests)
    control("-d")
    control("--instr=off")
    world.stop()
    # The dump that was asked for is the first; each thread has a file of its own.
    threads = [Profile(pathlib.Path(f)) for f in sorted(glob.glob(f"{out}.1-*"))]
    return [t for t in threads if t.total > options.requests * 100]


class Profile:
    """One thread's file of callgrind's format: cost of each function, and its calls."""

    def __init__(self, file):
        self.own, self.calls = collections.Counter(), collections.Counter()
        self.callers = collections.Counter()
        names, self.total = {}, 0
        current = callee = None
        skip = False
        for line in file.read_text().splitlines():
            if line.startswith(("fn=", "cfn=")):
                kind, rest = line.split("=", 1)
                number, _, name = rest.partition(" ")
                if name:
                    names[number] = re.sub(r"'\d+$", "", name)
                if kind == "fn":
                    current = names[number]
                else:
                    callee = names[number]
            elif line.startswith("calls="):
                count = int(line[6:].split()[0])
                self.calls[callee] += count
                self.callers[(current, callee)] += count
                skip = True
            elif line and (line[0].isdigit() or line[0] in "+-*") and current:
                if skip:
                    skip = False
                else:
                    self.own[current] += int(line.split()[1])
        self.total = sum(self.own.values())

    def allocations(self):
        return sum(n for (caller, callee), n in self.callers.items()
                   if ALLOCATES.match(callee) and not INSIDE.match(caller or ""))


def strace(folder, peer, options):
    out = folder / f"{peer}.strace"
    (folder / f"{peer}-strace").mkdir()
    world = World(folder / f"{peer}-strace", peer, options, [])
    world.call(50, 8)
    tracer = POPEN(["strace", "-f", "-c", "-o", out, "-p", str(world.peer.process.pid)], stderr=subprocess.PIPE)
    time.sleep(1)
    world.call(options.requests, 8)
    tracer.send_signal(signal.SIGINT)
    tracer.wait(20)
    world.stop()
    counted = {}
    for line in out.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            counted[fields[-1]] = int(fields[3]) / options.requests / 8
    return counted


def short(name):
    name = re.sub(r"::h[0-9a-f]{16}$", "", name)
    return name if len(name) < 110 else name[:60] + "…" + name[-48:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--amlgate", default="target/dist/amlgate")
    parser.add_argument("--floor", help="the bench `end_to_end`; default: the newest in target/dist/deps")
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--top", type=int, default=0, help="also print the functions that cost most")
    parser.add_argument("--only", choices=["gate", "floor"])
    parser.add_argument("--without", action="append", default=[], choices=["callgrind", "strace"])
    options = parser.parse_args()
    if not options.floor:
        found = [f for f in glob.glob("target/dist/deps/end_to_end-*") if os.access(f, os.X_OK) and "." not in pathlib.Path(f).name]
        options.floor = max(found, key=os.path.getmtime, default=None) or sys.exit("no `end_to_end` in target/dist/deps")
    options.floor = str(pathlib.Path(options.floor).resolve())
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for peer in ["floor", "gate"]:
            if options.only not in (None, peer):
                continue
            if "callgrind" not in options.without:
                threads = callgrind(folder, peer, options)
                for number, thread in enumerate(threads, 1):
                    print(f"{peer}, thread {number}: {thread.total / options.requests:.0f} instructions, "
                          f"{thread.allocations() / options.requests:.1f} allocations a request")
                    for name, cost in thread.own.most_common(options.top):
                        print(f"    {cost / options.requests:8.0f}  {thread.calls[name] / options.requests:6.1f}x  {short(name)}")
                    if options.top:
                        givers = collections.Counter()
                        for (caller, callee), count in thread.callers.items():
                            if ALLOCATES.match(callee) and not INSIDE.match(caller or ""):
                                givers[caller] += count
                        for name, count in givers.most_common(options.top):
                            print(f"    allocates {count / options.requests:6.1f}x  {short(name)}")
            if "strace" not in options.without:
                counted = strace(folder, peer, options)
                shown = ", ".join(f"{name} {n:.2f}" for name, n in sorted(counted.items(), key=lambda i: -i[1]) if n >= 0.01)
                print(f"{peer}: {sum(counted.values()):.2f} system calls a request with 8 connections: {shown}")


if __name__ == "__main__":
    main()

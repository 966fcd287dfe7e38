"""Something between the gate and the simulated Azure: it sees what the gate sends, and fails on demand."""

import datetime
import http.client
import http.server
import socket
import ssl
import struct
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


def certificate(folder, names):
    """A server certificate of the sandbox's CA, as a file with its key."""
    ca = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    ca_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(ca_key, hashes.SHA256())
    )
    file = folder / f"{names[0]}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
        + ca.public_bytes(serialization.Encoding.PEM)
    )
    return file


class Seen:
    def __init__(self, request):
        self.method, self.path = request.command, request.path
        self.headers = {k.lower(): v for k, v in request.headers.items()}


class Fault:
    """An answer instead of Azure's: a status with headers, `reset`, or `truncated` after a few bytes."""

    def __init__(self, method, part, status=None, headers=(), how="answer", body=None):
        self.method, self.part = method, part
        self.status, self.headers, self.how = status, dict(headers), how
        self.body = body or b'{"error":{"code":"Fault","message":"as told"}}'


class Between:
    """Forwards to the simulated Azure under Azure's own names."""

    def __init__(self, sandbox, names):
        self.seen, self.faults = [], []
        host, port = sandbox.layout["azure_address"].rsplit(":", 1)
        trust = ssl.create_default_context(cafile=sandbox.ca)
        between = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length) if length else None
                seen = Seen(self)
                between.seen.append(seen)
                fault = between.fault(seen)
                if fault and fault.how == "reset":
                    # A close with SO_LINGER 0 is a RST.
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault and fault.how == "answer":
                    self.answer(fault.status, fault.headers, fault.body)
                    return
                name = seen.headers["host"].split(":")[0]
                azure = http.client.HTTPSConnection(name, 443, context=trust, timeout=30)
                azure._create_connection = lambda *_: socket.create_connection((host, int(port)))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
                azure.request(self.command, self.path, body, headers)
                answer = azure.getresponse()
                body = answer.read()
                headers = [(k, v) for k, v in answer.getheaders() if k.lower() not in HOP]
                if fault:
                    self.answer(answer.status, headers, body[:100], length=len(body))
                    self.close_connection = True
                    return
                self.answer(answer.status, headers, body)

            do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = do_GET

            def answer(self, status, headers, body, length=None):
                self.send_response_only(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate(sandbox.home / "certs", names))
        self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def fault(self, seen):
        for fault in self.faults:
            if fault.method == seen.method and fault.part in seen.path:
                self.faults.remove(fault)
                return fault
        return None

    def forget(self):
        assert not self.faults, [vars(f) for f in self.faults]
        self.seen.clear()

    def at(self, part, method=None):
        return [s for s in self.seen if part in s.path and method in (None, s.method)]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

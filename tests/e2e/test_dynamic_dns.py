"""Names below a wildcard are looked up as clients ask for them, by the real Envoy."""

from __future__ import annotations

import datetime as dt
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

pytestmark = pytest.mark.root

HOST = "server.default.svc.cluster.local"
OBJECTS = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec:
  hosts: ["*.default.svc.cluster.local"]
  resolution: DYNAMIC_DNS
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: tls, protocol: TLS, targetPort: 8443}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: dynamic-server}
  ports: [{name: tcp-plain, port: 8080}, {name: tcp-tls, port: 8443}]
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {{name: app, image: example/app, command: {command}}}
"""
SERVER = """
import http.server, ssl, sys, threading

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.server.server_port} for {self.headers['host']}".encode())

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
secure = http.server.ThreadingHTTPServer(("", 8443), Handler)
secure.socket = context.wrap_socket(secure.socket, server_side=True)
threading.Thread(target=secure.serve_forever, daemon=True).start()
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""
CALL = """
import http.client, socket, ssl, sys
scheme, name, host = sys.argv[1:]
address = socket.getaddrinfo(name, 80, socket.AF_INET)[0][4][0]
assert address.startswith("240.240."), address
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
with socket.create_connection((address, 80 if scheme == "http" else 443), timeout=10) as plain:
    used = plain if scheme == "http" else context.wrap_socket(plain, server_hostname=host)
    used.sendall(f"GET / HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
    answer = http.client.HTTPResponse(used)
    answer.begin()
    print(answer.status, answer.read().decode())
"""


@pytest.fixture(scope="module")
def pods(mesh: Any, tools: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    names = ("dynamic-server", "dynamic-client")
    folder = tmp_path_factory.mktemp("dynamic")
    (folder / "server.py").write_text(SERVER)
    certificate = certificate_in(folder)
    server = [sys.executable, str(folder / "server.py"), str(certificate)]
    commands = (server, ["sleep", "1000000"])
    try:
        mesh.apply(OBJECTS + "".join(POD.format(name=n, command=c) for n, c in zip(names, commands, strict=True)))
        for name in names:
            mesh.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        yield mesh
    finally:
        gone = [f"pod/{name}" for name in names] + ["service/server", "serviceentry/wild"]
        mesh.kubectl("delete", *gone, "--ignore-not-found", "--wait=false")
        tools.eventually(lambda: not mesh.get("pods")["items"], "all pods are gone")


def certificate_in(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(secret + made.public_bytes(pem))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    return path


@pytest.mark.parametrize(
    ("scheme", "host", "expected"),
    [("http", f"{HOST}:8080", f"200 8080 for {HOST}:8080"), ("https", HOST, f"200 8443 for {HOST}")],
)
def test_what_a_client_asks_for_is_looked_up(pods: Any, tools: Any, scheme: str, host: str, expected: str) -> None:
    """Connections go to the wildcard's address; where they end is what `Host` or the server name says."""
    name = "anything.default.svc.cluster.local"
    command = ("exec", "dynamic-client", "-c", "app", "--", sys.executable, "-c", CALL, scheme, name, host)
    tools.eventually(lambda: pods.kubectl(*command, check=False).strip() == expected, expected, 30)


def test_what_cannot_be_found_is_said(pods: Any, tools: Any) -> None:
    name = "nobody.default.svc.cluster.local"
    command = ("exec", "dynamic-client", "-c", "app", "--", sys.executable, "-c", CALL, "http", name, name)
    tools.eventually(lambda: pods.kubectl(*command, check=False).startswith("503"), "503", 30)

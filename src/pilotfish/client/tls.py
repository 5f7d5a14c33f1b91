"""TLS towards an API server, as a kubeconfig asks for it."""

from __future__ import annotations

import ssl
import tempfile

from pilotfish.api.errors import ServiceUnavailable
from pilotfish.client.kubeconfig import Kubeconfig


def ssl_context(config: Kubeconfig) -> ssl.SSLContext:
    """A client context: the kubeconfig's authority (else the system's) and the client certificate, if it has one.

    Raises ServiceUnavailable when the certificates or the key cannot be used.
    """
    try:
        authority = config.certificate_authority.decode("ascii") if config.certificate_authority else None
        context = ssl.create_default_context(cadata=authority)
        if config.insecure_skip_tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if config.client_certificate and config.client_key:
            # OpenSSL takes a key from a file only; this one has mode 0600 and is gone at once.
            with tempfile.NamedTemporaryFile(prefix="pilotfish-") as file:
                file.write(config.client_certificate + b"\n" + config.client_key)
                file.flush()
                context.load_cert_chain(file.name)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ServiceUnavailable(
            f"the certificates of kubeconfig context {config.context!r} cannot be used: {error}"
        ) from error
    return context

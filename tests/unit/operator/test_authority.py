"""Certificates of the operator's own authority, as TLS clients see them."""

import datetime
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from packhorse.operator.authority import KeyPair, issue, new_authority, server_context

HOST = "packhorse.system.svc"


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return new_authority()


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def greet(connection: tuple[socket.socket, socket.socket], pair: KeyPair, trusted: str, host: str) -> str:
    """Connect to a server with this certificate; what the client says of it, or nothing."""
    server, client = connection

    def serve() -> None:
        try:
            server_context(pair).wrap_socket(server, server_side=True).close()
        except (ssl.SSLError, OSError):
            server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ssl.create_default_context(cadata=trusted).wrap_socket(client, server_hostname=host):
            return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        client.close()
        thread.join()


def test_good_for_its_host(connection: tuple[socket.socket, socket.socket], authority: KeyPair) -> None:
    assert greet(connection, issue(authority, HOST), authority.certificate, HOST) == ""


def test_for_no_other_host(connection: tuple[socket.socket, socket.socket], authority: KeyPair) -> None:
    told = greet(connection, issue(authority, HOST), authority.certificate, "packhorse.other.svc")
    assert "Hostname mismatch" in told


def test_of_no_other_authority(connection: tuple[socket.socket, socket.socket], authority: KeyPair) -> None:
    told = greet(connection, issue(authority, HOST), new_authority().certificate, HOST)
    assert "self-signed certificate in certificate chain" in told or "unable to get local issuer" in told


def test_nobody_can_sign_with_a_servers_certificate(
    connection: tuple[socket.socket, socket.socket], authority: KeyPair
) -> None:
    leaf = issue(authority, HOST)
    forged = issue(leaf, "victim.svc")
    chain = KeyPair(forged.certificate + leaf.certificate, forged.key)
    assert greet(connection, chain, authority.certificate, "victim.svc") != ""


def test_a_long_name_of_a_host(connection: tuple[socket.socket, socket.socket], authority: KeyPair) -> None:
    host = f"{'a' * 60}.{'b' * 60}.svc"
    assert greet(connection, issue(authority, host), authority.certificate, host) == ""


def test_the_authority_says_what_it_is(authority: KeyPair) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certificate.encode())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    now = datetime.datetime.now(datetime.UTC)
    assert certificate.not_valid_before_utc < now < certificate.not_valid_after_utc - datetime.timedelta(days=3000)


def test_no_two_certificates_are_alike(authority: KeyPair) -> None:
    assert issue(authority, HOST) != issue(authority, HOST)
    assert new_authority() != new_authority()


def test_a_key_of_another_kind_is_told(authority: KeyPair) -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(TypeError, match="delete its Secret"):
        issue(KeyPair(authority.certificate, key.decode()), HOST)

"""Access to the brokers: the password, looked up at the moment of its use, and a first word with them."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from control.errors import ControlError
from control.home import Home
from control.kafka.settings import KafkaConnection
from control.keys.store import KeyStore
from control.people.roles import Actor

# Less than a process is given to end.
_ANSWER_TIMEOUT_S = 5.0


class AccessError(ControlError):
    """The brokers answer, but not to us; the sentence says what to change."""


def password(home: Home, brokers: KafkaConnection, actor: Actor, hosts: Sequence[str] | None = None) -> str | None:
    """Return the password, or None where none is asked for; raise KeyStoreError where it cannot be had.

    hosts: where a feed sends it, as in KeyStore.reveal.
    """
    if not brokers.signs_in:
        return None
    with KeyStore.open(home, actor) as store:
        return store.reveal(brokers.password_key, hosts)


def connect(brokers: KafkaConnection, secret: str | None = None) -> AdminClient:
    """Return a client of brokers that have answered it.

    Raise AccessError where they refuse us, KafkaException where none answers.
    """
    heard = list[KafkaError]()
    # Why a connection fails is told on the side; a question that was asked over it only gets no answer.
    configuration: dict[str, Any] = {**brokers.client(secret), "log_level": 0, "error_cb": heard.append}
    admin = AdminClient(configuration)
    try:
        admin.list_topics(timeout=_ANSWER_TIMEOUT_S)
    except KafkaException:
        admin.poll(0)
        codes = {one.code() for one in heard}
        if KafkaError._AUTHENTICATION in codes:
            raise AccessError(
                "Kafka refuses the user name or the password; store the right one with ./barmill key rotate"
                f" {brokers.password_key}."
            ) from None
        if KafkaError._SSL in codes:
            raise AccessError("Kafka's certificate is not to be trusted; name whose it is as ca_file.") from None
        raise
    return admin

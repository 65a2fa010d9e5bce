import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from barmill.platform.home import Home
from barmill.platform.ports import DEFAULT_APP_PORT, LOOPBACK, choose_ports, free_ports, is_free, read_ports


@contextmanager
def listening(port: int = 0) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, port))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with listening() as port:
        assert not is_free(port)
    assert is_free(port)


def test_free_ports_are_different_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    assert all(is_free(port) for port in ports)


def test_no_outgoing_connection_can_take_a_free_port_before_its_process_does() -> None:
    with listening() as any_port, socket.create_connection((LOOPBACK, any_port)) as outgoing:
        for port in free_ports(200):
            assert port < min(any_port, outgoing.getsockname()[1])


def test_internal_ports_where_outgoing_connections_are_get_replaced(home: Home) -> None:
    first = choose_ports(home)
    with listening() as any_port:
        pass
    note = home.run / "ports.json"
    note.write_text(note.read_text().replace(str(first.market), str(any_port)))
    second = choose_ports(home)
    assert second.market < any_port
    assert second.jobmanager_rest == first.jobmanager_rest


def test_ports_are_remembered_from_start_to_start(home: Home) -> None:
    assert read_ports(home) is None
    first = choose_ports(home)
    assert first.app == DEFAULT_APP_PORT
    assert choose_ports(home) == first == read_ports(home)


def test_a_taken_internal_port_is_replaced_and_the_others_stay(home: Home) -> None:
    first = choose_ports(home)
    with listening(first.market):
        second = choose_ports(home)
    assert second.market != first.market
    assert (second.jobmanager_rest, second.jobmanager_rpc) == (first.jobmanager_rest, first.jobmanager_rpc)


def test_a_new_internal_port_is_no_other_port_of_the_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    [app_port] = free_ports(1)
    first = choose_ports(home, app_port)
    others = [first.jobmanager_rest, first.jobmanager_rpc, first.kafka, first.kafka_controller, app_port]
    monkeypatch.setattr("random.sample", lambda numbers, _: [*others, *numbers])
    with listening(first.market):
        second = choose_ports(home)
    assert second.market not in {first.market, *others}


def test_the_port_of_the_app_is_the_one_asked_for_also_next_time(home: Home) -> None:
    [port] = free_ports(1)
    assert choose_ports(home, port).app == port
    with listening(port):
        assert choose_ports(home).app == port  # taken or not: it is the user's choice, so the user gets the error


def test_a_broken_note_of_the_ports_counts_as_none(home: Home) -> None:
    (home.run / "ports.json").write_text('{"app": 1')
    assert read_ports(home) is None
    assert choose_ports(home) == read_ports(home)

"""What a URL says: read exactly, refused where it can't be meant, and never quoted."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.broker.address import Address, EndpointError, parse


def read(url: str) -> tuple[object, ...]:
    address = parse(url)
    return address.kind, address.tls, address.hosts, address.path or address.service, address.db


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h", ("single", False, (("h", 6379),), "", 0)),
        ("redis://h:1/", ("single", False, (("h", 1),), "", 0)),
        ("rediss://h/15", ("single", True, (("h", 6379),), "", 15)),
        ("redis://h?db=3", ("single", False, (("h", 6379),), "", 3)),
        ("redis://h/3?db=3", ("single", False, (("h", 6379),), "", 3)),
        ("redis://h:1?family=0", ("single", False, (("h", 1),), "", 0)),
        ("redis://:7000", ("single", False, (("localhost", 7000),), "", 0)),
        ("redis://[::1]:7000/1", ("single", False, (("::1", 7000),), "", 1)),
        ("redis://[fe80::1%25eth0]", ("single", False, (("fe80::1%eth0", 6379),), "", 0)),
        ("REDIS://H", ("single", False, (("H", 6379),), "", 0)),
        ("unix:///run/redis.sock", ("unix", False, (), "/run/redis.sock", 0)),
        ("unix:///run/my%20redis.sock?db=2", ("unix", False, (), "/run/my redis.sock", 2)),
        ("redis+sentinel://a,b:1/m", ("sentinel", False, (("a", 26379), ("b", 1)), "m", 0)),
        ("rediss+sentinel://u:p@a:1,[::1]:2/m.y-1_x/4", ("sentinel", True, (("a", 1), ("::1", 2)), "m.y-1_x", 4)),
        ("redis+cluster://a:7000,b", ("cluster", False, (("a", 7000), ("b", 6379)), "", 0)),
        ("rediss+cluster://a/0", ("cluster", True, (("a", 6379),), "", 0)),
    ],
)
def test_parts_are_read_as_written(url: str, said: tuple[object, ...]) -> None:
    assert read(url) == said


@pytest.mark.parametrize(
    ("url", "account"),
    [
        ("redis://h", (None, None)),
        ("redis://me@h", ("me", None)),
        ("redis://:pw@h", (None, "pw")),
        ("redis://me:@h", ("me", None)),
        ("redis://me:a:b@h", ("me", "a:b")),
        ("redis://m%40e:%40%3A%2F%25%3F%23@h", ("m@e", "@:/%?#")),
        ("redis://h?username=me&password=p%26w", ("me", "p&w")),
        ("unix://me:pw@/run/r.sock", ("me", "pw")),
        ("unix:///run/r.sock?password=s@cret", (None, "s@cret")),
        ("redis+sentinel://me:pw@a,b/m", ("me", "pw")),
        ("redis+cluster://me:pw@a,b", ("me", "pw")),
    ],
)
def test_user_and_password_are_decoded(url: str, account: tuple[str | None, str | None]) -> None:
    address = parse(url)
    assert (address.username, address.password) == account
    assert "pw" not in repr(address)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "can't be read"),
        ("secret", "can't be read"),
        ("http://secret@h", "can't be read"),
        ("redis://h:99999", "can't be read"),
        ("redis://h:0", "can't be read"),
        ("redis://h:secret", "can't be read"),
        ("redis://a b", "can't be read"),
        ("redis://[::1", "can't be read"),
        ("redis://::1:6379", "can't be read"),
        ("redis://:secret#word@h", "can't be read"),
        ("redis://me:12/secret@h", "can't be read"),
        ("redis://me:12?secret@h", "can't be read"),
        ("unix://me:12/secret@/r.sock", "can't be read"),
        ("unix://h/r.sock", "a Unix socket has a path and no host"),
        ("unix://", "a Unix socket has a path and no host"),
        ("redis://h/secret", "the database must be one whole number"),
        ("redis://h/1/2", "the database must be one whole number"),
        ("redis://h/-1", "the database must be one whole number"),
        ("redis://h?db=", "the database must be one whole number"),
        ("redis://h/1?db=2", "the database must be one whole number"),
        ("redis://h?ssl_cert_reqs=none", "are fields of `redis`"),
        ("redis://h?socket_timeout=1", "are fields of `redis`"),
        ("redis://h?password=a&secret", "are fields of `redis`"),
        ("redis://a,b", "several hosts need redis+sentinel://…/name or redis+cluster://"),
        ("redis+sentinel://a,b", "the name by which the sentinels know the primary is missing"),
        ("redis+sentinel://a/my master", "the name by which the sentinels know the primary is missing"),
        ("redis+sentinel://a/m/x", "the database must be one whole number"),
        ("redis+sentinel://a,,b:x/m", "can't be read"),
        ("redis+cluster://a/1", "a cluster has database 0 alone"),
    ],
)
def test_what_can_not_be_meant_is_refused_without_being_quoted(url: str, problem: str) -> None:
    with pytest.raises(EndpointError) as refused:
        parse(url)
    assert str(refused.value).startswith("redis.url: ") and problem in str(refused.value)
    assert refused.value.path == ("redis", "url")
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(lambda text: f"«{text}»")
hosts = st.lists(
    st.tuples(st.sampled_from(["host", "10.0.0.1", "[::1]", "a.b.example", "under_score"]), st.integers(1, 65535)),
    min_size=1,
    max_size=4,
)


@given(st.sampled_from(["redis", "rediss"]), names, names, hosts, st.integers(0, 15), st.data())
def test_whatever_is_encoded_is_read_back_and_never_shown(
    scheme: str, user: str, password: str, nodes: list[tuple[str, int]], db: int, data: st.DataObject
) -> None:
    kind = data.draw(st.sampled_from(["", "+sentinel", "+cluster"]))
    nodes = nodes if kind else nodes[:1]
    written = ",".join(f"{host}:{port}" for host, port in nodes)
    path = {"": f"/{db}", "+sentinel": f"/main/{db}", "+cluster": ""}[kind]
    address = parse(f"{scheme}{kind}://{quote(user, safe='')}:{quote(password, safe='')}@{written}{path}")
    assert address == Address(
        kind={"": "single", "+sentinel": "sentinel", "+cluster": "cluster"}[kind],  # type: ignore[arg-type]
        tls=scheme == "rediss",
        hosts=tuple((host.strip("[]"), port) for host, port in nodes),
        service="main" if kind == "+sentinel" else "",
        db=0 if kind == "+cluster" else db,
        username=user,
        password=password,
        display=f"{scheme}{kind}://{written}{path}",
    )


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text("ab12/?#@:[]%,& \t\n", max_size=12))
def test_raw_password_is_never_shown_whatever_is_in_it(user: str, tail: str) -> None:
    """With characters that should have been encoded: refused, or shown without any of it."""
    for scheme, path in (("redis", "/0"), ("redis+sentinel", "/m/0"), ("redis+cluster", ""), ("unix", "/r.sock")):
        try:
            shown = parse(f"{scheme}://{user}:SECRET{tail}SECRET@host:6379{path}").display
        except EndpointError as error:
            shown = str(error)
        assert "SECRET" not in shown

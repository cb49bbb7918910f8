"""API keys: what is kept of them, and what makes one worth nothing."""

from datetime import timedelta
from functools import partial

import pytest
from scene import new_thread
from sqlalchemy import select, update

from longwick import keys
from longwick.database import Database, utc_now
from longwick.entrance import ApiKey
from longwick.errors import Invalid, NotFound
from longwick.kinds import Scope


def made(database: Database, owner: str = "ann", *, lifetime: timedelta | None = None) -> keys.Made:
    return database.write(lambda db: keys.create(db, owner, name="laptop", lifetime=lifetime))


def owner_of(database: Database, text: str) -> str | None:
    key = database.read(lambda db: keys.authenticate(db, text))
    return key.owner if key else None


def test_a38_a_key_is_kept_as_a_digest_and_found_by_its_prefix(database: Database) -> None:
    new = made(database)
    assert keys.FORM.fullmatch(new.text)
    secret = new.text.rpartition("_")[2]
    [row] = database.read(lambda db: db.execute(select(*ApiKey.__table__.columns)).all())
    assert not any(secret in str(value) for value in row)
    assert secret not in repr(new)
    assert new.text.startswith(new.key.prefix)
    assert owner_of(database, new.text) == "ann"


def test_a38_a_key_that_is_misspelt_is_refused_without_asking_the_record(database: Database) -> None:
    text = made(database).text
    for position in range(len(text)):
        other = text[:position] + ("2" if text[position] != "2" else "3") + text[position + 1 :]
        assert not keys.is_well_formed(other)
    for other in ("", text[:-1], text + "0", text.upper(), f" {text}", text + "\n", "lwk_" + "x" * 43):
        assert not keys.is_well_formed(other)
    assert keys.is_well_formed(text)


def test_a38_another_secret_under_a_known_prefix_gets_nobody_in(database: Database) -> None:
    one, other = made(database, "ann"), made(database, "bob")
    body = one.key.prefix + "_" + other.text.rpartition("_")[2][:-7]
    forged = body + keys._checksum(body)
    assert keys.is_well_formed(forged)
    assert owner_of(database, forged) is None


def test_a_key_that_was_revoked_is_refused_at_once_and_stays_listed(database: Database) -> None:
    new = made(database)
    first = database.write(lambda db: keys.revoke(db, new.key.prefix)).revoked_at
    assert owner_of(database, new.text) is None
    assert database.write(lambda db: keys.revoke(db, new.key.id)).revoked_at == first
    assert [key.id for key in database.read(keys.list_keys)] == [new.key.id]
    assert database.read(keys.any_there)


def test_a_key_is_refused_from_its_end_on(database: Database) -> None:
    new = made(database, lifetime=timedelta(hours=1))
    assert owner_of(database, new.text) == "ann"
    past = utc_now() - timedelta(seconds=2)
    database.write(lambda db: db.execute(update(ApiKey).values(expires_at=past)))
    assert owner_of(database, new.text) is None


def test_a_key_that_was_deleted_is_as_if_it_had_never_been(database: Database) -> None:
    new = made(database)
    database.write(lambda db: keys.remove(db, new.key.id))
    assert owner_of(database, new.text) is None
    assert not database.read(keys.any_there)
    for forget in (keys.remove, keys.revoke):
        with pytest.raises(NotFound):
            database.write(partial(forget, name=new.key.id))


def test_the_last_use_is_written_at_most_once_a_minute(database: Database) -> None:
    new, idle = made(database), made(database)

    def last_use() -> object:
        database.write(lambda db: keys.used(db, {new.key.id}))
        by_id = {key.id: key.last_used_at for key in database.read(keys.list_keys)}
        assert by_id[idle.key.id] is None
        return by_id[new.key.id]

    first = last_use()
    assert first is not None
    assert last_use() == first
    database.write(lambda db: db.execute(update(ApiKey).values(last_used_at=utc_now() - timedelta(seconds=61))))
    database.write(lambda db: db.execute(update(ApiKey).where(ApiKey.id == idle.key.id).values(last_used_at=None)))
    assert last_use() == pytest.approx(first, abs=timedelta(seconds=5))


def test_a_key_may_read_and_write_unless_it_is_said_what_it_may(database: Database) -> None:
    assert keys.scopes_of(made(database).key) == {Scope.READ, Scope.WRITE}
    other = database.write(lambda db: keys.create(db, "ann", scopes=[Scope.ADMIN, Scope.ADMIN]))
    assert keys.scopes_of(other.key) == {Scope.ADMIN}


@pytest.mark.parametrize("owner", ["", " ", "a b", "a/b", "../x", "a\nb", "-a", "\u202ea", "x" * 201, "é"])
@pytest.mark.parametrize("engine_name", ["sqlite"], indirect=True)
def test_what_can_be_no_owner_gets_no_key(database: Database, owner: str) -> None:
    with pytest.raises(Invalid):
        made(database, owner)


def test_the_owners_are_those_with_a_live_key_and_those_with_threads(database: Database) -> None:
    assert database.read(keys.owners) == set()
    for owner in ("bob", "ann", "bob", "carl"):
        new_thread(database, owner=owner)
    made(database, "dora")
    gone = made(database, "eve")
    made(database, "ann")
    database.write(lambda db: keys.revoke(db, gone.key.id))
    assert database.read(keys.owners) == {"ann", "bob", "carl", "dora"}

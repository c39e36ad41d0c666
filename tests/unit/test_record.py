"""Records: how a verb becomes a method, and what the end of a write makes known."""

from __future__ import annotations

from typing import Any

import pytest

from chained_models._record import Life, Record, Verb
from chained_models.exceptions import MissingIdentity
from chained_models.operation import Method


def record(life: Life, identity: Any) -> Record:
    made = Record("Basket", identity)
    made.life = life
    return made


NOBODY_KNOWS = MissingIdentity
TABLE: list[tuple[Life, Any, dict[Verb, Any]]] = [
    (Life.NEW, None, {Verb.SAVE: Method.CREATE, Verb.PATCH: Method.CREATE, Verb.DELETE: None, Verb.REFRESH: NOBODY_KNOWS}),
    (Life.NEW, 7, {Verb.SAVE: Method.CREATE, Verb.PATCH: Method.CREATE, Verb.DELETE: Method.DELETE, Verb.REFRESH: Method.READ}),
    (Life.CREATING, None, dict.fromkeys(Verb, NOBODY_KNOWS)),
    (Life.CREATING, 7, {Verb.SAVE: Method.UPDATE, Verb.PATCH: Method.PATCH, Verb.DELETE: Method.DELETE, Verb.REFRESH: Method.READ}),
    (Life.LIVE, None, {Verb.SAVE: NOBODY_KNOWS, Verb.PATCH: NOBODY_KNOWS, Verb.DELETE: NOBODY_KNOWS, Verb.REFRESH: NOBODY_KNOWS}),
    (Life.LIVE, 7, {Verb.SAVE: Method.UPDATE, Verb.PATCH: Method.PATCH, Verb.DELETE: Method.DELETE, Verb.REFRESH: Method.READ}),
    (Life.DELETED, 7, {Verb.DELETE: None}),
]  # fmt: skip
CELLS = [(life, identity, verb, becomes) for life, identity, row in TABLE for verb, becomes in row.items()]


@pytest.mark.parametrize(("life", "identity", "verb", "becomes"), CELLS)
def test_every_verb_in_every_life(life: Life, identity: Any, verb: Verb, becomes: Any) -> None:
    """Each verb becomes the method that the record's life calls for, or says that its identity is missing."""
    subject = record(life, identity)
    if becomes is NOBODY_KNOWS:
        with pytest.raises(MissingIdentity):
            subject.method(verb)
    else:
        assert subject.method(verb) is becomes
    assert subject.method(verb, force_insert=True) is Method.CREATE


def test_the_life_of_a_create() -> None:
    """A create that was sent is open; refused it was never there, confirmed it is stored."""
    subject = Record("Basket")
    subject.sent(Method.CREATE)
    assert subject.life is Life.CREATING and subject.in_doubt
    subject.refused(Method.UPDATE)
    assert subject.life is Life.CREATING
    subject.refused(Method.CREATE)
    assert subject.life is Life.NEW and not subject.in_doubt
    subject.refused(Method.CREATE)
    subject.sent(Method.UPDATE)
    assert subject.life is Life.NEW
    subject.confirmed(Method.CREATE)
    subject.sent(Method.CREATE)
    assert subject.life is Life.LIVE


def test_an_identity_given_by_the_program_is_no_doubt() -> None:
    """A create in doubt whose identity is known is not stuck: the next save can name what it means."""
    subject = Record("Basket", 7)
    subject.sent(Method.CREATE)
    assert not subject.in_doubt


def test_a_confirmed_delete() -> None:
    """It is gone."""
    subject = Record("Basket", 7, stored=True)
    subject.confirmed(Method.DELETE)
    assert subject.life is Life.DELETED


def test_becoming_another_record() -> None:
    """From then on only the other one counts, however long the way; it takes over what is unsettled, and the delete."""
    first, second, third = Record("Basket"), Record("Basket"), Record("Basket", 7)
    first.unsettled, second.unsettled, third.unsettled = 1, 2, 4
    first.deletion, delete = object(), object()
    second.deletion = delete
    second.confirmed(Method.CREATE)
    first.merge_into(second)
    second.merge_into(third)
    assert first.current() is second.current() is third.current() is third
    assert (third.unsettled, third.deletion, third.life) == (7, delete, Life.LIVE)


def test_how_it_reads() -> None:
    """In a log it is named by label and identity, and a new one says so."""
    assert str(Record("Basket")) == "Basket (new)"
    assert str(Record("Basket", "é")) == r"Basket '\xe9'"
    assert repr(Record("Basket", 7, stored=True)) == "<Record Basket 7 live>"


@pytest.mark.parametrize(("life", "then"), [(Life.CREATING, Life.NEW), (Life.LIVE, Life.LIVE), (Life.NEW, Life.NEW)])
def test_what_the_backend_does_not_know(life: Life, then: Life) -> None:
    """A create that was in doubt was not applied, so that the next save is the create; what was stored stays what it was."""
    subject = record(life, 7)
    subject.missing()
    assert subject.life is then

"""Dependencies: saves that wait for saves of other chains (``after=``), and get attributes from them.

Whoever waits holds neither a thread nor a slot: it stands in its chain, and the end of each of those it waits for is told to
its dispatcher. Handles exist only once their saves have a place in line, and a new save stands behind all others of its
chain: so the only way to wait for oneself is to wait for a save of the same chain, and that is refused at the call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from ._record import Record
from ._snapshot import MISSING, Snapshot, same
from .exceptions import InvalidOption, MissingIdentity, Rejected
from .handle import Handle, SaveHandle
from .policies import Outcome

__all__ = ["After", "again", "fill_slots", "filled_slots", "final", "latest", "lost", "parents", "refuse_own_chain"]

After: TypeAlias = Iterable[Handle[Any]] | Mapping[str, SaveHandle[Any]]
"""Handles to wait for; as a mapping, attributes and the handles whose identities they get."""


def parents(after: After, fields: Iterable[str]) -> tuple[tuple[Handle[Any], ...], dict[str, SaveHandle[Any]]]:
    """What was given as `after`, checked: the handles, and those that give an attribute its value, by its name.

    Args:
        after: As the user gave it.
        fields: Names of the attributes that can be filled; none for verbs that send no values.

    Raises:
        InvalidOption: It is not made of handles, or names attributes that do not exist.
    """
    if isinstance(after, (Handle, str)) or not isinstance(after, Iterable):
        raise InvalidOption(
            f"after={after!r}: a list of handles is needed, after=[handle], or attributes and handles, after={{'order_id': handle}}"
        )
    slots = {str(name): handle for name, handle in after.items()} if isinstance(after, Mapping) else {}
    handles = list(after.values() if isinstance(after, Mapping) else after)
    for handle in handles:
        if not isinstance(handle, Handle):
            raise InvalidOption(f"after: {type(handle).__name__} is not a handle; give what save() has returned")
    names = tuple(fields)
    for name, handle in slots.items():
        if name not in names:
            known = f"the fields are {', '.join(names)}" if names else "only save() fills attributes"
            raise InvalidOption(f"after: there is no attribute {name} to fill; {known}")
        if not isinstance(handle, SaveHandle) or len(handle.binding.model.identity) > 1:
            raise InvalidOption(f"after: {name} can only get the identity, of one field, that a model's save gives")
    return again(handles), {name: latest(handle) for name, handle in slots.items()}


def again(handles: Iterable[Handle[Any]]) -> tuple[Handle[Any], ...]:
    """Each of them once, as its latest."""
    return tuple(dict.fromkeys(latest(handle) for handle in handles))


def refuse_own_chain(save: SaveHandle[Any], key: Any) -> None:
    """Raise if `save`, about to stand in the chain of `key`, would wait for one of that chain.

    Raises:
        InvalidOption: It would; in one chain each save comes after those before it anyway.
    """
    for parent in save.after:
        if parent._host is save._host and _current(final(parent).line) == _current(key):
            raise InvalidOption(
                f"after: save {parent.seq} stands in the same chain, whose saves come one after the other anyway; leave it out"
            )


def final(handle: Any) -> Any:
    """The handle itself, or the one by which its place was taken in the end."""
    end = handle
    while end.superseded_by is not None:
        end = end.superseded_by
    if end is not handle:
        handle.superseded_by = end  # of ten thousand, the next one who asks walks past none
    return end


def latest(handle: Any) -> Any:
    """The handle itself, or the one that took its place, or that was sent again for it by hand, in the end."""
    while (later := handle.superseded_by or handle.retried_by) is not None:
        handle = later
    return handle


def lost(save: SaveHandle[Any], parent: Handle[Any]) -> BaseException | None:
    """Why `save` cannot go on now that `parent`, which it waited for, has ended; None if it can."""
    save, ended = final(save), final(parent)
    if ended.outcome is not Outcome.SAVED:
        return ended.error or Rejected(f"{ended} was cancelled, and this save was to come after it")
    if any(giver.identity is None for giver, _ in save.slots.values() if final(giver) is ended):
        return MissingIdentity(f"{ended} was saved, but the backend did not say under which identity; nothing was sent")
    return None


def fill_slots(save: SaveHandle[Any], values: Snapshot) -> dict[str, Any]:
    """The attributes of `save` that get another save's identity: those that its snapshot has as they were at the call.

    Args:
        save: One that is about to be sent.
        values: Its snapshot, with what answers have made of it. A slot is noted to be about the value there: what a save in
            front was given for the same attribute is not what this one is to be given, but the object holds it by now.
    """
    filled = {
        name: giver.identity
        for name, (giver, about) in save.slots.items()
        if same(save.snapshot.get(name, MISSING), about) and giver.identity is not None
    }
    save.slots = {
        name: (giver, values.get(name, MISSING) if name in filled else about)
        for name, (giver, about) in save.slots.items()
    }
    return filled


def filled_slots(save: SaveHandle[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The attributes that were sent with another save's identity, and what the object held of them before that."""
    values = {} if save.operation is None else save.operation.values
    filled = {
        name: giver.identity
        for name, (giver, _) in save.slots.items()
        if giver.identity is not None and same(values.get(name, MISSING), giver.identity)
    }
    return filled, {name: save.slots[name][1] for name in filled}


def _current(key: Any) -> Any:
    return key.current() if isinstance(key, Record) else key

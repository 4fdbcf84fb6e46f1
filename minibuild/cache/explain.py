"""Why a step missed: the first cause, found by comparing the parts of its key with those of the last build.

The step that is compared with is the same instruction of the same stage (`align`) in the last build of this
Dockerfile and target, or of this Dockerfile alone where its target was never built. What a step missed for
itself comes before what came from below; where only the filesystem below differs, the cause is looked for in
the steps and bases that made it.

Where the very key had a result that was taken away, that is the cause, whatever the last build was made of.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from minibuild_store.store import Store

from minibuild.cache.align import aligned
from minibuild.cache.builds import BuildRecord, Builds
from minibuild.cache.journal import Cause, Journal, StageRow, StepRow
from minibuild.cache.parts import FindListing, Labels, own_cause
from minibuild.cache.steps import Evictor, StepCache
from minibuild.values import NamedTuple

if TYPE_CHECKING:
    from minibuild.cache.lastbuild import SharedBuild
    from minibuild.cache.listings import Listing

# What a base brings with it: where the base changed, a change of these is its doing.
_FROM_BASE = ("env", "arg", "user", "workdir")

NO_CACHE = Cause("no-cache", "not to be cached")
NOT_HELD = Cause("not-held", "the shared cache has its key, not its layer, which is needed now (mode=min)")
_NEVER = Cause("never-built", "never built here")
_GONE = "its result is no longer in the cache"
_EVICTED = Cause("evicted", _GONE)
_DAMAGED = Cause("evicted", f"{_GONE}: its layer was damaged or deleted")
_NOT_SHARED = Cause("evicted", "its result is not in the shared cache")


_TAKEN_BY: Mapping[Evictor, str] = {
    "cap": "evicted to keep the cap",
    "prune": "removed by cache prune",
    "max-age": "not used for longer than --max-age",
    "verify": "damaged, and removed by cache verify",
    "damage": "its layer was found damaged or deleted",
}


class Step(NamedTuple):
    """The step that missed, as far as it must be known to explain it."""

    stage: str
    number: int
    key: str
    parts: Mapping[str, str]
    labels: Labels = Labels()


class Explainer:
    """Explains the misses of one build, against the last one that `journal`'s place knows of."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        listing: FindListing,
        shared: Sequence[str] = (),
    ) -> None:
        """`shared` is what shared caches say of their last builds: of use where this store knows of none."""
        self._journal = journal
        self._cache = StepCache(store)
        self._listing = self._or_shared(listing, shared) if journal.place and shared else listing
        self._last = Builds(store).last(journal.place) if journal.place else None
        self._shared = self._from(shared) if self._last is None and journal.place and shared else None
        self._other_target = self._last is None
        if self._last is None and journal.place:
            self._last = Builds(store).last_of_file(journal.place)
            self._shared = self._from(shared, any_target=True) if self._last is None and shared else None
        self._new = {stage.name: stage for stage in journal.stages}
        last = None if self._other_target else self._last
        self._renamed = _renamed(last, journal.stages) if last else {}
        self._pairs: dict[str, dict[int, int]] = {}

    def _from(self, texts: Sequence[str], *, any_target: bool = False) -> SharedBuild | None:
        """Take the last build from a shared cache."""
        from minibuild.cache.lastbuild import read_build

        shared = read_build(texts, self._journal.place, any_target=any_target)
        if shared is not None:
            self._last = shared.record
        return shared

    def _or_shared(self, here: FindListing, texts: Sequence[str]) -> FindListing:
        """`here`, and what shared caches tell of files that were only ever hit, never fetched."""
        from minibuild.cache.lastbuild import read_build
        from minibuild.cache.listings import listing_of

        place = self._journal.place

        @functools.cache
        def shared(any_target: bool) -> SharedBuild | None:
            return read_build(texts, place, any_target=any_target)

        def listing(content: str) -> Listing | None:
            found = here(content)
            if found is not None:
                return found
            builds = (shared(one) for one in (False, True))
            told = (build.listing(content) for build in builds if build is not None)
            return next((listing_of(files) for files in told if files is not None), None)

        return listing

    def _before(self, key: str, new: Mapping[str, str]) -> Mapping[str, str] | None:
        """The parts of `key`, which an earlier build had, to be compared with `new`."""
        parts = self._cache.parts(key)
        return self._shared.parts(key, new) if parts is None and self._shared is not None else parts

    def explain(self, step: Step) -> Cause:
        """The cause of a miss; never raises for want of records."""
        lost = self._lost(step.key)
        if self._last is None:
            return lost or self._built_elsewhere(step, _NEVER)
        old = self._old(step.stage, step.number)
        if old is None:
            if self._old_stage(step.stage) is None:
                if self._other_target:
                    return lost or self._built_elsewhere(step, _NEVER)
                return lost or self._built_elsewhere(step, Cause("new", f"stage {step.stage} is new"))
            return lost or self._built_elsewhere(step, Cause("new", "the instruction is new"))
        if old.key == step.key:
            return lost or (_EVICTED if self._shared is None else _NOT_SHARED)
        cause = self._difference(step, old)
        if lost is not None:
            return lost._replace(details=(f"other than in the last build: {cause.reason}", *cause.details))
        if self._cache.parts(step.key) is not None:
            more = f"it was built like this before, but {_GONE.replace('its', 'that')}"
            cause = cause._replace(details=(*cause.details, more))
        return cause

    def _lost(self, key: str) -> Cause | None:
        """That the very key had a result here, and what took it; None where nothing says so."""
        eviction = self._cache.eviction(key)
        if eviction is not None:
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(eviction.when))
            by = _TAKEN_BY.get(eviction.by, f"taken by {eviction.by}")
            return Cause("evicted", f"{_GONE}: {by}, {when}")
        return _DAMAGED if self._cache.get(key) is not None else None

    def _built_elsewhere(self, step: Step, cause: Cause) -> Cause:
        return _EVICTED if self._cache.parts(step.key) is not None else cause

    def _difference(self, step: Step, old: StepRow) -> Cause:
        before = self._before(old.key, step.parts)
        if before is None:
            return Cause("unknown", "what it was made of before is no longer known")
        env = self._env(step.stage)
        own = own_cause(before, step.parts, step.labels._replace(env=env), self._listing)
        if own is not None:
            base = self._own_base(step.stage) if own.kind in _FROM_BASE else None
            return own if base is None else base._replace(details=(*base.details, *own.details))
        return self._below(step.stage, step.number) or Cause("parent", "what it builds on changed")

    def _below(self, stage: str, number: int) -> Cause | None:
        """Why the filesystem that step `number` of `stage` starts from is not what it was."""
        new, old = self._new.get(stage), self._old_stage(stage)
        if new is None or old is None:
            return None
        cause = self._base(new, old)
        if cause is not None:
            return cause
        rows = {row.number: row for row in self._journal.of_stage(stage)}
        pairs = self._paired(stage)
        for earlier in range(number):
            row = rows.get(earlier)
            if row is None:
                continue
            cause = self._of_earlier(row, pairs)
            if cause is not None:
                return cause
        gone = [at for at in range(len(old.instructions)) if at not in pairs.values()]
        first = next((at for at in gone if at <= pairs.get(number, len(old.instructions))), None)
        if first is not None:
            text = _line(old.instructions[first])
            return Cause("follows", f"a step before it is gone: {text}", (f"- {text}",))
        again = next((rows[n] for n in range(number) if n in rows and not rows[n].hit), None)
        if again is not None:
            return Cause("follows", f"{again.name} ran again, with another result", _details(again.cause))
        return None

    def _of_earlier(self, row: StepRow, pairs: Mapping[int, int]) -> Cause | None:
        """What an earlier step of the stage has to do with it; None where it is as it was."""
        old = self._old(row.stage, row.number)
        if old is None:
            return Cause("follows", f"{row.name} is new", (f"+ {_line(row.instruction)}",))
        if old.key == row.key:
            return None
        before = self._before(old.key, row.parts or {})
        if before is None:
            own = row.cause
        else:
            labels = Labels(self._env(row.stage))
            own = own_cause(before, row.parts or {}, labels, self._listing)
            if own is not None and row.cause is not None and row.cause.kind == own.kind:
                own = row.cause
        if own is None:
            return None
        return Cause("follows", f"follows {row.name}: {own.reason}", own.details)

    def _env(self, stage: str) -> frozenset[str]:
        """The variables that ENV sets, or set in the last build; others are ARGs."""
        stages = (self._new.get(stage), self._old_stage(stage))
        return frozenset(name for one in stages if one is not None for name in one.env)

    def _own_base(self, stage: str) -> Cause | None:
        """The cause where the stage's FROM names something else than before, or what it names has moved."""
        new, old = self._new.get(stage), self._old_stage(stage)
        cause = self._base(new, old) if new is not None and old is not None else None
        return cause if cause is not None and cause.kind == "base" else None

    def _base(self, new: StageRow, old: StageRow) -> Cause | None:
        kind, _, name = new.base.partition(" ")
        old_kind, _, old_name = old.base.partition(" ")
        if kind == old_kind == "image":
            if name == old_name:
                return None
            now, _, digest = name.rpartition("@")
            then, _, old_digest = old_name.rpartition("@")
            moved = f"base {now} changed: {_short(old_digest)} → {_short(digest)}"
            if now != then:
                moved = f"the base changed: {then} → {now}"
            return Cause("base", moved, (f"- {old_name}", f"+ {name}"))
        if kind == old_kind == "stage":
            if self._renamed.get(name, name) != old_name:
                return Cause("base", f"the base changed: stage {old_name} → stage {name}")
            below = self._new.get(name)
            cause = self._below(name, len(below.instructions)) if below is not None else None
            if cause is None or cause.kind in ("follows", "base"):
                return cause
            return Cause("follows", f"follows stage {name}: {cause.reason}", cause.details)
        if new.base != old.base:
            return Cause("base", f"the base changed: {old.base or 'nothing'} → {new.base or 'nothing'}")
        return None

    def _old_stage(self, name: str) -> StageRow | None:
        return self._last.stage(self._renamed.get(name, name)) if self._last is not None else None

    def _old(self, stage: str, number: int) -> StepRow | None:
        """The step of the last build that this one was."""
        at = self._paired(stage).get(number)
        if at is None or self._last is None:
            return None
        name = self._renamed.get(stage, stage)
        return next((row for row in self._last.of_stage(name) if row.number == at), None)

    def _paired(self, stage: str) -> dict[int, int]:
        pairs = self._pairs.get(stage)
        if pairs is None:
            new, old = self._new.get(stage), self._old_stage(stage)
            pairs = aligned(old.instructions, new.instructions) if new is not None and old is not None else {}
            self._pairs[stage] = pairs
        return pairs


def _renamed(last: BuildRecord, stages: Sequence[StageRow]) -> dict[str, str]:
    """New name to old name for stages that were called otherwise: the target, and one that is left over."""
    old, new = {stage.name: stage for stage in last.stages}, {stage.name: stage for stage in stages}
    gone = [name for name in old if name not in new]
    come = [name for name in new if name not in old]
    found: dict[str, str] = {}
    for name in come:
        target = next((other for other in gone if old[other].target and new[name].target), None)
        if target is not None:
            found[name] = target
            gone.remove(target)
    left = [name for name in come if name not in found]
    if len(left) == 1 and len(gone) == 1:
        found[left[0]] = gone[0]
    return found


def _details(cause: Cause | None) -> tuple[str, ...]:
    return () if cause is None else cause.details


def _line(text: str) -> str:
    return text.split("\n", 1)[0]


def _short(digest: str) -> str:
    return digest.partition(":")[2][:12] or digest

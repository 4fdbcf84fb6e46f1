"""Where the files of a step go, whose they become and with which modes, as its flags say."""

from __future__ import annotations

from minibuild.context.place import Lower, Nothing, Owner, Placement
from minibuild.engine.contextcopy import Copying
from minibuild.engine.gathered import Gathered, TreeLower
from minibuild.errors import DockerfileError
from minibuild.plan import chmod


def placement_of(gathered: Gathered) -> Placement:
    """The step's layer before anything is in it."""
    step = gathered.step
    lower: Lower = Nothing() if step.link else gathered.lower
    octal = chmod.octal(step.chmod) if step.chmod else None
    return Placement(
        lower,
        owner=owner_for(step.chown, lower),
        chmod=chmod.changer(step.chmod) if step.chmod else None,
        folder_mode=0o755 if octal is None else octal,
        made_ns=gathered.made_ns,
        scratch=gathered.session.store.scratch,
    )


def owner_for(text: str, lower: Lower) -> Owner | None:
    if not text:
        return None
    from minibuild.engine.accounts import owner_of

    if isinstance(lower, TreeLower):
        owner, unknown = owner_of(text, lower.file)
        for name in unknown:
            lower.warn(f"{name!r} is not in the image's passwd or group file; root is used instead")
        return owner
    owner, unknown = owner_of(text, lambda path: None)
    if unknown:
        raise DockerfileError(
            f"--chown={text} names a user or group, and --link knows none",
            cure="Give numbers, or leave out --link.",
        )
    return owner


def copying_of(gathered: Gathered) -> Copying:
    return Copying(gathered.session, gathered.step.dest, lambda: placement_of(gathered), gathered.noted)

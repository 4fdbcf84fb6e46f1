"""What one more step costs does not depend on how many came before it: counted, in looks at layers."""

import pytest
from minibuild_store.store import Store

import minibuild
from minibuild.engine import layerforms
from minibuild.engine.filesystem import Filesystem
from minibuild.layers.tree import Tree

FEW, MANY = 60, 240
STEPS = {
    "new folders": "WORKDIR /w{}",
    "a folder far below": "WORKDIR /far",
    "new files": "COPY <<end /new/{}\nend",
    "one file again and again": "COPY <<end /again\n{}\nend",
    "owners by name": "COPY --chown=far <<end /new/{}\nend",
}


@pytest.fixture
def looks(monkeypatch):
    """How often layers were asked for, filesystems put together and trees made, since the last `clear`."""
    counted = []

    def count(owner, name):
        plain = getattr(owner, name)

        def counting(*arguments, **options):
            counted.append(name)
            return plain(*arguments, **options)

        monkeypatch.setattr(owner, name, counting)

    count(layerforms._Stack, "open")
    count(layerforms.Layers, "at_hand")
    count(Filesystem, "extended")
    count(Tree, "_lay")
    return counted


def build(folder, lines):
    folder.mkdir()
    (folder / "Dockerfile").write_text("\n".join(lines))
    with Store.open(folder / "store") as store:
        return minibuild.build(minibuild.BuildRequest(context=folder), store=store)


@pytest.mark.parametrize("after", [[], ["RUN never"]], ids=["", "before a RUN"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_four_times_the_steps_take_four_times_the_looks(tmp_path, looks, step, after):
    base = [
        "FROM scratch AS base",
        "COPY <<end /etc/passwd\nfar:x:7:8::/:/bin/sh\nend",
        "WORKDIR /far",
        "FROM base",
    ]
    took = {}
    for count in (FEW, MANY):
        looks.clear()
        lines = [*base, *(step.format(number) for number in range(count)), *after]
        if after:
            with pytest.raises(minibuild.MinibuildError):
                build(tmp_path / str(count), lines)
        else:
            build(tmp_path / str(count), lines)
        took[count] = len(looks)
    assert MANY < took[MANY] < 1.5 * (MANY / FEW) * took[FEW]


def test_trees_that_newer_ones_replaced_are_let_go(tmp_path, monkeypatch):
    held = []
    extended = Filesystem.extended

    def noting(self, layer):
        held.append(len(self.seen.known[0]) if self.seen.known else 0)
        return extended(self, layer)

    monkeypatch.setattr(Filesystem, "extended", noting)
    kept = []
    plain = layerforms.Layers.tree

    def tree(self, filesystem):
        made = plain(self, filesystem)
        kept.append(len(self._trees))
        return made

    monkeypatch.setattr(layerforms.Layers, "tree", tree)
    build(tmp_path / "context", ["FROM scratch", *(f"WORKDIR /w{number}" for number in range(MANY))])
    assert max(held) > MANY - 20
    assert max(kept) == 1

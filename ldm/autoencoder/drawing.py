"""Batches of drawn pictures, by whoever is asked: this thread, another or a process."""

from dataclasses import dataclass

from ldm.autoencoder.columns import Batch, draw_pictures, drawn_columns
from ldm.autoencoder.config import Latents
from ldm.data.shards import Images

INPUTS = ("pixels", "mask", "grey")
"""Columns that networks read."""


@dataclass(frozen=True)
class Drawing:
    """Decodes pictures of a split and draws what needs no network: on any thread, and in any process.

    From another process torch hands tensors over in shared memory: through a pipe each batch would come in hundreds of
    pieces, and this process's other threads would hold up every one of them.
    """

    config: Latents
    images: Images
    training: bool

    def __call__(self, places: range) -> Batch:
        """The rows at `places` of those in order of (id, draw)."""
        rows = draw_pictures(self.config, self.images, places, self.training)
        columns = {name: make(rows) for name, make in drawn_columns(self.config).items()}
        return Batch(
            ids=[row.example.id for row in rows],
            draws=[row.draw for row in rows],
            labels=[-1 if row.example.label is None else row.example.label for row in rows],
            captions=[row.example.caption for row in rows],
            columns=columns,
            inputs={name: columns[name] for name in INPUTS if name in columns},
        )

"""How many values an image makes on its way through a graph: what a budget of memory is divided by."""

from functools import cached_property

from torch import Tensor

from wallcheck.graph import reach
from wallcheck.graph._nodes import data_nodes


class Sized:
    """The sizes of a `BlindGraph`, which has this as its base."""

    @cached_property
    def widest(self) -> int:
        """Values of the largest map that the visible part of one image makes on its way to the head."""
        tall, wide = (len(range(*s.indices(n))) / n for s, n in zip(self.visible, self.image_size, strict=True))
        return max(1, int(self.widest_whole * tall * wide))

    @cached_property
    def widest_whole(self) -> int:
        """Values of the largest map that one image makes."""
        return max(self._sizes, default=1)

    @cached_property
    def kept(self) -> int:
        """Values that a backward through the visible part of one image keeps, in units of `Evidence.chunk`, which counts three
        for one."""
        return max(1, self.kept_whole * self.widest // self.widest_whole)

    @cached_property
    def kept_whole(self) -> int:
        """The same of a whole image: half of all values (what a rectifier is given is not kept), and one layer at work."""
        return self.widest_whole + sum(self._sizes) // 6

    @cached_property
    def traced_whole(self) -> int:
        """Values that `Evidence.traced` takes of one image, in the same units, and that are there at the end: two for each."""
        return self.kept_whole + 2 * sum(self._sizes) // 3

    @cached_property
    def staged_whole(self) -> int:
        """The same of the last layer of each resolution alone."""
        held = sum(
            step.form.channels * step.form.grid[0] * step.form.grid[1]
            for step in map(self.steps.__getitem__, self.last_steps)
        )
        return self.kept_whole + 2 * held // 3

    @cached_property
    def _sizes(self) -> list[int]:
        """Values of each map that one image makes."""
        graph = self.walled.graph
        reach.shaped(self.run, graph.colours, self.image_size)
        values = [node.meta["val"] for node in data_nodes(graph.fx, [graph.images]) if node is not graph.images]
        return [int(v.numel()) // reach.BATCH for v in values if isinstance(v, Tensor)]

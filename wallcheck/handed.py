"""Maps as another library hands them over: which view they are is measured, and what the view added is kept apart.

A library may hand over signed or rectified maps, stretch them to [0, 1], enlarge them from the cells to the image. Stretching lifts
zero above 0 where a map has negative values, enlarging smears the last seen cell past the wall: neither is what the method says.
So enlarging is undone where it is found to be that, and a lift is taken off where all that is unseen has one and the same value.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from wallcheck.maps import upsample
from wallcheck.metrics import Metric
from wallcheck.models import BlindNet
from wallcheck.regions import On, regions_on

ENLARGED: dict[str, dict[str, Any]] = {  # how libraries enlarge -> interpolate's arguments
    "bilinear": dict(mode="bilinear", align_corners=False),
    "bilinear with aligned corners": dict(mode="bilinear", align_corners=True),
    "bicubic": dict(mode="bicubic", align_corners=False),
}  # by nearest neighbour nothing is smeared, and maps made of tiles of the image look like it
FITS = 1e-4  # of a map's range: enlarged maps are met within 1e-6 in float32, others miss by a tenth
VALUED = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N", "F", "RGB")  # modes of PIL
ENDS = 1e-6  # of [0, 1]: libraries divide by their maximum plus 1e-7 or 1e-8
LEVEL = 1e-5  # of the range: how far one and the same value may spread by rounding


@dataclass(frozen=True)
class Handed:
    """Maps of images as they came, and what is the method's own.

    came (B, h, w) on `on`; own (B, h', w') on `grid`, with a lift (B,) taken off; lifted: own before that. facts: what was found,
    for the reader.
    """

    came: Tensor
    on: On
    own: Tensor
    lifted: Tensor
    grid: On
    lift: Tensor
    facts: tuple[str, ...]

    def leakage(self, metric: Metric) -> Tensor:
        """(B,): the method's own."""
        return leakage(metric, self.own, self.grid)

    def parts(self, metric: Metric, size: tuple[int, int], pixels: On) -> dict[str, Tensor]:
        """came: leakage of the maps as they came. artefact: what stretching a signed map added. bleed: what enlarging alone shows on
        unseen pixels, of maps that were enlarged from the cells. Each (B,)."""
        own, bleed = self.leakage(metric), torch.zeros(len(self.own), dtype=torch.float64)
        if self.enlarged:
            confined = self.own.clamp(min=0).masked_fill(self.grid.unseen, 0)
            bleed = leakage(metric, upsample(confined, size), pixels)
        return dict(
            came=leakage(metric, self.came, self.on),
            artefact=leakage(metric, self.lifted, self.grid) - own,
            bleed=bleed.cpu(),
        )

    def cleared(self, rows: Tensor) -> "Handed":
        """With the maps of some rows (B,) empty: those that are NaN or infinite, which is told elsewhere."""
        kept = {name: getattr(self, name) for name in ("came", "own", "lifted")}
        return replace(self, **{name: maps.masked_fill(rows[:, None, None], 0) for name, maps in kept.items()})

    def part(self, rows: list[int]) -> "Handed":
        """Of some of the images."""
        some = {name: getattr(self, name)[rows] for name in ("came", "own", "lifted", "lift")}
        return replace(self, **some)

    @property
    def enlarged(self) -> bool:
        return self.own.shape != self.came.shape


def leakage(metric: Metric, maps: Tensor, on: On) -> Tensor:
    """(B,) of the positive part of maps on their positions; NaN for an empty map."""
    return metric(maps.clamp(min=0), on.unseen, on.counted).cpu()


def one_value(
    found: object, count: int, size: tuple[int, int], cells: tuple[int, int] = (0, 0)
) -> tuple[Tensor, tuple[str, ...]]:
    """Maps (B, h, w) in floating point of what an explainer returned, and what was done for it.

    A tensor or an array (B, h, w), (B, 1, h, w), (B, C, h, w) or (B, H, W, C), whose channels are summed; one of these in a list;
    a list of one map or PIL image for each image. size, cells: of image and grid, by which channels that come last are known.
    Raises TypeError or ValueError for anything else.
    """
    found = _together(found, count)
    if isinstance(found, (np.ndarray, np.generic)):
        found = _from_array(found)
    if not isinstance(found, Tensor) or found.is_complex():
        got = found.dtype if isinstance(found, (Tensor, np.ndarray)) else type(found).__name__
        raise TypeError(
            f"got {got}, expected a tensor or an array of one map (h, w) for each image; return the maps alone"
        )
    maps = found.detach().to_dense() if found.layout != torch.strided else found.detach()
    maps = maps if maps.is_floating_point() else maps.float()
    if (
        maps.ndim == 2 and count == 1 and (len(maps) > 1 or 1 in (size[0], cells[0]))
    ):  # one row for many is a flattened map
        maps = maps[None]
    if maps.ndim not in (3, 4) or len(maps) != count or not maps.numel():
        raise ValueError(
            f"got {tuple(found.shape)} for {count} images, expected a map for each: ({count}, h, w) or ({count}, C, h, w)"
        )
    if maps.ndim == 3:
        return maps, ()
    axis = 3 if _channels_last(maps, size, cells) else 1
    if maps.shape[axis] == 1:
        return maps.squeeze(axis), ()
    return maps.sum(axis), (f"summed over {maps.shape[axis]} channels",)


def _together(found: object, count: int) -> object:
    """What stands alone in lists, or lists of one map for each image as one tensor or array; anything else as it is."""
    while isinstance(found, (list, tuple)) and len(found) == 1:
        (found,) = found
    for one in found if isinstance(found, (list, tuple)) else [found]:
        _check_picture(one)
    if not isinstance(found, (list, tuple)):
        picture = hasattr(found, "__array_interface__") and not isinstance(found, (np.ndarray, np.generic))
        return np.asarray(found) if picture else found
    if count == 1 and all(isinstance(row, (list, tuple)) for row in found):  # the rows of one map
        found = [found]
    one_each = [each.detach().cpu() if isinstance(each, Tensor) else each for each in found]
    if len(found) != count or any(each is None or isinstance(each, (str, dict)) for each in one_each):
        return found
    try:
        arrays = [np.asarray(each) for each in one_each]
        alone = all(each.ndim == 2 or (each.ndim == 3 and each.shape[0] != count) for each in arrays)
        return np.stack(arrays) if alone else found
    except (ValueError, TypeError):  # of different shapes, or no numbers
        return found


def _check_picture(one: object) -> None:
    """Raise ValueError for a PIL image whose numbers are not values: places in a palette, or how opaque it is."""
    mode = getattr(one, "mode", None) if hasattr(one, "getbands") else None
    if mode is not None and mode not in VALUED:
        raise ValueError(f"got a picture of mode {mode}, expected a value at each place; return it as .convert('L')")


def _from_array(array: np.ndarray | np.generic) -> Tensor | np.ndarray | np.generic:
    """An array of numbers as a tensor, whatever its bytes' order and width; one of anything else as it is."""
    if np.ma.isMaskedArray(array):
        raise TypeError(
            "got a masked array, expected a value at each place; say what is behind the mask, as by .filled(0)"
        )
    if array.dtype.kind not in "biufc":
        return array
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    native = np.dtype(np.float64) if wide else array.dtype.newbyteorder("=")
    array = np.ascontiguousarray(array, native)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _channels_last(maps: Tensor, size: tuple[int, int], cells: tuple[int, int]) -> bool:
    """Are maps (B, ?, ?, ?) of (B, h, w, C)? They are where h and w are the image's or the grid's, and C is few."""
    first, last = tuple(maps.shape[1:3]), tuple(maps.shape[2:4])
    known = (tuple(size), tuple(cells))
    alone = last[1] == 1 and 1 not in first  # a map one position wide is none, where neither image nor grid are
    return (maps.shape[3] <= 4 and first in known and last not in known) or (alone and 1 not in (size[1], cells[1]))


def seen(maps: Tensor, net: BlindNet, grid: str | None = None, raw: bool = False) -> Handed:
    """Measure the view of maps (B, h, w) of images on net; they are not changed.

    grid: "cells" where they are known to be of cells or enlarged from them, "pixels" where not; None finds out. raw: they are known
    not to be stretched. Raises ValueError for maps on "cells" that are neither.
    """
    on = regions_on(net, maps.shape[-2:], maps.device, grid)
    came = on.placed(maps)
    cells, told = _of_cells(maps, net, grid) if on.unit == "pixels" else (maps, f"on the {_by(maps)} cells")
    if cells is None:
        whole = tuple(maps.shape[-2:]) == net.image_size
        told = (
            "on pixels"
            if whole
            else f"{_by(maps)}, laid over the {net.image_size[0]} x {net.image_size[1]} pixels unsmoothed"
        )
        lifted, where = came, on
    else:
        lifted, where = cells, regions_on(net, cells.shape[-2:], maps.device)
    own, lift = (lifted, maps.new_zeros(len(maps))) if raw else _without_lift(maps, lifted, where)
    return Handed(came, on, own, lifted, where, lift, (told, _sign(maps), *_stretch(maps)))


def grid_of(maps: Tensor, net: BlindNet) -> str:
    """ "cells" or "pixels": what maps of a few images are on, enlarging undone."""
    return seen(maps, net).grid.unit


def _by(maps: Tensor) -> str:
    return f"{maps.shape[-2]} x {maps.shape[-1]}"


# -- enlarged from the cells ----------------------------------------------------------------------


def _of_cells(maps: Tensor, net: BlindNet, grid: str | None) -> tuple[Tensor | None, str]:
    """The maps on cells that these were enlarged from, and how; None where they were not."""
    shape, size = tuple(net.wall.seen.shape), tuple(maps.shape[-2:])
    if grid == "pixels" or size != tuple(net.image_size) or size[0] <= shape[0] or size[1] <= shape[1]:
        found = None
    else:
        found = _shrunk(maps, shape, grid == "cells")
    if found is None and grid == "cells":
        raise ValueError(
            f"maps of the first images were on cells {shape}, or enlarged from them; these are {_by(maps)} and were not, so that they "
            f"cannot be set side by side; hand over maps of one kind"
        )
    return found if found is not None else (None, "")


def _shrunk(maps: Tensor, shape: tuple[int, int], flat_too: bool) -> tuple[Tensor, str] | None:
    span = maps.double().amax((1, 2)) - maps.double().amin((1, 2))
    varied = (span > 0) & span.isfinite()
    judged, widest = maps.double()[varied].cpu(), span[varied].cpu()
    if not (len(judged) or flat_too):
        return None  # a constant map was enlarged from anything
    for name in ENLARGED:
        down, across = (_enlarging(*pair, name) for pair in zip(shape, maps.shape[-2:], strict=True))
        back = torch.linalg.pinv(down) @ judged @ torch.linalg.pinv(across).T
        missed = (down @ back @ across.T - judged).abs().amax((1, 2))
        if (missed <= FITS * widest).all():
            cells = torch.linalg.pinv(down) @ maps.double().cpu() @ torch.linalg.pinv(across).T
            cells = cells.to(maps.device, maps.dtype).masked_fill(_empty(maps, down, across), 0)
            if name != "bicubic":  # means of cells: none was negative, so no cell was either
                cells = cells.clamp(min=0).where((maps.amin((1, 2)) >= 0)[:, None, None], cells)
            return cells, f"enlarged from the {shape[0]} x {shape[1]} cells ({name}), undone here"
    return None


@lru_cache(maxsize=32)
def _enlarging(cells: int, pixels: int, name: str) -> Tensor:
    """(pixels, cells) of one axis, in double precision."""
    unit = torch.eye(cells, dtype=torch.float64)[None, None]
    how = ENLARGED[name]
    return interpolate(unit, (pixels, cells), **how)[0, 0]


def _empty(maps: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """(B, h, w): cells that are exactly 0, because a pixel that they weigh on is. Nothing where as few pixels are 0 as one cell
    has, which is what stretching leaves of a minimum."""
    zero = maps == 0
    many = zero.sum((1, 2)) > _of_one_cell(maps.shape[-2:], (down.shape[1], across.shape[1]))
    weighs = [(each != 0).to(maps.device, torch.float32) for each in (down, across)]
    hit = (weighs[0].T @ zero.float() @ weighs[1]) > 0
    return hit & many[:, None, None]


def _of_one_cell(size: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return -(-size[0] // shape[0]) * -(-size[1] // shape[1])


# -- stretched to [0, 1] --------------------------------------------------------------------------


def _stretched(maps: Tensor) -> Tensor:
    """(B,): runs from 0 to 1."""
    low, high = maps.amin((1, 2)), maps.amax((1, 2))
    return (low.abs() <= ENDS) & ((high - 1).abs() <= ENDS)


def _without_lift(maps: Tensor, lifted: Tensor, on: On) -> tuple[Tensor, Tensor]:
    """lifted without the value that stretching gave to zero, and that value (B,), 0 where there is none to be found.

    A signed map that was stretched has its minimum alone at 0; where the net is blind to it, a method that says nothing of the
    unseen leaves one value on all of it.
    """
    lift = torch.zeros(len(maps), dtype=lifted.dtype, device=lifted.device)
    if not on.unseen.any():
        return lifted, lift
    alone = (maps == 0).sum((1, 2)) <= max(1, _of_one_cell(tuple(maps.shape[-2:]), tuple(lifted.shape[-2:])))
    behind = lifted[:, on.unseen]
    level, spread = behind.amax(1), behind.amax(1) - behind.amin(1)
    is_lift = _stretched(maps) & alone & (spread <= LEVEL) & (level > LEVEL) & (level < 1 - LEVEL)
    lift = torch.where(is_lift, level, lift)
    own = (lifted - lift[:, None, None]).masked_fill(is_lift[:, None, None] & on.unseen, 0)
    return own, lift


def _sign(maps: Tensor) -> str:
    return "signed" if (maps < 0).any() else "never negative: rectified, stretched, or without sign"


def _stretch(maps: Tensor) -> tuple[str, ...]:
    varied = maps.amax((1, 2)) > maps.amin((1, 2))
    return ("stretched to [0, 1]",) if varied.any() and _stretched(maps)[varied].all() else ()

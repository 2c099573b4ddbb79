"""A network's architecture with fresh weights, whatever built the network."""

from inspect import signature

from wallcheck.models._blind import BlindNet
from wallcheck.models._opening import builder_of, opened_with
from wallcheck.models._vgg import initialised
from wallcheck.models._walling import blind_again


def untrained(net: BlindNet, seed: int = 0) -> BlindNet:
    """The same architecture, behind the same wall, with weights drawn from the seed alone, in eval mode.

    Of a model that `opened` built, the model is built again: by its constructor's own `seed` where it takes one, else with torch's
    generator started from the seed. Raises ValueError for a net without a description.
    """
    if not (net.description or {}).get("builder"):
        raise ValueError(
            "this net has no description to build another from; build it with wallcheck.models.vgg, or open the model with "
            "wallcheck.models.opened before blind"
        )
    if net.description["builder"] != "blind":
        return initialised(net.description, seed).eval()
    name, options = net.description["model"], dict(net.description["options"])
    if "seed" in options or "seed" in signature(builder_of(name)).parameters:
        options["seed"] = seed
    return blind_again(opened_with(name, options, seed=seed), net.description).eval()

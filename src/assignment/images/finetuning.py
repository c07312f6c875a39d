"""The second way: the network itself goes on learning, on the images.

Every choice is in one small config, a `Plan`, and `records` is asked for a run that made the same.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from torch import Tensor, nn

from assignment.common import records, runtime
from assignment.common.records import Outcome
from assignment.common.runtime import Mode
from assignment.images import pixels, resnet, training
from assignment.images.cifar10 import Cifar10
from assignment.images.features import size_here
from assignment.images.recipe import Recipe
from assignment.images.transfer import Answer, answered, identity, learned, quick, seen


@dataclass(frozen=True)
class Plan:
    """How a network is trained on the images themselves.

    Attributes
    ----------
    recipe : Recipe
    sizes : tuple of int
        Pixels a side, epoch by epoch; the last one stays for the epochs that are left.
    judged : int, optional
        Pixels a side whenever the network is judged; the last of `sizes` where not given.
    trained : str
        The first part that learns, see `resnet.classifier`.
    pretrained : bool
    shift : int
        How far, in stored pixels, an image is moved at most before it is enlarged.
    """

    recipe: Recipe
    sizes: tuple[int, ...] = (64,)
    judged: int | None = None
    trained: str = "all"
    pretrained: bool = True
    shift: int = 4

    def look(self, images: Tensor, moment: training.Moment | None) -> Tensor:
        """uint8 [N, 3, 32, 32] to network input, mirrored and shifted while training."""
        small, size = pixels.scale(images), self.judged or self.sizes[-1]
        if moment is not None:
            small = pixels.augment(small, moment.generator, self.shift)
            size = self.sizes[min(moment.epoch, len(self.sizes) - 1)]
        shown = pixels.resize(pixels.normalise(small), size_here(size))
        return resnet.laid_out(shown, shown.device)


# For the impatient: about ten minutes on two cores of a laptop without bfloat16.
IMPATIENT = Plan(Recipe(epochs=2, lr=0.01, smoothing=0.1), sizes=(48,))


def finetune(
    name: str, data: Cifar10, plan: Plan, first: int | None = None, final: bool = False
) -> Answer:
    """Train the network on images, or load the run that did; parameters as in `frozen.head`."""
    plan = replace(plan, recipe=quick(plan.recipe, most=3 if final else 1))
    config = identity(data, first, final) | {"plan": asdict(plan)}

    def network(backbone: resnet.Backbone) -> nn.Module:
        made = resnet.classifier(
            backbone, len(data.classes), plan.trained, plan.pretrained, plan.recipe.seed
        )
        return resnet.placed(made, runtime.device())

    def run() -> Outcome:
        backbone = resnet.load()
        splits = seen(data, first, final)
        checkpoint = None
        if runtime.mode() is not Mode.SAMPLE:
            known = json.dumps([config, backbone.source.sha256], sort_keys=True).encode()
            checkpoint = (
                records.runs_folder() / f"{name}-{hashlib.sha256(known).hexdigest()[:16]}.pt"
            )
        return learned(
            network(backbone), splits, plan.recipe, plan.look, backbone, final, checkpoint
        )

    def estimate() -> float:
        train = seen(data, first, final)["train"]
        return training.seconds(network(resnet.load()), train, plan.recipe, plan.look)

    return answered(records.run_or_load(name, config, run, estimate, quiet=True), data)

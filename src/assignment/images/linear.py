"""A linear layer, the features that it reads, and its distance from the optimum.

Regularised logistic regression is convex: another program must find the same lowest loss.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from assignment.common.settings import AssignmentError
from assignment.images.cifar10 import Split
from assignment.images.features import FEATURE_NAMES, Preprocessing, cached_features, size_for_mode
from assignment.images.pixels import IMAGENET, Statistics
from assignment.images.resnet import Backbone


@dataclass(frozen=True)
class FeatureSet:
    """Which features of an image are used: of these stages at these sizes, side by side."""

    sizes: tuple[int, ...] = (224,)
    stages: tuple[str, ...] = ("layer4",)
    mirror: bool = False  # every feature is the mean of the image's and its mirror image's
    statistics: Statistics = IMAGENET

    def __post_init__(self) -> None:
        if unknown := set(self.stages) - FEATURE_NAMES:
            raise AssignmentError(f"No features {unknown}; choose from {sorted(FEATURE_NAMES)}.")

    def all_inputs(self) -> list[Preprocessing]:
        """Return every way in which an image is given to the network."""
        sides = (False, True) if self.mirror else (False,)
        ways = [(size_for_mode(size), mirrored) for size in self.sizes for mirrored in sides]
        return [Preprocessing(*way, self.statistics) for way in ways]

    def cost(self, images: int) -> float:
        """Estimate what the features of so many images take, see `resnet.forward_cost`."""
        return sum(each.cost(images) for each in self.all_inputs())

    def compute(self, backbone: Backbone, images: Tensor) -> Tensor:
        """Return the features of images uint8 [N, 3, S, S], float32 [N, D]."""
        found = [cached_features(backbone, images, way, self.stages) for way in self.all_inputs()]
        if self.mirror:
            found = [(seen + back) / 2 for seen, back in zip(found[::2], found[1::2], strict=True)]
        return torch.cat(found, dim=1)


class SoftmaxRegression(nn.Module):
    """Multinomial logistic regression: one linear layer, trained with the cross-entropy.

    The features are standardised by the mean and standard deviation of the training images: they
    differ in scale, and one learning rate and one weight decay must suit them all.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, classes: int = 10) -> None:
        super().__init__()
        columns = features.cpu().split(256, dim=1)  # in turn: all at once would be twice as large
        # In float64: in float32 the mean of a constant need not be the constant.
        mean = torch.cat([part.double().mean(0) for part in columns])
        deviation = torch.cat([part.double().std(0) for part in columns])
        self.register_buffer("mean", mean.to(features))
        self.register_buffer("deviation", deviation.clamp(min=1e-6).to(features))
        self.linear = nn.Linear(features.shape[1], classes, device=features.device)
        nn.init.zeros_(self.linear.weight)  # the loss is convex: any start leads to its optimum
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, D] to logits [N, classes]."""
        standardised: Tensor = (features - self.mean) / self.deviation
        return self.linear(standardised)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OptimalityGap:
    """The objective, mean cross-entropy plus penalty, as trained and as scikit-learn solves it."""

    reached: float
    optimum: float
    agreement: float  # share of other images for which both layers predict the same class

    @property
    def gap(self) -> float:
        """How far above the optimum the layer is."""
        return self.reached - self.optimum


def optimality_gap(
    layer: SoftmaxRegression, train: Split, others: Split, weight_decay: float
) -> OptimalityGap:
    """Solve the same problem with scikit-learn: the penalty is half the decay times ||W||^2."""
    if weight_decay <= 0 or layer.linear.out_features < 3:
        raise ValueError("scikit-learn solves the same problem for weight_decay > 0 and 3+ classes")
    from sklearn.linear_model import LogisticRegression  # half a second that few readers need

    layer, optimum = copy.deepcopy(layer).cpu(), copy.deepcopy(layer).cpu()
    train, others = (split.to(torch.device("cpu")) for split in (train, others))
    solver = LogisticRegression(C=1 / (weight_decay * len(train)), tol=1e-6, max_iter=3000)
    standardised = (train.images - layer.mean) / layer.deviation
    solver.fit(standardised.double().numpy(), train.labels.numpy())
    optimum.linear.weight.data.copy_(torch.from_numpy(solver.coef_))
    optimum.linear.bias.data.copy_(torch.from_numpy(solver.intercept_))
    same = layer(others.images).argmax(1) == optimum(others.images).argmax(1)
    objectives = []
    for model in (layer.double(), optimum.double()):
        loss = functional.cross_entropy(model(train.images.double()), train.labels)
        objectives.append((loss + weight_decay / 2 * model.linear.weight.square().sum()).item())
    return OptimalityGap(objectives[0], objectives[1], same.double().mean().item())

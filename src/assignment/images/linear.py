"""A linear layer and the features that it reads; and proof that the layer is at its optimum.

Regularised logistic regression is convex: it has one lowest loss, which another program must find
too. Whatever is left between the two is a matter of training, not of the model.
"""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from assignment.images import features
from assignment.images.cifar10 import Split
from assignment.images.features import Preprocessing, size_for_mode
from assignment.images.pixels import IMAGENET, Statistics
from assignment.images.resnet import Backbone


@dataclass(frozen=True)
class FeatureSet:
    """Which features of an image are read: of these stages at these sizes, side by side.

    Attributes
    ----------
    sizes : tuple of int
        Pixels a side.
    stages : tuple of str
        See `features.pooled_features`.
    mirror : bool
        Whether every feature is the mean of the image's and its mirror image's.
    statistics : pair of triples
        What pixels are normalised with.
    """

    sizes: tuple[int, ...] = (224,)
    stages: tuple[str, ...] = ("layer4",)
    mirror: bool = False
    statistics: Statistics = IMAGENET

    def views(self, size: int) -> list[Preprocessing]:
        """Return how an image is shown at one of the sizes."""
        view = Preprocessing(size_for_mode(size), statistics=self.statistics)
        return [view, replace(view, mirrored=True)] if self.mirror else [view]

    def all_views(self) -> list[Preprocessing]:
        """Return every way in which an image is shown."""
        return [view for size in self.sizes for view in self.views(size)]

    def read(self, backbone: Backbone, images: Tensor) -> Tensor:
        """Return the features of images, float32 [N, D]."""
        columns = []
        for size in self.sizes:
            seen = [features.cached_features(backbone, images, view) for view in self.views(size)]
            columns += [torch.stack([s[stage] for s in seen]).mean(0) for stage in self.stages]
        return torch.cat(columns, dim=1)


class SoftmaxRegression(nn.Module):
    """Multinomial logistic regression: one linear layer, whose loss is the cross-entropy.

    The features are standardised first, by the mean and deviation of the training images: they
    differ in scale, and one learning rate and one penalty must suit them all.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor, classes: int = 10) -> None:
        super().__init__()
        wide = features.cpu().double()  # in float32 the mean of a constant need not be the constant
        self.register_buffer("mean", wide.mean(0).to(features))
        self.register_buffer("deviation", wide.std(0).clamp(min=1e-6).to(features))
        self.linear = nn.Linear(features.shape[1], classes)
        nn.init.zeros_(self.linear.weight)  # the loss is convex: where it starts does not matter
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, D] to logits [N, classes]."""
        standardised: Tensor = (features - self.mean) / self.deviation
        return self.linear(standardised)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class OptimalityGap:
    """A trained layer against the optimum of the same objective.

    Attributes
    ----------
    reached, lowest : float
        Mean cross-entropy plus penalty, of the layer and at scikit-learn's optimum.
    agreement : float
        Share of other images for which both predict the same class.
    """

    reached: float
    lowest: float
    agreement: float


def optimality_gap(
    layer: SoftmaxRegression, train: Split, others: Split, weight_decay: float
) -> OptimalityGap:
    """Solve the same problem with scikit-learn: the penalty is half the decay times ||W||^2.

    Parameters
    ----------
    layer : SoftmaxRegression
    train : Split
        The features that the layer learned from, with labels.
    others : Split
        Images to compare predictions on.
    weight_decay : float
    """
    if weight_decay <= 0 or layer.linear.out_features < 3:
        raise ValueError("a certificate needs a weight decay above zero and three classes or more")
    from sklearn.linear_model import LogisticRegression  # half a second that few readers need

    layer = copy.deepcopy(layer).cpu()
    train, others = (split.to(torch.device("cpu")) for split in (train, others))
    solver = LogisticRegression(C=1 / (weight_decay * len(train)), tol=1e-6, max_iter=3000)
    standardised = (train.images - layer.mean) / layer.deviation
    solver.fit(standardised.double().numpy(), train.labels.numpy())
    optimum = copy.deepcopy(layer)
    with torch.no_grad():
        optimum.linear.weight.copy_(torch.from_numpy(solver.coef_))
        optimum.linear.bias.copy_(torch.from_numpy(solver.intercept_))
        same = layer(others.images).argmax(1) == optimum(others.images).argmax(1)
    return OptimalityGap(
        reached=_objective(layer, train, weight_decay),
        lowest=_objective(optimum, train, weight_decay),
        agreement=same.double().mean().item(),
    )


@torch.no_grad()
def _objective(layer: SoftmaxRegression, train: Split, weight_decay: float) -> float:
    layer = copy.deepcopy(layer).double()
    loss = functional.cross_entropy(layer(train.images.double()), train.labels)
    return (loss + weight_decay / 2 * layer.linear.weight.square().sum()).item()

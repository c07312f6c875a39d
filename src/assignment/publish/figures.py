"""The README's picture: what the finetuned network says, and how well films are recommended."""

from assignment.common.figures import BLUE, GREY, Figure, new_figure, styled
from assignment.images import cifar10
from assignment.images.experiments import read_result
from assignment.images.figures import SHORT
from assignment.images.predictions import most_confident, top_correct
from assignment.publish.readme import kept, recall_by_method

EACH = 4  # images of each kind


@styled
def readme_picture() -> Figure:
    """Draw a strip of test images with their predictions above the recall of every method."""
    tuned, splits = kept("finetune", final=True)[0], kept("held_out")
    found, data = read_result(tuned).predictions["test"], cifar10.load()
    recall = dict(reversed(recall_by_method(splits).items()))
    worst, *_, best = recall
    figure = new_figure(
        7, 4.3, "Above: the finetuned network's most confident right prediction for each of "
        f"{EACH} classes of CIFAR-10, and its {EACH} most confident wrong ones. Below: recall@10 "
        f"by method, from {recall[worst]:.3f} ({worst}) to {recall[best]:.3f} ({best}).",
    )  # fmt: skip
    figure.records = ", ".join(f"{run.name} {run.checksum[:16]}" for run in (tuned, *splits))
    above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=(1, 1.7)).flat
    above.suptitle("CIFAR-10: what the finetuned network says, and how sure it is")
    images = [top_correct(found, label)[0] for label in range(EACH)]
    images += most_confident(found, ~found.correct, EACH)
    names = [SHORT.get(name, name) for name in data.classes]
    for axes, image in zip(above.subplots(1, 2 * EACH), images, strict=True):
        axes.imshow(data.test.images[image].permute(1, 2, 0).numpy())
        sure = found.log_confidence[image].exp()
        axes.set_title(f"{names[found.predicted[image]]} {sure:.0%}", fontsize=9)
        if not found.correct[image]:
            axes.set_xlabel(f"is {names[found.labels[image]]}", weight="bold")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    chart = below.subplots()
    colours = [BLUE if name.startswith("embeddings") else GREY for name in recall]
    bars = chart.barh(list(recall), list(recall.values()), color=colours)
    chart.bar_label(bars, fmt="%.3f", padding=3)
    chart.set(title="MovieLens: how many hidden likes are found", xlabel="recall@10")
    chart.set(xlim=(0, 1.15 * recall[best]))
    chart.grid(visible=False, axis="y")
    return figure

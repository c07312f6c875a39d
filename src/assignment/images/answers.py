"""The answers of the CIFAR-10 notebook, a line for each question, from the runs that are kept."""

from collections.abc import Sequence

from assignment.common.runs import duration
from assignment.common.tables import Notice, answers_table
from assignment.images import predictions
from assignment.images.cifar10 import Cifar10
from assignment.images.experiments import (
    Plan,
    Result,
    finetune,
    label_audit,
    linear_probe,
    mean_accuracy,
    spread,
    total_seconds,
)
from assignment.images.labels import AUDITED
from assignment.images.linear import FeatureSet
from assignment.images.training import Recipe


def answers(
    data: Cifar10, features: FeatureSet, logistic: Recipe, plan: Plan, seeds: Sequence[int]
) -> Notice:
    """Answer each question in a line, for what the notebook chose; no run is started."""

    def frozen() -> Result:
        return linear_probe(data, features, logistic, final=True)

    def tuned() -> list[Result]:
        return [finetune(data, plan.vary(seed=seed), final=True) for seed in seeds]

    def accuracy(results: Sequence[Result]) -> str:
        mean, images = mean_accuracy(results), len(results[0].predictions["test"].labels)
        low, high = predictions.wilson_interval(mean, images)
        interval = f"95 % interval over images {low:.2%} to {high:.2%}"
        return f"**{mean:.2%}**{spread(results)} of the test images ({interval})"

    def compared() -> predictions.Comparison:
        return predictions.compare(frozen().predictions["test"], tuned()[0].predictions["test"])

    def cost() -> str:
        times = [[frozen()], tuned()]
        minutes = [duration(sum(map(total_seconds, each)) / len(each)) for each in times]
        learned = [f"{each[0].facts['trainable parameters']:,}" for each in times]
        return (
            f"{minutes[0]} and {learned[0]} parameters frozen, {minutes[1]} and {learned[1]} "
            f"finetuned, on {times[1][0].facts['device']}"
        )

    def disputed() -> str:
        counts = label_audit(data, [frozen(), tuned()[0]])["counts"]
        (some, errors), (right, images) = (counts[1][AUDITED.index(n)] for n in AUDITED[:3:2])
        return (
            f"{some} of {errors} errors of the finetuned network are on labels that human raters "
            f"reject; with these corrected or left out it reaches {right / images:.2%}"
        )

    return answers_table({
        "1.2a Frozen features and logistic regression": [
            ("How far do frozen features carry?", lambda: accuracy([frozen()])),
        ],
        "1.3a Finetuning": [("How far does finetuning get?", lambda: accuracy(tuned()))],
        "1.3c Comparison": [
            (
                "What does finetuning correct?",
                lambda: (
                    f"{1 - (1 - mean_accuracy(tuned())) / (1 - frozen().accuracy('test')):.0%} of "
                    f"the errors go; {len(compared().corrected)} images are corrected, "
                    f"{len(compared().lost)} lost (seed {seeds[0]})"
                ),
            ),
            ("What does it cost?", cost),
        ],
        "1.6 How far the confidences can be trusted": [("Are the errors errors?", disputed)],
    })  # fmt: skip

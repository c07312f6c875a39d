"""The answers of the CIFAR-10 notebook, a line for each question, from the runs that are kept."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from assignment.common.runs import duration
from assignment.common.tables import Notice, answers_table
from assignment.images import experiments as ex
from assignment.images import pixels, predictions
from assignment.images.cifar10 import Dataset
from assignment.images.experiments import Plan, Result
from assignment.images.labels import AUDITED
from assignment.images.linear import FeatureSet
from assignment.images.predictions import Predictions
from assignment.images.training import Recipe


def accuracy(results: Sequence[Result]) -> str:
    """Tell the mean test accuracy of seeds, its spread and an interval."""
    mean, images = ex.mean_accuracy(results), len(results[0].predictions["test"].labels)
    low, high = predictions.wilson_interval(mean, images)
    interval = f"95 % interval over images {low:.2%} to {high:.2%}"
    return f"**{mean:.2%}**{ex.spread(results)} of the test images ({interval})"


def answers(
    data: Dataset,
    features: FeatureSet,
    logistic: Recipe,
    plan: Plan,
    equal: Plan,
    seeds: Sequence[int],
) -> Notice:
    """Answer each question in a line, for what the notebook chose; no run is started."""
    short = replace(logistic, epochs=logistic.epochs // 2)

    def frozen() -> Result:
        return ex.linear_probe(data, features, logistic, final=True)

    def tuned() -> list[Result]:
        return [ex.finetune(data, plan.vary(seed=seed), final=True) for seed in seeds]

    def mistakes_of(found: Predictions) -> str:
        image = predictions.most_confident(found, ~found.correct, 1)[0]
        label, named = (data.classes[int(of[image])] for of in (found.labels, found.predicted))
        sure = found.log_confidence[image].exp().item()
        confidence = f"{sure:.2%}" if sure < 0.9999 else "more than 99.99%"
        wrong = found.confusion - np.diag(found.confusion.diagonal())
        true, other = (data.classes[k] for k in divmod(int(wrong.argmax()), len(wrong)))
        return (
            f"the surest error: labelled {label}, called {named} with {confidence}; the most "
            f"frequent: {true} taken for {other}, {wrong.max()} of {wrong.sum()}"
        )

    def shared_errors() -> str:
        tested = [result.predictions["test"] for result in tuned()]
        fifties = [set(predictions.surest_errors(found)) for found in tested]
        same = f"{len(set.intersection(*fifties))} of the {len(fifties[0])} surest errors"
        return f"{mistakes_of(tested[0])}; {same} are the same under {len(seeds)} seeds"

    def corrected() -> str:
        changed = predictions.compare(*(m.predictions["test"] for m in (frozen(), tuned()[0])))
        gone = 1 - (1 - ex.mean_accuracy(tuned())) / (1 - frozen().accuracy("test"))
        moved = f"{len(changed.corrected)} images are corrected, {len(changed.lost)} lost"
        return f"{gone:.0%} of the errors go; {moved} (seed {seeds[0]})"

    def cost() -> str:
        both = [frozen()], tuned()
        times = [duration(sum(map(ex.total_seconds, each)) / len(each)) for each in both]
        learned = [f"{each[0].facts['trainable parameters']:,} parameters" for each in both]
        frozen_cost, tuned_cost = map(" and ".join, zip(times, learned, strict=True))
        return f"{frozen_cost} frozen, {tuned_cost} finetuned, on {both[1][0].facts['device']}"

    def when() -> str:
        gain = 100 * (ex.mean_accuracy(tuned()) - frozen().accuracy("test"))
        return (
            f"finetuning where one task matters, for {gain:.1f} points more; frozen features where "
            "many tasks share the images, or time is short"
        )

    def strategies() -> str:
        tried = {
            "everything": equal,
            "the last stage and the head": replace(equal, trainable="layer4"),
            "everything, from scratch": replace(equal, pretrained=False),
            "the head alone": replace(equal, trainable="fc"),
        }
        reached = []
        for name, way in tried.items():
            rates = [[way.vary(lr=lr, seed=s) for s in seeds[:2]] for lr in (0.01, 0.05)]
            found = [[ex.finetune(data, each) for each in plans] for plans in rates]
            best = max(ex.mean_accuracy(results, "validation") for results in found)
            reached.append(f"{name} {best:.1%}")
        return f"of the validation images, at the better of two rates: {', '.join(reached)}"

    def mistakes() -> str:
        size, few = features.sizes[0], 5_000
        right, small = (
            ex.linear_probe(data, FeatureSet((side,)), short, first=few).accuracy()
            for side in (size, 32)
        )
        moving = ex.batchnorm_mistake(data, size, short, few).accuracy()
        own = FeatureSet((size,), statistics=pixels.CIFAR)
        other = ex.linear_probe(data, own, short, first=few).accuracy()
        return (
            f"images of 32 instead of {size} pixels {100 * (right - small):.0f} points; at {size} "
            f"BatchNorm in train mode {100 * (right - moving):.0f}, the dataset's own statistics "
            f"{100 * (right - other):.1f}"
        )

    def disputed() -> str:
        counts = ex.label_audit(data, [frozen(), tuned()[0]])["counts"]
        (some, errors), (right, images) = (counts[1][AUDITED.index(n)] for n in AUDITED[:3:2])
        return (
            f"{some} of {errors} errors of the finetuned network are on labels that human raters "
            f"reject; with these corrected or left out it reaches {right / images:.2%}"
        )

    def calibrated() -> str:
        told = []
        for name, model in (("frozen", frozen()), ("finetuned", tuned()[0])):
            heat = predictions.fit_temperature(model.predictions["validation"])
            tested = model.predictions["test"]
            after = predictions.apply_temperature(tested, heat)
            errors = [predictions.calibration(each).error for each in (tested, after)]
            told.append(
                f"{name} {errors[0]:.2%}, after temperature scaling (by {heat:.2f}) {errors[1]:.2%}"
            )
        return f"expected calibration error: {'; '.join(told)}"

    uses = {"learn from": data.train, "choose by": data.validation, "test with": data.test}
    images = ", ".join(f"{len(split):,} to {use}" for use, split in uses.items())
    return answers_table({
        "1.1 The data: CIFAR-10": [("How many images?", lambda: images)],
        "1.2a Frozen features and logistic regression": [
            ("How far do frozen features carry?", lambda: accuracy([frozen()])),
        ],
        "1.2b The most confident predictions of the frozen model": [
            ("Where is it sure and wrong?", lambda: mistakes_of(frozen().predictions["test"])),
        ],
        "1.3a Finetuning": [("How far does finetuning get?", lambda: accuracy(tuned()))],
        "1.3b The most confident predictions of the finetuned model": [
            ("Where is it sure and wrong?", shared_errors),
        ],
        "1.3c Comparison": [
            ("What does finetuning correct?", corrected), ("What does it cost?", cost),
            ("When which?", when),
        ],
        "1.4 Strategies on one equal budget": [("What should learn?", strategies)],
        "1.5 What the common mistakes cost": [("What do they cost?", mistakes)],
        "1.6 How far the confidences can be trusted": [
            ("Can they be trusted?", calibrated), ("Are the errors errors?", disputed),
        ],
    })  # fmt: skip

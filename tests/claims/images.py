"""The claims of the CIFAR-10 notebook."""

from typing import Any

import numpy as np

from assignment.images.labels import AUDITED
from assignment.images.predictions import top_incorrect
from tests.claims import Claim


def named(n: Any, model: str, true: str) -> list[str]:
    """The classes that a model names in its five most confident errors on a class."""
    found = n.tested[model]
    worst = top_incorrect(found, n.data.classes.index(true))
    return [n.data.classes[k] for k in found.predicted[worst].tolist()]


def frozen(n: Any, true: str) -> list[str]:
    return named(n, "frozen features", true)


def tuned(n: Any, true: str) -> list[str]:
    return named(n, "finetuned", true)


def hardest(n: Any) -> set[str]:
    accuracy = n.tested["frozen features"].class_accuracy
    return {n.data.classes[k] for k in accuracy.argsort()[:3]}


def reached(n: Any, features: str) -> float:
    """Validation accuracy on features of Table 3, in points."""
    return 100 * float(n.tried[features][0].accuracy())


def lead(n: Any, epoch: int) -> float:
    """By how many points all layers at 0.01 are ahead of all at 0.05 after an epoch of 1.4."""
    small, large = n.curve("everything, 0.01"), n.curve("everything, 0.05")
    return 100 * float(small[epoch] - large[epoch])


def rate(n: Any, lr: float, head: float) -> float:
    """Validation accuracy of Table 8, in points, mean over seeds."""
    return 100 * float(np.mean([result.accuracy() for result in n.rates[lr, head]]))


def small(n: Any) -> list[float]:
    return [rate(n, *pair) for pair in n.rates if pair[0] <= 0.02 and pair[1] < 0.1]


LARGER = ("64, then 96, then 128 px", "96 px throughout", "128 px, two epochs")


def larger(n: Any, size: str) -> float:
    """Validation accuracy of Table 9, in points."""
    return 100 * float(n.larger[size][0].accuracy())


def apart(n: Any, plan: Any, one: int, other: int) -> float:
    """By how many points a short run of Table 10 is better judged at one size than at another."""
    facts = n.finetune(n.data, plan, first=n.third).facts
    at = [facts[f"validation at {size} px"]["accuracy"] for size in (one, other)]
    return 100 * float(at[0] - at[1])


def grown(n: Any) -> list[float]:
    """By how many points 160 px at the end is better than 128 throughout, seed by seed."""
    pairs = [
        [n.finetune(n.data, plan.vary(seed=s), first=n.third).facts for plan in (n.grown, n.longer)]
        for s in (0, 1)
    ]
    return [
        100 * (a["validation at 160 px"]["accuracy"] - b["validation at 128 px"]["accuracy"])
        for a, b in pairs
    ]


def changed(n: Any, what: str) -> list[float]:
    """What a change of Table 11 gains on the validation images, in points, seed by seed."""
    plain = n.habits["0.01 for all (Table 8)"]
    pairs = zip(n.habits[what], plain, strict=True)
    return [100 * (result.accuracy() - before.accuracy()) for result, before in pairs]


def share(n: Any, model: str, audited: str) -> float:
    count, among = n.counts.loc[model, audited]
    return float(count / among)


CLAIMS: list[Claim] = [
    # 1.2a
    (
        "Earlier stages help",
        lambda n: (
            reached(n, "the last two stages") > reached(n, "the last stage alone") + 1
            and reached(n, "all four stages, 2 x 2") > reached(n, "the last stage, 2 x 2") + 1
        ),
    ),
    (
        "so does a coarse sense of place",
        lambda n: reached(n, "the last stage, 2 x 2") > reached(n, "the last stage alone") + 1,
    ),
    (
        "and the mirror image helps on top of both",
        lambda n: (
            reached(n, "four stages, maxima, with mirror images")
            > reached(n, "+ maxima of the last two") + 1
        ),
    ),
    (
        "is worth it with few features and with many",
        lambda n: (
            reached(n, "the last stage alone, with mirror images")
            > reached(n, "the last stage alone") + 1
        ),
    ),
    (
        "Maxima and root mean squares change less than another choice of validation images would",
        lambda n: (
            max(
                abs(reached(n, "+ maxima of the last two") - reached(n, "all four stages, 2 x 2")),
                abs(
                    reached(n, "+ root mean squares of the last")
                    - reached(n, "+ maxima of the last two")
                ),
            )
            < 100 * (max(n.others) - min(n.others))
        ),
    ),
    (
        "The loss, which is less noisy than the accuracy, decides for 0.008",
        lambda n: (
            min(n.swept, key=lambda decay: n.swept[decay][0].loss())
            == f"{n.logistic.weight_decay:g}"
            == "0.008"
        ),
    ),
    (
        "from a tenth of ours to four times as much, hardly changes where the layer ends",
        lambda n: (
            np.ptp([n.swept["0.008"][0].loss(), *(r.loss() for (r,) in n.paces.values())]) < 0.002
            and n.logistic.lr == 0.05
            and list(n.paces) == ["0.005", "0.02", "0.2"]
        ),
    ),
    (
        "the gap that weight decay leaves between the lines is overfitting",
        lambda n: n.finished["frozen features"].accuracy("train") > n.others[0] + 0.02,
    ),
    ("The layer is at its optimum for every practical purpose", lambda n: abs(n.proof.gap) < 1e-3),
    (
        "what it still gets wrong, no longer training and no other optimiser will correct",
        lambda n: n.proof.agreement >= 0.995,
    ),
    # 1.2b
    (
        "airplanes are taken for ships",
        lambda n: frozen(n, "airplane").count("ship") >= 3,
    ),
    (
        "and ships for airplanes, some for the water or the wide sky",
        lambda n: frozen(n, "ship").count("airplane") >= 3,
    ),
    ("dogs for cats, trucks seen", lambda n: frozen(n, "dog").count("cat") >= 3),
    (
        "trucks seen from the front for automobiles",
        lambda n: frozen(n, "truck").count("automobile") >= 4,
    ),
    ("animals are confused with animals, vehicles with vehicles", lambda n: n.within > 0.8),
    (
        "cat with dog most of all",
        lambda n: {*n.errors["is"][:2]} == {*n.errors["taken for"][:2]} == {"cat", "dog"},
    ),
    # 1.3a
    (
        "all backbone rates from 0.005 to 0.02 end within one point of each other",
        lambda n: max(small(n)) - min(small(n)) < 1,
    ),
    (
        "A backbone rate of 0.05 loses several points",
        lambda n: max(rate(n, 0.05, 0.05), rate(n, 0.05, 0.1)) < min(small(n)) - 3,
    ),
    (
        "the first epoch undoes much of what ImageNet taught",
        lambda n: (
            max(r.history[0, 3] for pair in n.rates for r in n.rates[pair] if pair[0] == 0.05)
            < min(r.history[0, 3] for r in n.rates[0.01, 0.01]) - 0.1
        ),
    ),
    (
        "A head rate of 0.1 is on average worse at every backbone rate",
        lambda n: all(rate(n, lr, 0.1) < rate(n, lr, head) for lr, head in n.rates if head < 0.1),
    ),
    (
        "one of the two runs at 0.01 ended at little more than half of the images",
        lambda n: (
            min(r.accuracy() for r in n.rates[0.01, 0.1])
            < 0.6
            < 0.85
            < max(r.accuracy() for r in n.rates[0.01, 0.1])
        ),
    ),
    (
        "A head that learns faster than the backbone gains nothing that these runs could show",
        lambda n: all(rate(n, lr, head) < rate(n, lr, lr) + 0.4 for lr, head in n.rates),
    ),
    (
        "larger images are worth more than anything else that was tried",
        lambda n: min(larger(n, name) for name in LARGER) > larger(n, "64 px") + 3,
    ),
    (
        "end too close together to be told apart with one seed",
        lambda n: abs(larger(n, "96 px throughout") - larger(n, "128 px, two epochs")) < 0.5,
    ),
    (
        "to begin with images as small as 64 pixels and let them grow",
        lambda n: larger(n, LARGER[0]) < larger(n, "96 px throughout") - 0.5,
    ),
    (
        "to evaluate at a larger size than was trained on",
        lambda n: larger(n, "64 px, evaluated at 80 px") < larger(n, "64 px") - 1,
    ),
    (
        "With both seeds the network that ends at 160 pixels is a few tenths of a point better",
        lambda n: all(0.2 < gain < 0.5 for gain in grown(n)),
    ),
    (
        "At the other size both lose more than that",
        lambda n: all(
            max(apart(n, n.longer.vary(seed=s), 160, 128), apart(n, n.grown.vary(seed=s), 128, 160))
            < -max(grown(n))
            for s in (0, 1)
        ),
    ),
    (
        "Without augmentation both seeds lose, about a point on average",
        lambda n: (
            max(changed(n, "no augmentation")) < -0.3
            and -1.2 < np.mean(changed(n, "no augmentation")) < -0.8
        ),
    ),
    (
        "without smoothing both lose, too, on average less than half as much. (Their cross-entropy",
        lambda n: (
            max(changed(n, "no label smoothing")) < 0
            and np.mean(changed(n, "no label smoothing"))
            > 0.5 * np.mean(changed(n, "no augmentation"))
            and n.habits["no label smoothing"][0].loss()
            < n.habits["0.01 for all (Table 8)"][0].loss()
            and n.habits["no label smoothing"][1].loss()
            < n.habits["0.01 for all (Table 8)"][1].loss()
        ),
    ),
    (
        "With ten times the weight decay one seed gains a little and the other nothing",
        lambda n: (
            (gains := sorted(changed(n, "ten times the weight decay")))[0] <= 0 < gains[1] < 0.4
        ),
    ),
    (
        "Twice the epochs bring more than a point",
        lambda n: np.mean(changed(n, f"{n.twice} epochs")) > 1,
    ),
    (
        "in the short runs augmentation was worth about a point (Table 11)",
        lambda n: -1.2 < np.mean(changed(n, "no augmentation")) < -0.8,
    ),
    (
        "without smoothing the cross-entropy of the short runs is lower, although they are less",
        lambda n: (
            np.mean(changed(n, "no label smoothing")) < 0
            and n.habits["no label smoothing"][0].loss()
            < n.habits["0.01 for all (Table 8)"][0].loss()
        ),
    ),
    (
        "a network that has seen 128 pixels alone does worse at 160 (Table 10)",
        lambda n: all(apart(n, n.longer.vary(seed=seed), 160, 128) < -0.4 for seed in (0, 1)),
    ),
    (
        "with the eleventh epoch validation jumps, its loss more than its accuracy",
        lambda n: (
            n.history["finetuned"][10, 2] < 0.75 * n.history["finetuned"][9, 2]
            and n.history["finetuned"][10, 3] > n.history["finetuned"][9, 3] + 0.005
        ),
    ),
    (
        "every epoch is judged at 160 pixels, which the network first meets in this one",
        lambda n: n.plan.sizes.index(160) == 10 and n.plan.eval_size is None,
    ),
    (
        "In the last epochs, with the learning rate near zero, hardly anything moves",
        lambda n: np.ptp(n.history["finetuned"][-4:, 3]) < 0.002,
    ),
    (
        "The gap between training and validation accuracy says that the training images are nearly",
        lambda n: n.tuned.accuracy("train") > 0.99 > 0.98 > n.tuned.accuracy("validation"),
    ),
    (
        "better on the validation images (Table 12), for about six tenths more work",
        lambda n: (
            all(b.accuracy() > a.accuracy() for a, b in zip(*n.whole.values(), strict=True))
            and 1.55 < n.plan.cost(45_000, 5_000) / n.fewer.cost(45_000, 5_000) < 1.65
        ),
    ),
    (
        "The network is finetuned far above the linear layer, and the seeds hardly differ",
        lambda n: (
            min(found.accuracy for found in n.seeded) > n.linear.accuracy("test") + 0.04
            and np.ptp([found.accuracy for found in n.seeded]) < 0.003
        ),
    ),
    (
        "Three epochs at 96 pixels and two at 128, a fifth more work, end too close",
        lambda n: (
            1.15 < (2 * 128**2) / (3 * 96**2) < 1.25
            and [n.tries[name].recipe.epochs for name in LARGER[1:]] == [3, 2]
        ),
    ),
    (
        "means over mirror images, which raise the finetuned network, too",
        lambda n: n.tuned.accuracy("test mirrored") > n.tuned.accuracy("test"),
    ),
    # 1.3b
    (
        "a lower ceiling of confidence",
        lambda n: (
            n.found.log_confidence[~n.found.correct].max()
            < -0.03
            < n.frozen.log_confidence[~n.frozen.correct].max()
        ),
    ),
    (
        "vans and old cars between automobile and truck",
        lambda n: (
            set(tuned(n, "automobile")) == {"truck"} and tuned(n, "truck").count("automobile") >= 4
        ),
    ),
    (
        "dogs that sit upright or are blurred taken for cats",
        lambda n: tuned(n, "dog").count("cat") >= 4,
    ),
    (
        "seaplanes and bright hulls between airplane and ship",
        lambda n: min(tuned(n, "airplane").count("ship"), tuned(n, "ship").count("airplane")) >= 3,
    ),
    ("the frog among the cats is a frog", lambda n: tuned(n, "cat").count("frog") == 1),
    (
        "Most of these fifty are errors with every seed, though only about a third of them are",
        lambda n: len(n.always) > 0.8 * 50 and 0.27 * 50 < len(n.same) < 0.4 * 50,
    ),
    # 1.3c
    (
        "Of the ten corrected images on top of Figure 10 six are birds, cats or dogs, the classes",
        lambda n: (
            sum(int(n.after.labels[k]) in n.order[:3] for k in n.ten["corrected"]) == 6
            and {n.data.classes[k] for k in n.order[:3]} == {"bird", "cat", "dog"}
        ),
    ),
    (
        "Of the ten lost, five are swaps of cat and dog or of automobile and truck",
        lambda n: (
            sum(
                {n.data.classes[int(of[k])] for of in (n.after.labels, n.after.predicted)}
                in ({"cat", "dog"}, {"automobile", "truck"})
                for k in n.ten["lost"]
            )
            == 5
        ),
    ),
    (
        "as that of the frog labelled cat",
        lambda n: any(
            (n.data.classes[int(found.labels[k])], n.data.classes[int(found.predicted[k])])
            == ("cat", "frog")
            for found in [n.tested["finetuned"]]
            for k in n.suspects
        ),
    ),
    (
        "For every image that it loses it corrects several",
        lambda n: len(n.moved.corrected) > 4 * len(n.moved.lost),
    ),
    ("the difference is far beyond chance", lambda n: n.moved.p < 1e-20),
    ("Finetuning wins in every class", lambda n: n.gains.min() > 0.01),
    (
        "The hardest classes gain most, birds, cats and dogs",
        lambda n: hardest(n) == {n.data.classes[k] for k in n.order[:3]} == {"bird", "cat", "dog"},
    ),
    (
        "More than half of the errors of the best linear layer that we found are gone",
        lambda n: n.gone > 0.5,
    ),
    (
        "before temperature scaling it is calibrated worse than the frozen model",
        lambda n: n.calibrated["finetuned"][0] > n.calibrated["frozen features"][0],
    ),
    # 1.4
    (
        "Among pretrained networks, the more may move, the better",
        lambda n: (
            [name.split()[-2].strip(",") for name in n.lines]
            == ["everything", "head", "scratch", "frozen"]
        ),
    ),
    (
        "after the first epoch it is far ahead, and after the last the lead has shrunk, not gone",
        lambda n: lead(n, 0) > 10 > 2 > lead(n, -1) > 0.5,
    ),
    (
        "The start from nothing, which has nothing to lose, needs the larger one",
        lambda n: n.curve("from scratch, 0.05")[-1] > n.curve("from scratch, 0.01")[-1] + 0.05,
    ),
    (
        "for the last stage the two hardly differ",
        lambda n: (
            abs(
                np.subtract(
                    *(n.curve(f"the last stage and the head, {lr}")[-1] for lr in (0.01, 0.05))
                )
            )
            < 0.005
        ),
    ),
    (
        "ahead even with a hundred images of each class, and more so with five hundred",
        lambda n: 1 < n.ahead[0] < n.ahead[1] - 1,
    ),
    (
        "their last stage alone comes within two points of what finetuning reaches here at 64",
        lambda n: 0.005 < n.tuned_line[500] - n.at_224 < 0.02,
    ),
    # 1.5
    ("Small images come first", lambda n: right(n)[224] - right(n)[32] > 15),
    (
        "changes next to nothing",
        lambda n: (
            abs(right(n) - 100 * n.shares["normalised with CIFAR-10's own statistics"]).max() < 1
        ),
    ),
    (
        "Train mode costs points at every size",
        lambda n: (right(n) - 100 * n.shares["BatchNorm left in train mode"]).min() > 5,
    ),
    (
        "at 32 pixels it puts the result under half",
        lambda n: n.shares["BatchNorm left in train mode"][32] < 0.5,
    ),
    ("From 128 to 224 pixels little is gained", lambda n: right(n)[224] - right(n)[128] < 2),
    # 1.6
    (
        "so close to one that scaling changes little (and that for the worse)",
        lambda n: (
            abs(n.heat["frozen features"] - 1) < 0.05
            and (found := n.calibrated["frozen features"])[0] < found[1] < 0.01
        ),
    ),
    (
        "One number below one makes it bolder, and most of its calibration error goes",
        lambda n: (
            n.heat["finetuned"] < 1
            and n.calibrated["finetuned"][1] < n.calibrated["finetuned"][0] / 4
        ),
    ),
    (
        "Of the finetuned network's errors one in eleven is on a label",
        lambda n: 1 / 12 < share(n, "finetuned", AUDITED[0]) < 1 / 10.5,
    ),
    (
        "of the ten in Figure 15 the raters reject two labels",
        lambda n: len(n.suspects) == 10 and len({*n.suspects} & {*n.audit["images"].tolist()}) == 2,
    ),
    (
        "the finetuned network repeats five",
        lambda n: (
            len(n.disputed) == 10
            and sum(bool(n.tested["finetuned"].correct[image]) for image in n.disputed) == 5
        ),
    ),
    (
        "of the frozen model's a smaller share",
        lambda n: (
            share(n, "frozen features", AUDITED[0]) < share(n, "finetuned", AUDITED[0]) - 0.02
        ),
    ),
    (
        "With agreed labels corrected and undecided images left out, both gain a little",
        lambda n: all(
            0 < share(n, name, "corrected") - share(n, name, "all") < 0.005 for name in n.models
        ),
    ),
    (
        "the finetuned network is right on every one of them",
        lambda n: share(n, "finetuned", "with a near-copy") == 1,
    ),
    (
        "without them its accuracy is a tenth of a point lower",
        lambda n: 0.0005 < share(n, "finetuned", "all") - share(n, "finetuned", "without") < 0.0015,
    ),
]


def right(n: Any) -> Any:
    return 100 * n.shares["as it should be"]

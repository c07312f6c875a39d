"""The claims of the CIFAR-10 notebook."""

from typing import Any

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


CLAIMS: list[Claim] = [
    # 1.2a
    ("Earlier stages help, and so does a coarse sense of place", lambda n: n.best == "rich"),
    ("Earlier stages help", lambda n: n.gain > 1),
    (
        "How much weight decay keeps it from that is decided on the validation split again",
        lambda n: n.decays[n.swept.index(max(n.swept))] == n.logistic.weight_decay,
    ),
    ("The layer is at its optimum for every practical purpose", lambda n: abs(n.proof.gap) < 1e-4),
    (
        "what it still gets wrong, no longer training and no other optimiser will correct",
        lambda n: n.proof.agreement >= 0.995,
    ),
    # 1.2b
    (
        "airplanes near water are taken for ships",
        lambda n: frozen(n, "airplane").count("ship") >= 3,
    ),
    (
        "ships under a wide sky for airplanes",
        lambda n: frozen(n, "ship").count("airplane") >= 3,
    ),
    ("bare-headed deer for horses", lambda n: frozen(n, "deer").count("horse") >= 3),
    (
        "trucks seen from the front for automobiles",
        lambda n: set(frozen(n, "truck")) == {"automobile"},
    ),
    ("animals are confused with animals, vehicles with vehicles", lambda n: n.within > 0.8),
    (
        "cat with dog most of all",
        lambda n: {*n.pairs.index[:2]} == {"cat for dog", "dog for cat"},
    ),
    # 1.3a
    (
        "With doubled rates the first epoch wrecks what ImageNet taught",
        lambda n: n.points["twice_the_rates"] < n.base - 5,
    ),
    (
        "Below that the rate hardly matters",
        lambda n: abs(n.points["half_the_rate"] - n.base) < 0.5,
    ),
    (
        "one rate for all does as well, and is simpler",
        lambda n: 0 < n.points["one_rate"] - n.base < 0.5,
    ),
    (
        "to judge at a larger size than was trained on",
        lambda n: n.points["judged_larger"] < n.base - 1,
    ),
    (
        "Larger images, at twice the time, are worth more than anything else",
        lambda n: n.points["growing"] > n.base + 3,
    ),
    (
        "to begin with images as small as 64 pixels and let them grow",
        lambda n: min(n.points["all_96"], n.points["two_of_128"]) > n.points["growing"] + 0.5,
    ),
    (
        "makes no difference that these runs could show",
        lambda n: abs(n.points["two_of_128"] - n.points["all_96"]) < 0.5,
    ),
    (
        "with the ninth epoch validation jumps",
        lambda n: n.first_larger == 8 and n.jump > 0.5,
    ),
    (
        "its loss more than its accuracy",
        lambda n: n.tuned.history[8, 2] < 0.75 * n.tuned.history[7, 2],
    ),
    ("The last epoch adds next to nothing", lambda n: abs(n.levels[-1] - n.levels[-2]) < 0.5),
    (
        "The epoch that is kept* is the best one",
        lambda n: n.tuned.facts["best epoch"] == len(n.levels),
    ),
    (
        "The gap between training and validation accuracy says what limits the result",
        lambda n: n.tuned.accuracy("train") > 0.99 > 0.97 > n.tuned.accuracy("validation") > 0.963,
    ),
    # 1.3b
    (
        "its surest error is less sure than the frozen model's",
        lambda n: n.surest_error["finetuned"] < 0.97 < n.surest_error["frozen features"],
    ),
    (
        "vans and old cars between automobile and truck",
        lambda n: (
            set(tuned(n, "automobile")) == {"truck"} and tuned(n, "truck").count("automobile") >= 4
        ),
    ),
    (
        "dogs that sit upright, are blurred or seen from behind taken for cats",
        lambda n: tuned(n, "dog").count("cat") >= 4,
    ),
    (
        "seaplanes and bright hulls between airplane and ship",
        lambda n: min(tuned(n, "airplane").count("ship"), tuned(n, "ship").count("airplane")) >= 3,
    ),
    ("the frog among the cats is a frog", lambda n: tuned(n, "cat").count("frog") == 1),
    (
        "Less than half of the frozen model's errors are left",
        lambda n: n.left["finetuned"] < n.left["frozen features"] / 2,
    ),
    # 1.3c
    (
        "For every image that it loses it corrects several",
        lambda n: len(n.moved.corrected) > 5 * len(n.moved.lost),
    ),
    ("the difference is far beyond chance", lambda n: n.moved.p < 1e-20),
    ("Finetuning wins in every class, and by far", lambda n: n.gains.min() > 0.02),
    (
        "The hardest classes gain most, birds, cats and dogs",
        lambda n: hardest(n) == {n.data.classes[k] for k in n.order[:3]} == {"bird", "cat", "dog"},
    ),
    (
        "More than half of the errors of the best linear layer that we found are gone",
        lambda n: n.gone > 0.5,
    ),
    (
        "a frozen one forward once",
        lambda n: n.linear.facts["extraction seconds"] > 4 * n.linear.facts["training seconds"],
    ),
    # 1.4
    (
        "Among pretrained networks, the more may move, the better",
        lambda n: (
            sorted(n.share, key=n.share.__getitem__)
            == ["head", "scratch", "last_stage", "one_rate", "gentle"]
        ),
    ),
    (
        "after the first epoch it is far ahead",
        lambda n: n.lead[0] > 10 > 2 > n.lead[-1] > 0.5,
    ),
    (
        "Finetuning is ahead even with a hundred images of each class, and its lead grows",
        lambda n: 3 < n.ahead[100] < n.ahead[500] < n.ahead[4500],
    ),
    (
        "their last stage alone reaches what finetuning reaches here at 64",
        lambda n: abs(n.at_224 - n.learning["finetuned"][500]) < 0.01,
    ),
    # 1.5
    ("Small images come first", lambda n: n.small_cost > 15),
    ("changes next to nothing", lambda n: n.own_cost < 0.01),
    ("Train mode costs points at every size", lambda n: min(n.moving.values()) > 5),
    ("puts the result under half, where the poorest solutions are", lambda n: n.both_wrong < 0.5),
    # 1.6
    (
        "one of these ten is a frog whatever it is called",
        lambda n: (
            ("frog", "cat")
            in [
                (
                    n.data.classes[int(n.second.predicted[k])],
                    n.data.classes[int(n.second.labels[k])],
                )
                for k in n.suspects
            ]
        ),
    ),
    ("In both cases the fitted temperature is below one", lambda n: max(n.heat.values()) < 1),
]

"""The helpers behind two notebooks: CIFAR-10 transfer learning and MovieLens movie embeddings.

Four rooms: `common` is what both halves stand on, `images` and `movies` are the two halves, which
do not know each other, and `publish` is what only a maintainer runs. ``python -m assignment`` lists
the tasks behind ``make``.
"""

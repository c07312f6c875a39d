"""The helpers behind two notebooks: CIFAR-10 transfer learning and MovieLens movie embeddings.

One idea per module, and a module imports only those above it:
``runtime``, ``download``, ``archive``, ``sample``, ``pixels``, ``cifar10``, ``resnet``,
``records``, ``movielens``, ``embedding``, ``evaluation``, ``recommend``, ``drawing``,
``image_figures``, ``movie_figures``, ``film_map``; ``__main__`` stands on all.
"""

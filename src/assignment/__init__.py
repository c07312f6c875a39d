"""The helpers behind two notebooks: CIFAR-10 transfer learning and MovieLens movie embeddings.

One idea per module, and a module imports only those above it:
``runtime``, ``download``, ``archive``, ``sample``, ``pixels``, ``cifar10``, ``resnet``, ``records``,
``movielens``, ``drawing``, ``image_figures``, ``movie_figures``; ``__main__`` stands on all.
"""

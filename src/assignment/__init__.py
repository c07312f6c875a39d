"""The helpers behind two notebooks: CIFAR-10 transfer learning and MovieLens movie embeddings.

One idea per module, and a module imports only those above it:
``runtime``, ``download``, ``sample``, ``cifar10``, ``resnet``, ``training``, ``records``,
``predictions``, ``movielens``, ``embedding``, ``recommend``, ``plots``; ``__main__`` stands on all.
"""

"""CIFAR-10 with ResNet18: the data, the network, training, predictions and their figures."""

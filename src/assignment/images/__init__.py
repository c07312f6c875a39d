"""CIFAR-10 with ResNet18, or pictures of one's own, in the order of the data.

`cifar10` and `pictures` load images, `pixels` prepares them, `resnet` loads the network, `features`
reads its feature maps, `linear` is the layer on them and `training` the loop for both.
`predictions` measures logits, `experiments` asks for runs, `figures` draws; `sample` stands in for
data and network.
"""

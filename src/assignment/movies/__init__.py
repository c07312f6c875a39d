"""Movie embeddings from co-likes, in the order of the data.

`movielens` loads ratings and counts likes, `cost` is what is minimised, `embedding` minimises it
(`parallel` in several processes). `recommend` finds neighbours, `evaluation` judges rankings on
held-out likes, `experiments` asks for runs, `figures` draws; `sample` stands in for the data.
"""

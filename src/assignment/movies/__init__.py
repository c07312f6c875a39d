"""Movie embeddings from co-likes: the data, the cost, its minimum, neighbours and their quality."""

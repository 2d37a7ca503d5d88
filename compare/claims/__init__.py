"""The claims that train: what is run for them, in shards, and what those runs say."""

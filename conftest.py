pytest_plugins = ["hybrid_ops.plugin", "pytester"]

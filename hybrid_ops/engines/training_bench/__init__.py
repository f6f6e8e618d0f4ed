"""A training loop of PyTorch on transformers' models, in the worker's process: what one step is, and what it costs.

Agree first, time afterwards. The first steps of a plan are made from seeded weights on seeded tokens; their losses and
gradient norms are the plan's trajectory, which is held against the same steps in float64 by the reference layers
(`hybrid_ops.layers`), whose update rule is written out anew. Then come the steps that are timed.

    plan.py          what is asked: batch, length, accumulation, precision, optimizer; and how the model is run
    data.py          seeded tokens, and documents packed into one row
    model.py         transformers' model of a configuration, with seeded weights
    trainer.py       the step: forward, backward, optimizer, each timed
    reference.py     the same steps in float64
    memory.py        bytes of weights, gradients, optimizer and activations; running out of them
    processes.py     the other processes of data-parallel training
    rank.py          the program that each of those runs
"""

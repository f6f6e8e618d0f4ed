"""The layers' benchmark: our chunked forms against their peers, in one process, as ratios.

Run it by path, in a process of its own, under the interpreter whose torch is to be measured:

    python hybrid_ops/engines/layer_bench                      # the table, and with --json PATH every sample
    python hybrid_ops/engines/layer_bench --cases delta_rule/forward ssd/forward --repeats 30 --compile

How it measures. One thread, `OMP_WAIT_POLICY=passive` (spinning OpenMP threads on busy cores make small triangular
solves up to 100 times slower), contenders interleaved in an order that is drawn anew each round, so that a slow moment
of the machine hits all alike. Times are seconds of wall clock; minimum and median are reported. Only ratios of one run
mean something on another machine.

    cases.py     what is compared: the layers, ours and their peers' calls
    peers.py     the peers' own code, where it is installed
    timing.py    contenders against each other, interleaved
    memory.py    the most that our forms keep alive at once
    tables.py    the goals, and the results as text

A case leaves out peers that are not installed or do not run on the device. On a GPU the same cases compare with
flash-linear-attention's Triton kernels and FlexAttention.
"""

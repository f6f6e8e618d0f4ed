"""The layers' benchmark: our chunked forms against their peers, in one process, as ratios.

Run it by path, in a process of its own, under the interpreter whose torch is to be measured:

    python hybrid_ops/engines/layer_bench                      # the table, and with --json PATH every sample
    python hybrid_ops/engines/layer_bench --cases delta_rule/forward ssd/forward --repeats 30 --compile

or ask its worker, `hybrid_ops.engines.layers_worker`, for one round at a time: of a layer, ours against its peers, or
of a kernel, the forward and backward pass of each contender by itself.

How it measures. Agree first, time afterwards: each contender is held against float64, and one that is further off than
rounding explains has no time. One thread, `OMP_WAIT_POLICY=passive` (spinning OpenMP threads on busy cores make small
triangular solves up to 100 times slower), contenders interleaved in an order that is drawn anew each round, so that a
slow moment of the machine hits all alike. Times are seconds of wall clock, on a GPU between two events of its stream
with a cold L2 cache; minimum and median are reported. All contenders are given the same inputs: in float32 on a CPU,
in bfloat16 on a GPU, with gates in float32. Only ratios of one run mean something on another machine.

    shape.py         the sizes of all cases
    contender.py     what a layer and a contender are
    delta_rule.py, ssd.py, selective_scan.py, window.py
                     one layer each: its inputs, its reference, ours and its peers' calls
    attention.py, convolution.py
                     kernels that are no layer of the table: attention's masks and score changes, the causal convolution
    cases.py         the layers, the kernels, the cases, and who takes part in each
    packages.py      the peers' own code: whether it is installed, and how to reach it
    peers.py         for a planner: whom a layer can be compared with here
    agreement.py     contenders against float64
    timing.py        contenders against each other, interleaved
    kernels.py       a kernel: agreed, warmed up, and timed pass by pass beside yardsticks of the device
    clock.py         one call, from cold caches
    memory.py        the most that a computation keeps alive at once
    tables.py        the goals, and the results as text

A new layer is one file and its name in `cases.LAYERS`; a new contender is one function and one entry of its layer's
file. A case leaves out peers that are not installed or do not run on the device. One that is installed and fails is
refused, with its own error. On a GPU the same cases compare with flash-linear-attention's Triton kernels and
FlexAttention.
"""

"""The network on CUDA, with the bits of the CPU (but for TF32).

gemm.py               the tiled matrix product; staging.py: how its operands come to shared memory; epilogues.py: what
                      it does with each element of its result; split.py: products of few results and many terms
tf32.py               the same product on tensor cores
losses.py             kernels of the output layer: targets, losses, probabilities, classes
reductions.py         sums of squares; updates of gradients that were finished before
passes.py             the launches of the passes of a network
inference.py          the methods of MLP on device arrays

backend.py            parameters and states on a device, checked
trainer.py            drives a training; training_data.py: what it works on
evaluation.py         validation and metrics; finite.py: are the parameters finite
ordering.py           arrays of several streams in one computation
step_table.py         what each step needs, worked out on the host before the first
host_sums.py          what the steps leave in the device's memory becomes the sums of an epoch
multi_launch.py       steps of networks of any size: a few launches a step; step_records.py: of many steps, prepared
persistent.py         steps in the shared memory of a thread block: many steps a launch; persistent_launch.py: its
                      launches; block_gemm.py, outer.py, block_epilogues.py, block_losses.py, block_memory.py: its parts
"""

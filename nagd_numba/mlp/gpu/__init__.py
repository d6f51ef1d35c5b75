"""The network on CUDA, with the bits of the CPU (but for TF32).

products.py  the matrix products; finish.py: what is done to each element at their end
tensor.py    their multiplication on tensor cores
outputs.py   targets, losses, probabilities, classes; rowwise.py: the losses of a batch in one block
norms.py     penalties, norms, updates whose gradient was finished before
network.py   the launches of all passes
run.py       the methods of MLP on device arrays
general.py   training steps, for networks of any size: some launches a step
resident.py  training steps in one multiprocessor: many steps a launch; block.py: its products
sums.py      what training leaves on the device becomes the sums of the host
trainer.py   drives the training; place.py: its data
"""

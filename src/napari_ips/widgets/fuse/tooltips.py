"""What the fields of the fuse widget are for, in the words of those who use them."""

TOOLTIPS = {
    "layer": "The z-stack to fuse. Grey or RGB, of any size, also time series and "
    "channels.",
    "z_axis": "The axis along which the focus changes. Taken from the labels of the "
    "axes where there are any, else guessed.",
    "slices": "The first and the last slice that take part, counted from 0. Leave out "
    "slices above and below the specimen: they only add haze.",
    "channels": "Where a channel shows the structure best, let it decide for all, so "
    "that they stay together pixel by pixel.",
    "others": "Channels that are layers of their own: those that are ticked are fused "
    "by the decision of the stack above, so that they stay together pixel by pixel.",
    "weights": "The trained network: what comes with napari-ips, your own, or a file.",
    "quality": "Fast takes a smaller network, or with weights of your own half the "
    "resolution. Best compares every two slices everywhere and in both orders. The "
    "choices set Weights and fields under Advanced.",
    "advanced": "Settings that are rarely needed.",
    "mode": "Blend averages the slices near focus, which lowers noise. Select takes "
    "each pixel from one slice, so that all values were recorded: for measuring.",
    "auto_smoothing": "Choose the neighbourhood by the noise that is measured in the "
    "stack.",
    "smoothing": "Over how many pixels (sigma) the evidence for a slice is averaged: "
    "more is calmer, less keeps finer edges between near and far.",
    "finest": "At which resolution slices are compared at the finest. Half is three "
    "times as fast and loses fine edges between near and far.",
    "both_orders": "Compare every two slices in both orders and average: a little "
    "better, and the order of z is of no importance. Takes nearly twice the time.",
    "skip": "Spare slices the comparison at full resolution where they are plainly "
    "blurred: faster, hardly ever different.",
    "tile": "Edge of the parts that are worked on at once. Changes memory and how the "
    "result is seen to grow, never the result.",
    "precision": "Of the network. The short ones are meant for GPUs and change the "
    "result a little.",
    "device": "What computes: the GPU where there is one, else the CPU.",
    "output": "In memory for results that fit there; a folder for large ones, or to "
    "keep them. The folder is an OME-Zarr with the maps beside it.",
    "path": "Name of the folder that is written; nothing is ever overwritten.",
    "run": "Fuse the stack (Ctrl+Return). The result appears at once and fills tile "
    "by tile.",
    "stop": "End the fusion (Ctrl+Return); layers that are not finished are removed.",
    "more": "Settings as a file, and this run as Python or as a command line.",
    "save": "Write the fused image as OME-TIFF or OME-Zarr, with scale and units.",
    "tools": "What else can be done with the result.",
}

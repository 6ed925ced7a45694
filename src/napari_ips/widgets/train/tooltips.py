"""What the fields of the training widget are called and for."""

TOOLTIPS = {
    "images": "Images that are in focus: layers, files and folders (TIFF, PNG, JPEG, "
    "zarr). Ten are a start, more kinds of specimen are better. Files can be dropped here.",
    "z_axis": "The axis of this layer along which the focus changes. Without one, each of "
    "its images is taken as it is.",
    "slices": "The first and the last slice that are taken, counted from 0. Leave out "
    "slices in which nothing is in focus.",
    "z_stacks": "What is taken of z-stacks. All slices that are sharp is quickest. The "
    "sharpest slice of each tile, or fusing the stack first, suit thick specimens, of "
    "which no slice is sharp everywhere.",
    "min_sharpness": "Share of the contrast that is in the finest detail. Crops below it "
    "are soft and not trained on: the network would take blur for detail.",
    "crops": "A sample of what would be trained on, each with its sharpness. Coloured "
    "frames are left out.",
    "start_from": "Weights that are adapted to your images: minutes are enough. From "
    "scratch takes hours, and allows another network.",
    "preset": "Microscopy adds to the paper's pairs what micrographs have: connected "
    "regions of focus, noise, and places where no slice is sharp.",
    "length": "How long to train: 10 minutes adapt weights, from scratch takes hours. The "
    "paper's own run has 1,000,000 steps.",
    "title": "By which the new weights are chosen afterwards.",
    "notes": "Kept in the weights: stain, objective, camera, what they are good for.",
    "estimate": "Try a few steps: how long each takes, how many there will be, and how "
    "much memory they need.",
    "reset": "Give all fields below, and the sharpness, the values of the preset.",
    "network": "Weights bring the network that they were trained with.",
    "teacher": "Weights of a larger network, whose decisions a smaller one learns beside "
    "the truth: it then decides alike, and as fast as it is small.",
    "device": "What trains: the GPU where there is one, else the CPU.",
}

# Fields of settings under Advanced, of which nothing is said here, are called and
# described as the settings themselves.
LABELS = {
    "low_pass": "Blurred by",
    "kernel_range": "Blur, pixels",
    "mask_ratio": "Swapped share",
    "coherent": "Smooth regions",
    "blob_scale": "Their size",
    "both_defocused": "Nowhere sharp",
    "surroundings": "Light from outside",
    "dark_border": "Dark borders",
    "overexposed": "Overexposed",
    "noise": "Largest noise",
    "noise_grain": "Grain",
    "jpeg": "JPEG",
    "intensity_jitter": "Vary contrast",
    "teacher": "Learns from",
    "teacher_share": "Its share",
    "decay_start": "Decay from",
    "ema_decay": "Averaging",
    "validation_crops": "Held-out crops",
    "validation_interval": "Measure every",
    "checkpoint_seconds": "Checkpoint every",
    "max_saturated": "Most saturated",
    "backend": "Scan by",
    "in_channels": "Channels",
    "d_state": "State size",
    "d_conv": "Convolution taps",
    "expand": "Expansion",
    "global_stride": "Global stride",
}
UNITS = {
    "validation_interval": " steps",
    "checkpoint_seconds": " s",
    "crop_size": " pixels",
}
MEASURED = "from the images"

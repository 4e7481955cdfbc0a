"""What a head may be, by name: no torch, since files are held against it on opening."""

HEAD_KINDS = ("svm", "softmax")
SCALES = ("mean-norm", "l2", "standard", "none")

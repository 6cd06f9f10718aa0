"""Data sets: their files, their arrays on the device, and batches drawn from them."""

"""Training-efficiency methods, one file each, in the folder of the phase in which they first act."""

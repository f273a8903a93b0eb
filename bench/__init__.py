"""Measurements of fastloss, its peers and the machine: `python -m bench`, from the root of the repository."""
